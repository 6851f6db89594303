/* Whether two schemas have no value in common, as far as their types, their const and enum, or
 * those of a property that both require show it. So oneOf can be followed as anyOf. Called by
 * json_schema.c; any thread. */
#ifndef TEXT_JSON_DISJOINT_H
#define TEXT_JSON_DISJOINT_H

#include <jansson.h>
#include <stdbool.h>

/* Comparisons that are made for one oneOf at most: hostile schemas have many values. */
#define JSON_DISJOINT_STEPS 1000000

/* root is what $ref points into; *steps are those that are left. False: not shown. */
bool json_disjoint(const json_t *root, const json_t *a, const json_t *b, int *steps);

#endif
