/* Regular expressions for what a schema says of strings and numbers: formats by name, and numbers
 * between bounds. Any thread. */
#ifndef TEXT_JSON_PATTERN_H
#define TEXT_JSON_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* The expression of a format ("date-time", "uuid"), NULL when it is not known. */
const char *json_pattern_format(const char *name);

/* Bounds may have so many digits. */
#define JSON_PATTERN_BOUND 999999999999999999

/* Numbers from low to high, without either where it is open. */
struct json_range {
    int64_t low, high; /* within the bound, which stands for none as well */
    bool low_open, high_open;
};

/* Appends an expression of these numbers, none of them with an exponent: whole ones, or with a
 * fraction too. Nothing is appended when there are none. */
void json_pattern_whole(const struct json_range *range, struct buf *out);
void json_pattern_decimal(const struct json_range *range, struct buf *out);

#endif
