/* Fields of JSON objects: see json_field.h. */
#include "weights/json_field.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "weights/file.h"

int json_parse_object(const char *text, size_t size, const char *where, json_t **root,
                      struct err *err)
{
    json_error_t error;
    *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (!*root)
        return err_set(err, ERR_INVALID, "%s is not JSON: line %d: %s", where, error.line,
                       error.text);
    if (json_is_object(*root))
        return 0;
    json_decref(*root);
    *root = NULL;
    return err_set(err, ERR_INVALID, "%s must hold one JSON object", where);
}

int json_read_object(const char *path, size_t max, json_t **root, struct err *err)
{
    struct buf text = {0};
    *root = NULL;
    int rc = file_read(&text, path, max, err);
    if (!rc)
        rc = json_parse_object(text.data ? text.data : "", text.len, path, root, err);
    buf_release(&text);
    return rc;
}

const json_t *json_field(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

int json_mistyped(const char *name, const json_t *value, const char *wanted, struct err *err)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII);
    int rc = err_set(err, ERR_INVALID, "field '%s' is %.60s, but must be %s", name,
                     text ? text : "?", wanted);
    free(text);
    return rc;
}

int json_field_int(const json_t *object, const char *name, int min, int max, int *out,
                   struct err *err)
{
    const json_t *value = json_field(object, name);
    char wanted[80];
    if (!value)
        return 0;
    if (json_is_integer(value) && json_integer_value(value) >= min &&
        json_integer_value(value) <= max) {
        *out = (int)json_integer_value(value);
        return 0;
    }
    snprintf(wanted, sizeof wanted, "a whole number between %d and %d", min, max);
    return json_mistyped(name, value, wanted, err);
}

int json_field_real(const json_t *object, const char *name, double min, double max, float *out,
                    struct err *err)
{
    const json_t *value = json_field(object, name);
    char wanted[80];
    if (!value)
        return 0;
    double number = json_number_value(value);
    /* as a float too: 1e-86 is above 0, but becomes it */
    if (json_is_number(value) && number > min && (float)number > min && number <= max) {
        *out = (float)number;
        return 0;
    }
    snprintf(wanted, sizeof wanted, "a number above %g and at most %g", min, max);
    return json_mistyped(name, value, wanted, err);
}

int json_field_bool(const json_t *object, const char *name, bool *out, struct err *err)
{
    const json_t *value = json_field(object, name);
    if (!value)
        return 0;
    if (!json_is_boolean(value))
        return json_mistyped(name, value, "true or false", err);
    *out = json_is_true(value);
    return 0;
}

int json_field_string(const json_t *object, const char *name, const char **out, struct err *err)
{
    const json_t *value = json_field(object, name);
    if (!value)
        return 0;
    if (!json_is_string(value))
        return json_mistyped(name, value, "a string", err);
    for (const char *c = json_string_value(value); *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            return json_mistyped(name, value, "a string without control characters", err);
    *out = json_string_value(value);
    return 0;
}

int json_field_object(const json_t *object, const char *name, const json_t **out, struct err *err)
{
    const json_t *value = json_field(object, name);
    *out = value;
    return !value || json_is_object(value) ? 0 : json_mistyped(name, value, "an object", err);
}
