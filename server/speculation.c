/* How a request is decoded: see speculation.h. */
#include "server/speculation.h"

#include <string.h>

#include "server/field.h"

/* Drafts do not only come from the heads, so their number does not limit k. */
static int parse_mode(const json_t *mode, struct engine_request *engine, struct response *error)
{
    const char *word = json_string_value(mode); /* NULL unless a string */
    if (!mode || (word && !strcmp(word, "auto")))
        return 0;
    if (word && !strcmp(word, "off")) {
        engine->speculation = 0;
        return 0;
    }
    if (!json_is_integer(mode) || json_integer_value(mode) < 0 ||
        json_integer_value(mode) > ENGINE_DRAFTS_MAX)
        return response_error(error, 400, "speculation", NULL,
                              "'speculation' must be \"auto\", \"off\" or a number of drafts "
                              "from 0 to %d, or an object with that as its 'mode'.",
                              ENGINE_DRAFTS_MAX);
    engine->speculation = (int)json_integer_value(mode);
    return 0;
}

static int check_names(const json_t *object, struct response *error)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value)
    {
        if (strcmp(name, "mode") && strcmp(name, "trace") && strcmp(name, "alone"))
            return response_error(error, 400, "speculation", NULL,
                                  "'%.40s' is no field of 'speculation': it has 'mode', 'trace' "
                                  "and 'alone'.",
                                  name);
    }
    return 0;
}

int speculation_parse(struct api_request *request, struct response *error)
{
    const json_t *field = field_get(request->json, "speculation");
    struct engine_request *engine = &request->engine;
    bool alone = false;
    engine->speculation = SPECULATION_AUTO;
    if (!json_is_object(field))
        return parse_mode(field, engine, error);
    if (check_names(field, error) || parse_mode(field_get(field, "mode"), engine, error) ||
        field_bool(field, "trace", &request->trace, error) ||
        field_bool(field, "alone", &alone, error))
        return ERR_INVALID;
    engine->alone = alone ? ALONE_RACING : ALONE_NOT;
    if (request->trace && request->kind != API_COMPLETION && request->kind != API_CHAT)
        return response_error(error, 400, "speculation", NULL,
                              "'trace' is told by /v1/completions and /v1/chat/completions only.");
    return 0;
}
