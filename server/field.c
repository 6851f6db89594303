/* Typed JSON fields: see field.h. */
#include "server/field.h"

#include <math.h>

json_t *field_get(const json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

int field_real(const json_t *object, const char *name, double min, double max, float *value,
               struct response *error)
{
    const json_t *field = field_get(object, name);
    if (!field)
        return 0;
    if (!json_is_number(field))
        return response_error(error, 400, name, NULL, "'%s' must be a number.", name);
    double x = json_number_value(field);
    if (!isfinite(x) || x < min || x > max)
        return response_error(error, 400, name, NULL, "'%s' is %g, but must lie between %g and %g.",
                              name, x, min, max);
    *value = (float)x;
    return 0;
}

int field_int(const json_t *object, const char *name, int min, int max, int *value,
              struct response *error)
{
    const json_t *field = field_get(object, name);
    if (!field)
        return 0;
    if (!json_is_integer(field))
        return response_error(error, 400, name, NULL, "'%s' must be a whole number.", name);
    json_int_t x = json_integer_value(field);
    if (x < min || x > max)
        return response_error(error, 400, name, NULL,
                              "'%s' is %" JSON_INTEGER_FORMAT ", but must lie between %d and %d.",
                              name, x, min, max);
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
