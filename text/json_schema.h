/* JSON schemas (draft 2020-12) become automata of JSON texts, where that can be done exactly: every
 * text of the automaton is valid, though not every valid text is in it. Properties come in the
 * schema's order, none twice; those that are not in `required` may be left out; more of them than
 * are listed only where `additionalProperties` says so. Spaces and numbers are bounded
 * (json_lexis.h).
 *
 * Taken: type (also a list), enum, const, anyOf, oneOf of schemas that have no value in common
 * (json_disjoint.h), allOf of one, $ref within the schema, also to what it stands in; properties,
 * required, additionalProperties; items, prefixItems, minItems, maxItems; minLength, maxLength, or
 * pattern, or format; minimum, maximum and the exclusive ones; multipleOf (json_multiple.h).
 * Annotations are ignored. All else is refused by its name and its place. Any thread. */
#ifndef TEXT_JSON_SCHEMA_H
#define TEXT_JSON_SCHEMA_H

#include <jansson.h>

#include "text/automaton.h"

/* ERR_INVALID: what is wrong and where, as a JSON pointer; ERR_MEMORY. */
int json_schema_compile(const json_t *schema, struct automaton **automaton, struct err *err);

/* Any object. ERR_MEMORY. */
int json_object_compile(struct automaton **automaton, struct err *err);

#endif
