/* Fields this server does not have: see unsupported.h. */
#include "server/unsupported.h"

#include <string.h>

#include "server/field.h"

enum { BOTH = -1 };

static const struct {
    const char *name;
    int kind; /* enum api_kind, or BOTH */
    const char *why;
} FIELDS[] = {
    {"suffix", BOTH, "texts are only continued at their end"},
    {"stop_token_ids", BOTH, "give strings in 'stop'"},
    {"allowed_token_ids", BOTH, "use 'logit_bias'"},
    {"bad_words", BOTH, "use 'logit_bias'"},
    {"include_stop_str_in_output", BOTH, "texts end before their stop string"},
    {"use_beam_search", BOTH, "texts are sampled"},
    {"truncate_prompt_tokens", BOTH, "shorten the prompt before you send it"},
    {"guided_json", BOTH, "there are no grammars yet"},
    {"guided_regex", BOTH, "there are no grammars yet"},
    {"guided_choice", BOTH, "there are no grammars yet"},
    {"guided_grammar", BOTH, "there are no grammars yet"},
    {"structured_outputs", BOTH, "there are no grammars yet"},
    {"json_schema", BOTH, "there are no grammars yet"},
    {"grammar", BOTH, "there are no grammars yet"},
    {"echo", API_CHAT, "ask /apply-template for the prompt"},
    {"functions", API_CHAT, "use 'tools'"},
    {"audio", API_CHAT, "this server writes text only"},
    {"web_search_options", API_CHAT, "this server does not search"},
    {"chat_template", API_CHAT, "the model's own is used"},
    {"documents", API_CHAT, "put them into the messages"},
};

/* Whether the field asks for something: null, false, "", [] and {} do not. */
static bool asks(const json_t *field)
{
    if (json_is_string(field))
        return json_string_length(field) > 0;
    if (json_is_array(field))
        return json_array_size(field) > 0;
    if (json_is_object(field))
        return json_object_size(field) > 0;
    return field && !json_is_false(field);
}

static int refuse_format(const json_t *root, struct response *error)
{
    const json_t *format = field_get(root, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (!format || (type && !strcmp(type, "text")))
        return 0;
    if (!type)
        return response_error(error, 400, "response_format", NULL,
                              "'response_format' must be an object with a 'type'.");
    return response_error(error, 400, "response_format", NULL,
                          "'response_format' of type '%.40s' is not supported: there are no "
                          "grammars yet, only \"text\".",
                          type);
}

static int refuse_modalities(const json_t *root, struct response *error)
{
    const json_t *list = field_get(root, "modalities");
    const char *only = json_string_value(json_array_get(list, 0));
    if (!list || (json_array_size(list) == 1 && only && !strcmp(only, "text")))
        return 0;
    return response_error(error, 400, "modalities", NULL,
                          "'modalities' must be [\"text\"]: this server writes nothing else.");
}

int unsupported_refuse(const struct api_request *request, struct response *error)
{
    const json_t *root = request->json;
    for (size_t i = 0; i < sizeof FIELDS / sizeof FIELDS[0]; i++) {
        bool here = FIELDS[i].kind == BOTH || FIELDS[i].kind == (int)request->kind;
        if (here && asks(field_get(root, FIELDS[i].name)))
            return response_error(error, 400, FIELDS[i].name, NULL, "'%s' is not supported: %s.",
                                  FIELDS[i].name, FIELDS[i].why);
    }
    bool skip_special = true;
    if (field_bool(root, "skip_special_tokens", &skip_special, error))
        return ERR_INVALID;
    if (!skip_special)
        return response_error(error, 400, "skip_special_tokens", NULL,
                              "'skip_special_tokens' must be true: control tokens are no text; "
                              "'return_token_ids' shows them.");
    if (refuse_format(root, error))
        return ERR_INVALID;
    return request->kind == API_CHAT ? refuse_modalities(root, error) : 0;
}
