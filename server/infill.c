/* Bodies of /infill: see infill.h. */
#include "server/infill.h"

#include <string.h>

#include "base/buf.h"
#include "server/field.h"
#include "server/fim.h"
#include "server/prompt.h"

int infill_begin(struct api_request *request, struct response *error)
{
    json_t *root = request->json, *penalty = field_get(root, "repeat_penalty");
    int rc = 0;
    if (request->kind != API_INFILL)
        return 0;
    if (json_integer_value(field_get(root, "seed")) == -1) /* any */
        json_object_del(root, "seed");
    if (penalty)
        rc = json_object_set(root, "repetition_penalty", penalty);
    if (!rc && !field_get(root, "temperature"))
        rc = json_object_set_new(root, "temperature", json_integer(0));
    return rc ? response_error(error, 500, NULL, NULL, "The server has no memory left.") : 0;
}

/* *text: NULL where it is absent. */
static int text_field(const json_t *root, const char *name, bool needed, const json_t **text,
                      struct response *error)
{
    *text = field_get(root, name);
    if (!*text && !needed)
        return 0;
    if (!*text)
        return response_error(error, 400, name, NULL, "'%s' is missing.", name);
    if (!json_is_string(*text))
        return response_error(error, 400, name, NULL, "'%s' must be a string.", name);
    return 0;
}

static int check_files(const json_t *files, struct response *error)
{
    const char *name = "input_extra";
    if (files && !json_is_array(files))
        return response_error(error, 400, name, NULL, "'%s' must be a list of files.", name);
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *file = json_array_get(files, i), *called = field_get(file, "filename");
        if (!json_is_string(field_get(file, "text")) || (called && !json_is_string(called)))
            return response_error(error, 400, name, NULL,
                                  "'%s' has at place %zu no file: it must be an object with "
                                  "'filename' and 'text', strings both.",
                                  name, i);
    }
    return 0;
}

/* What the answer may take of the context: half of it at most is kept free for it. */
static size_t room_for(const struct api_request *request, const struct api_model *model)
{
    size_t context = (size_t)model->info->context, want = (size_t)request->engine.max_tokens;
    if (want < 1)
        want = 1;
    return context - (want < context / 2 ? want : context / 2);
}

/* The line that is written on has its tokens in common with what stands before it. */
static int make_prompt(struct api_request *request, const struct api_model *model,
                       const json_t *before, const json_t *line, const json_t *behind,
                       struct response *error)
{
    struct buf text = {0};
    buf_append(&text, json_string_value(before), json_string_length(before));
    if (line)
        buf_append(&text, json_string_value(line), json_string_length(line));
    const struct fim fim = {.before = text.data ? text.data : "",
                            .before_len = text.len,
                            .before_param = "input_prefix",
                            .behind = json_string_value(behind),
                            .behind_len = json_string_length(behind),
                            .behind_param = "input_suffix",
                            .files = field_get(request->json, "input_extra"),
                            .room = room_for(request, model),
                            .add_special = true};
    int rc = text.failed ? response_error(error, 500, NULL, NULL, "The server has no memory left.")
                         : prompts_make(request, 1, error);
    if (!rc)
        rc = fim_encode(request->prompts, model, &fim, error);
    buf_release(&text);
    return rc ? rc : prompt_check(request->prompts, model, "input_prefix", error);
}

static int parse_form(struct api_request *request, struct response *error)
{
    const json_t *fields = field_get(request->json, "response_fields");
    bool bad = fields && !json_is_array(fields);
    for (size_t i = 0; i < json_array_size(fields); i++)
        bad |= !json_is_string(json_array_get(fields, i));
    if (bad)
        return response_error(error, 400, "response_fields", NULL,
                              "'response_fields' must be a list of strings.");
    if (json_array_size(fields) && !(request->response_fields = json_deep_copy(fields)))
        return response_error(error, 500, NULL, NULL, "The server has no memory left.");
    if (field_bool(request->json, "return_tokens", &request->return_token_ids, error))
        return ERR_INVALID;
    request->return_token_ids |= request->stream;
    return 0;
}

int infill_parse(struct api_request *request, const struct api_model *model, struct response *error)
{
    const json_t *root = request->json, *before, *line, *behind;
    if (!fim_known(model))
        return response_error(error, 501, NULL, "not_supported",
                              "This model has no tokens to fill in the middle with: serve one that "
                              "was trained for it, like Qwen2.5-Coder.");
    if (text_field(root, "input_prefix", true, &before, error) ||
        text_field(root, "input_suffix", true, &behind, error) ||
        text_field(root, "prompt", false, &line, error) ||
        check_files(field_get(root, "input_extra"), error) || parse_form(request, error))
        return ERR_INVALID;
    return make_prompt(request, model, before, line, behind, error);
}
