/* Anthropic's bodies: see anthropic.h. */
#include "server/anthropic.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "server/chat_body.h"
#include "server/field.h"

static const char *const TEXT[] = {"text", NULL};

/* ---- messages ---- */

/* The text so far becomes a message, where there is some. */
static void flush(struct chat_body *body, struct buf *text)
{
    if (text->len)
        chat_body_message(body, "user", text);
    text->len = 0;
}

static int add_result(struct chat_body *body, const json_t *block, const struct place *at)
{
    struct buf text = {0};
    struct place content = place_of(at->text, 0, "");
    json_t *id = chat_body_string(body, block, "tool_use_id", at);
    snprintf(content.text, sizeof content.text, "%.80s.content", at->text);
    int rc =
        id ? chat_body_text(body, field_get(block, "content"), TEXT, &content, &text) : ERR_INVALID;
    if (!rc)
        chat_body_result(body, id, &text);
    buf_release(&text);
    return rc;
}

static int add_user(struct chat_body *body, const json_t *content, const struct place *at)
{
    struct buf text = {0};
    int rc = 0;
    if (!json_is_array(content)) {
        rc = chat_body_text(body, content, TEXT, at, &text);
        if (!rc)
            chat_body_message(body, "user", &text);
    }
    for (size_t i = 0; !rc && i < json_array_size(content); i++) {
        const json_t *block = json_array_get(content, i);
        struct place part = place_of(at->text, i, "");
        if (strcmp(chat_body_type(block), "tool_result")) {
            rc = chat_body_part(body, block, TEXT, &part, &text);
        } else {
            flush(body, &text);
            rc = add_result(body, block, &part);
        }
    }
    if (json_is_array(content))
        flush(body, &text);
    buf_release(&text);
    return rc;
}

static int add_tool_use(struct chat_body *body, json_t *message, const json_t *block,
                        const struct place *at)
{
    json_t *id = chat_body_string(body, block, "id", at);
    json_t *name = id ? chat_body_string(body, block, "name", at) : NULL;
    json_t *input = field_get(block, "input");
    if (!name)
        return ERR_INVALID;
    if (!json_is_object(input))
        return response_error(body->error, 400, at->text, NULL, "'%s.input' must be an object.",
                              at->text);
    chat_body_call(body, message, id, name, input);
    return 0;
}

/* What it says comes before what it calls, in whatever order the blocks are. */
static int add_assistant(struct chat_body *body, const json_t *content, const struct place *at,
                         bool last)
{
    struct buf text = {0};
    int rc = json_is_array(content) ? 0 : chat_body_text(body, content, TEXT, at, &text);
    for (size_t i = 0; !rc && i < json_array_size(content); i++) {
        const json_t *block = json_array_get(content, i);
        struct place part = place_of(at->text, i, "");
        if (strcmp(chat_body_type(block), "tool_use"))
            rc = chat_body_part(body, block, TEXT, &part, &text);
    }
    json_t *message = rc ? NULL : chat_body_message(body, "assistant", &text);
    for (size_t i = 0; message && !rc && i < json_array_size(content); i++) {
        const json_t *block = json_array_get(content, i);
        struct place part = place_of(at->text, i, "");
        if (!strcmp(chat_body_type(block), "tool_use"))
            rc = add_tool_use(body, message, block, &part);
    }
    if (last && text.len && !json_object_get(message, "tool_calls"))
        chat_body_set(body, "continue_final_message", json_true());
    buf_release(&text);
    return rc;
}

static int add_message(struct chat_body *body, const json_t *message, size_t i, bool last)
{
    struct place at = place_of("messages", i, ""), in = place_of("messages", i, ".content");
    const json_t *content = field_get(message, "content");
    const json_t *role = chat_body_string(body, message, "role", &at);
    if (!role)
        return ERR_INVALID;
    if (!content)
        return response_error(body->error, 400, in.text, NULL, "'%s' is missing.", in.text);
    if (!strcmp(json_string_value(role), "user"))
        return add_user(body, content, &in);
    if (!strcmp(json_string_value(role), "assistant"))
        return add_assistant(body, content, &in, last);
    return response_error(body->error, 400, "messages", NULL,
                          "'%s.role' must be \"user\" or \"assistant\"; 'system' is a field beside "
                          "'messages'.",
                          at.text);
}

static int add_messages(struct chat_body *body)
{
    const json_t *list = field_get(body->from, "messages");
    const json_t *system = field_get(body->from, "system");
    struct buf text = {0};
    size_t n = json_array_size(list);
    int rc = chat_body_text(body, system, TEXT, &(struct place){"system"}, &text);
    if (!rc && text.len)
        chat_body_message(body, "system", &text);
    buf_release(&text);
    if (!rc && !n)
        rc = response_error(body->error, 400, "messages", NULL,
                            "'messages' must be a list of at least one message.");
    for (size_t i = 0; !rc && i < n; i++)
        rc = add_message(body, json_array_get(list, i), i, i + 1 == n);
    return rc;
}

/* ---- fields ---- */

static int add_choice(struct chat_body *body)
{
    const json_t *choice = field_get(body->from, "tool_choice");
    const char *type = chat_body_type(choice);
    json_t *name = field_get(choice, "name");
    bool alone = false;
    if (!choice)
        return 0;
    if (field_bool(choice, "disable_parallel_tool_use", &alone, body->error))
        return ERR_INVALID;
    if (alone)
        chat_body_set(body, "parallel_tool_calls", json_false());
    if (!strcmp(type, "auto") || !strcmp(type, "none"))
        chat_body_set(body, "tool_choice", json_string(type));
    else if (!strcmp(type, "any"))
        chat_body_set(body, "tool_choice", json_string("required"));
    else if (!strcmp(type, "tool") && json_is_string(name))
        chat_body_choose(body, name);
    else
        return response_error(body->error, 400, "tool_choice", NULL,
                              "'tool_choice' must be an object whose 'type' is \"auto\", \"any\", "
                              "\"none\", or \"tool\" with a 'name'.");
    return 0;
}

static int add_length(struct chat_body *body, bool counted)
{
    int most = 0;
    const json_t *stops = field_get(body->from, "stop_sequences");
    if (!field_get(body->from, "max_tokens") && !counted)
        return response_error(body->error, 400, "max_tokens", NULL, "'max_tokens' is missing.");
    if (field_int(body->from, "max_tokens", 1, INT_MAX, &most, body->error))
        return ERR_INVALID;
    if (stops && !json_is_array(stops))
        return response_error(body->error, 400, "stop_sequences", NULL,
                              "'stop_sequences' must be a list of strings.");
    chat_body_copy(body, "max_tokens", "max_tokens");
    chat_body_copy(body, "stop_sequences", "stop");
    return 0;
}

/* A schema for the answer: {"type": "json_schema", "schema": {...}}. */
static int add_format(struct chat_body *body)
{
    const json_t *config = field_get(body->from, "output_config");
    json_t *format = field_get(config, "format");
    if (config && !json_is_object(config))
        return response_error(body->error, 400, "output_config", NULL,
                              "'output_config' must be an object.");
    if (format)
        chat_body_set(body, "response_format", json_incref(format));
    else
        chat_body_copy(body, "output_format", "response_format");
    return 0;
}

static int check_thinking(struct chat_body *body)
{
    const json_t *thinking = field_get(body->from, "thinking");
    if (!thinking || !strcmp(chat_body_type(thinking), "disabled"))
        return 0;
    return response_error(body->error, 400, "thinking", NULL,
                          "'thinking' must be {\"type\": \"disabled\"}: what a model thinks aloud "
                          "is part of its text here.");
}

int anthropic_to_chat(const json_t *root, bool counted, json_t **chat, struct response *error)
{
    struct chat_body body;
    chat_body_begin(&body, root, error);
    int rc = check_thinking(&body);
    if (!rc)
        rc = add_length(&body, counted);
    if (!rc)
        rc = add_messages(&body);
    if (!rc)
        rc = chat_body_tools(&body, "custom", "input_schema");
    if (!rc)
        rc = add_choice(&body);
    if (!rc)
        rc = add_format(&body);
    return chat_body_end(&body, rc, chat);
}
