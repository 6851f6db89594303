/* Bodies: see body.h. */
#include "server/body.h"

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

int body_parse(json_t **root, const char *model_id, const char *body, size_t len,
               struct response *error)
{
    json_error_t why;
    *root = json_loadb(body ? body : "", len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
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
