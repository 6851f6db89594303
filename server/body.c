/* Bodies: see body.h. */
#include "server/body.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "server/field.h"

static int check_model(const json_t *root, const char *model_id, struct response *error)
{
    const json_t *field = field_get(root, "model");
    if (!field)
        return 0;
    if (!json_is_string(field))
        return response_error(error, 400, "model", NULL, "'model' must be a string.");
    const char *name = json_string_value(field);
    if (json_string_length(field) != strlen(name) || strcmp(name, model_id))
        return response_error(error, 404, "model", "model_not_found",
                              "The model '%.100s' does not exist here: this server serves '%s'.",
                              name, model_id);
    return 0;
}

/* jansson 2.14 calls a value for which there is no memory a mistake of the body's, and leaves out
 * letters of a long string for which there is none. */
static _Thread_local bool out_of_memory;

static void *take(size_t size)
{
    void *memory = malloc(size);
    out_of_memory |= !memory;
    return memory;
}

void body_open(void)
{
    json_set_alloc_funcs(take, free);
}

/* jansson 2.14 on glibc: an object with its table of 8 buckets, a list with room for 8 values, and
 * the smallest other value; measured with malloc_usable_size. */
#define OBJECT_BYTES 240
#define LIST_BYTES 144
#define VALUE_BYTES 48

size_t body_memory(const char *body, size_t len)
{
    size_t bytes = len;
    bool text = false;
    for (size_t i = 0; i < len; i++) {
        char c = body[i];
        if (text && c == '\\')
            i++;
        else if (c == '"')
            text = !text;
        else if (!text)
            bytes += c == '{'               ? OBJECT_BYTES
                     : c == '['             ? LIST_BYTES
                     : c == ',' || c == ':' ? VALUE_BYTES
                                            : 0;
    }
    return bytes;
}

int body_parse(json_t **root, const char *model_id, const char *body, size_t len,
               struct response *error)
{
    json_error_t why;
    size_t memory = body_memory(body ? body : "", len);
    *root = NULL;
    if (memory > BODY_MEMORY_MAX)
        return response_error(error, 413, NULL, "body_too_large",
                              "The body holds so many values that they would take %zu MiB, but "
                              "this server gives one body %zu MiB: send fewer.",
                              memory >> 20, BODY_MEMORY_MAX >> 20);
    out_of_memory = false;
    *root = json_loadb(body ? body : "", len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (out_of_memory)
        return response_error(error, 500, NULL, NULL, "The server has no memory left.");
    if (!*root && json_error_code(&why) == json_error_numeric_overflow)
        return response_error(error, 400, NULL, "invalid_json",
                              "A number is too large: whole ones lie between -2^63 and 2^63-1, "
                              "others within 1.8e308 (line %d, column %d).",
                              why.line, why.column);
    if (!*root)
        return response_error(error, 400, NULL, "invalid_json",
                              "The body is not valid JSON: %s (line %d, column %d).", why.text,
                              why.line, why.column);
    if (!json_is_object(*root))
        return response_error(error, 400, NULL, "invalid_json", "The body must be a JSON object.");
    return check_model(*root, model_id, error);
}
