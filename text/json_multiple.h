/* Numbers that are multiples of one, between bounds (multipleOf): drawn as an automaton that keeps
 * the remainder of the digits so far. Decimal arithmetic throughout: 0.07 is a multiple of 0.01,
 * whatever binary fractions are. Called by json_scalar.c; one thread.
 *
 * Numbers have up to 15 digits, no exponent, and no more of them behind the point than multipleOf
 * has; trailing zeros may be left out. */
#ifndef TEXT_JSON_MULTIPLE_H
#define TEXT_JSON_MULTIPLE_H

#include "text/json_compiler.h"

/* Remainders that are told apart, of numbers with each count of digits behind the point together:
 * what bounds the automaton. Factors of ten need none. */
#define JSON_MULTIPLE_REMAINDERS 1000

/* Draws what multipleOf and the bounds of the schema say, whole numbers alone if so, and returns
 * the state behind it. What cannot be followed is refused by its keyword. */
int32_t json_multiple_draw(struct json_compiler *compiler, const json_t *schema, bool whole,
                           int32_t from);

#endif
