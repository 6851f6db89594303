/* Fields of untrusted JSON objects, each with a type and a range; for the config files of other
 * programs. A field that is absent or null leaves *out as it was: it holds the default. Errors are
 * ERR_INVALID: the field, what it is, what it must be. Any thread. */
#ifndef WEIGHTS_JSON_FIELD_H
#define WEIGHTS_JSON_FIELD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Parses a text that must hold one object; *root is the caller's to json_decref. ERR_INVALID names
 * `where`. */
int json_parse_object(const char *text, size_t size, const char *where, json_t **root,
                      struct err *err);
/* The same from a file of at most max bytes. ERR_IO, ERR_INVALID, ERR_MEMORY. */
int json_read_object(const char *path, size_t max, json_t **root, struct err *err);

/* NULL when absent or null. */
const json_t *json_field(const json_t *object, const char *name);

int json_field_int(const json_t *object, const char *name, int min, int max, int *out,
                   struct err *err);
/* Above min, at most max. */
int json_field_real(const json_t *object, const char *name, double min, double max, float *out,
                    struct err *err);
int json_field_bool(const json_t *object, const char *name, bool *out, struct err *err);
/* *out lives as long as the object, and holds no control characters: errors may show it. */
int json_field_string(const json_t *object, const char *name, const char **out, struct err *err);
/* An object or NULL. */
int json_field_object(const json_t *object, const char *name, const json_t **out, struct err *err);

/* "field 'NAME' is VALUE, but must be WANTED" */
int json_mistyped(const char *name, const json_t *value, const char *wanted, struct err *err);

#endif
