/* Bodies of Responses: see responses.h. */
#include "server/responses.h"

#include <limits.h>
#include <string.h>

#include "base/err.h"
#include "server/chat_body.h"
#include "server/field.h"

static const char *const TEXT[] = {"input_text", "output_text", "text", NULL};

/* ---- input ---- */

static int add_message(struct chat_body *body, const json_t *item, const struct place *at,
                       json_t **speaker)
{
    static const char *const roles[] = {"user", "assistant", "system", "developer"};
    struct buf text = {0};
    struct place in = *at;
    const json_t *role = chat_body_string(body, item, "role", at);
    if (!role)
        return ERR_INVALID;
    bool known = false;
    for (int i = 0; i < 4; i++)
        known |= !strcmp(roles[i], json_string_value(role));
    if (!known)
        return response_error(body->error, 400, "input", NULL,
                              "'%s.role' must be \"user\", \"assistant\", \"system\" or "
                              "\"developer\".",
                              at->text);
    strncat(in.text, ".content", sizeof in.text - strlen(in.text) - 1);
    int rc = chat_body_text(body, field_get(item, "content"), TEXT, &in, &text);
    json_t *message = rc ? NULL : chat_body_message(body, json_string_value(role), &text);
    *speaker = strcmp(json_string_value(role), "assistant") ? NULL : message;
    buf_release(&text);
    return rc;
}

/* What the model called belongs to what it said before. */
static int add_call(struct chat_body *body, const json_t *item, const struct place *at,
                    json_t **speaker)
{
    json_t *id = chat_body_string(body, item, "call_id", at);
    json_t *name = id ? chat_body_string(body, item, "name", at) : NULL;
    json_t *arguments = name ? chat_body_string(body, item, "arguments", at) : NULL;
    if (!arguments)
        return ERR_INVALID;
    if (!*speaker)
        *speaker = chat_body_message(body, "assistant", &(struct buf){0});
    chat_body_call(body, *speaker, id, name, arguments);
    return 0;
}

static int add_output(struct chat_body *body, const json_t *item, const struct place *at,
                      json_t **speaker)
{
    struct buf text = {0};
    struct place in = *at;
    json_t *id = chat_body_string(body, item, "call_id", at);
    strncat(in.text, ".output", sizeof in.text - strlen(in.text) - 1);
    int rc = id ? chat_body_text(body, field_get(item, "output"), TEXT, &in, &text) : ERR_INVALID;
    if (!rc)
        chat_body_result(body, id, &text);
    *speaker = NULL;
    buf_release(&text);
    return rc;
}

static int add_item(struct chat_body *body, const json_t *item, size_t i, json_t **speaker)
{
    struct place at = place_of("input", i, "");
    const char *type = chat_body_type(item);
    if (!strcmp(type, "message") || (!*type && field_get(item, "role")))
        return add_message(body, item, &at, speaker);
    if (!strcmp(type, "function_call"))
        return add_call(body, item, &at, speaker);
    if (!strcmp(type, "function_call_output"))
        return add_output(body, item, &at, speaker);
    return response_error(body->error, 400, "input", NULL,
                          "'%s.type' is '%.40s', which is not supported: it must be \"message\", "
                          "\"function_call\" or \"function_call_output\".",
                          at.text, type);
}

static int add_input(struct chat_body *body)
{
    const json_t *input = field_get(body->from, "input"), *first;
    struct buf text = {0};
    json_t *speaker = NULL;
    int rc = 0;
    if ((first = field_get(body->from, "instructions"))) {
        rc = json_is_string(first)
                 ? chat_body_text(body, first, TEXT, &(struct place){"instructions"}, &text)
                 : response_error(body->error, 400, "instructions", NULL,
                                  "'instructions' must be a string.");
        if (!rc)
            chat_body_message(body, "system", &text);
        text.len = 0;
    }
    if (!rc && json_is_string(input)) {
        rc = chat_body_text(body, input, TEXT, &(struct place){"input"}, &text);
        chat_body_message(body, "user", &text);
    } else if (!rc && !json_array_size(input)) {
        rc = response_error(body->error, 400, "input", NULL,
                            "'input' must be a string or a list of at least one item.");
    }
    for (size_t i = 0; !rc && i < json_array_size(input); i++)
        rc = add_item(body, json_array_get(input, i), i, &speaker);
    buf_release(&text);
    return rc;
}

/* ---- fields ---- */

static int add_choice(struct chat_body *body)
{
    const json_t *choice = field_get(body->from, "tool_choice");
    json_t *name = field_get(choice, "name");
    if (!strcmp(chat_body_type(choice), "function") && json_is_string(name))
        chat_body_choose(body, name);
    else if (choice && !json_is_string(choice))
        return response_error(body->error, 400, "tool_choice", NULL,
                              "'tool_choice' must be \"none\", \"auto\", \"required\" or an object "
                              "like {\"type\": \"function\", \"name\": \"...\"}.");
    else
        chat_body_copy(body, "tool_choice", "tool_choice");
    chat_body_copy(body, "parallel_tool_calls", "parallel_tool_calls");
    return 0;
}

/* The format is checked as a chat's response_format, which has a schema one level deeper. */
static int add_format(struct chat_body *body)
{
    const json_t *text = field_get(body->from, "text");
    json_t *format = field_get(text, "format");
    if (text && !json_is_object(text))
        return response_error(body->error, 400, "text", NULL, "'text' must be an object.");
    if (!format)
        return 0;
    if (strcmp(chat_body_type(format), "json_schema")) {
        chat_body_set(body, "response_format", json_incref(format));
        return 0;
    }
    json_t *inner = json_copy(format);
    json_object_del(inner, "type");
    chat_body_set(body, "response_format",
                  json_pack("{s:s, s:o}", "type", "json_schema", "json_schema", inner));
    return 0;
}

static int add_rest(struct chat_body *body)
{
    const json_t *truncation = field_get(body->from, "truncation");
    const json_t *include = field_get(body->from, "include");
    bool background = false;
    int most = 0;
    if (field_int(body->from, "max_output_tokens", 1, INT_MAX, &most, body->error) ||
        field_bool(body->from, "background", &background, body->error))
        return ERR_INVALID;
    chat_body_copy(body, "max_output_tokens", "max_completion_tokens");
    if (background)
        return response_error(body->error, 400, "background", NULL,
                              "'background' must be false: nothing is stored that could be asked "
                              "for later.");
    if (truncation &&
        (!json_is_string(truncation) || strcmp(json_string_value(truncation), "disabled")))
        return response_error(body->error, 400, "truncation", NULL,
                              "'truncation' must be \"disabled\": shorten the input before you "
                              "send it.");
    for (size_t i = 0; i < json_array_size(include); i++) {
        const char *what = json_string_value(json_array_get(include, i));
        if (what && !strcmp(what, "message.output_text.logprobs"))
            return response_error(body->error, 400, "include", NULL,
                                  "'include' asks for log-probabilities, which "
                                  "/v1/chat/completions gives.");
    }
    return 0;
}

/* ---- what the answer repeats ---- */

static int append(const char *data, size_t len, void *out)
{
    buf_append(out, data, len);
    return 0;
}

static void show(const struct chat_body *body, struct buf *shown)
{
    static const struct {
        const char *name, *otherwise;
    } fields[] = {
        {"instructions", "null"},
        {"max_output_tokens", "null"},
        {"metadata", "{}"},
        {"parallel_tool_calls", "true"},
        {"previous_response_id", "null"},
        {"reasoning", "{\"effort\":null,\"summary\":null}"},
        {"temperature", "1.0"},
        {"text", "{\"format\":{\"type\":\"text\"}}"},
        {"tool_choice", "\"auto\""},
        {"tools", "[]"},
        {"top_p", "1.0"},
        {"truncation", "\"disabled\""},
        {"user", "null"},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const json_t *value = field_get(body->from, fields[i].name);
        buf_printf(shown, ",\"%s\":", fields[i].name);
        if (!value)
            buf_puts(shown, fields[i].otherwise);
        else if (json_dump_callback(value, append, shown,
                                    JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15)))
            shown->failed = true;
    }
    buf_puts(shown, ",\"store\":false");
}

int responses_to_chat(const json_t *root, json_t **chat, struct buf *shown, struct response *error)
{
    struct chat_body body;
    chat_body_begin(&body, root, error);
    int rc = add_input(&body);
    if (!rc)
        rc = chat_body_tools(&body, "function", "parameters");
    if (!rc)
        rc = add_choice(&body);
    if (!rc)
        rc = add_format(&body);
    if (!rc)
        rc = add_rest(&body);
    show(&body, shown);
    body.failed |= shown->failed;
    return chat_body_end(&body, rc, chat);
}
