/* Typed JSON fields: see field.h. */
#include "server/field.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

json_t *field_get(const json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

/* The value is shown as it came. */
static int out_of_range(const char *name, const json_t *field, const char *low, const char *high,
                        struct response *error)
{
    char *text = json_dumps(field, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
    int rc =
        response_error(error, 400, name, NULL, "'%s' is %.40s, but must lie between %s and %s.",
                       name, text ? text : "?", low, high);
    free(text);
    return rc;
}

int field_real(const json_t *object, const char *name, float min, float max, float *value,
               struct response *error)
{
    char low[16], high[16];
    const json_t *field = field_get(object, name);
    if (!field)
        return 0;
    if (!json_is_number(field))
        return response_error(error, 400, name, NULL, "'%s' must be a number.", name);
    float x = (float)json_number_value(field);
    snprintf(low, sizeof low, "%g", (double)min);
    snprintf(high, sizeof high, "%g", (double)max);
    if (!(x >= min && x <= max))
        return out_of_range(name, field, low, high, error);
    *value = x;
    return 0;
}

int field_int(const json_t *object, const char *name, int min, int max, int *value,
              struct response *error)
{
    char low[16], high[16];
    const json_t *field = field_get(object, name);
    if (!field)
        return 0;
    double x = json_number_value(field); /* exact where it is an int */
    if (!json_is_number(field) || x != floor(x))
        return response_error(error, 400, name, NULL, "'%s' must be a whole number.", name);
    snprintf(low, sizeof low, "%d", min);
    snprintf(high, sizeof high, "%d", max);
    if (!(x >= min && x <= max))
        return out_of_range(name, field, low, high, error);
    *value = (int)x;
    return 0;
}

int field_bool(const json_t *object, const char *name, bool *value, struct response *error)
{
    const json_t *field = field_get(object, name);
    if (!field)
        return 0;
    if (!json_is_boolean(field))
        return response_error(error, 400, name, NULL, "'%s' must be true or false.", name);
    *value = json_is_true(field);
    return 0;
}
