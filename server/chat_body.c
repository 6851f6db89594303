/* Bodies of chats, made: see chat_body.h. */
#include "server/chat_body.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "server/field.h"

struct place place_of(const char *list, size_t i, const char *field)
{
    struct place place;
    snprintf(place.text, sizeof place.text, "%.60s[%zu]%s", list, i, field);
    return place;
}

/* ---- the body ---- */

void chat_body_begin(struct chat_body *body, const json_t *from, struct response *error)
{
    static const char *const shared[] = {"stream",
                                         "temperature",
                                         "top_p",
                                         "top_k",
                                         "min_p",
                                         "presence_penalty",
                                         "repetition_penalty",
                                         "logit_bias",
                                         "seed",
                                         "frequency_penalty",
                                         "min_tokens",
                                         "ignore_eos",
                                         "user",
                                         "speculation",
                                         "stream_options",
                                         "chat_template_kwargs",
                                         "cache_salt"};
    *body = (struct chat_body){.from = from, .root = json_object(), .error = error};
    body->messages = json_array();
    chat_body_set(body, "messages", json_incref(body->messages));
    for (size_t i = 0; i < sizeof shared / sizeof shared[0]; i++)
        chat_body_copy(body, shared[i], shared[i]);
}

int chat_body_end(struct chat_body *body, int rc, json_t **chat)
{
    if (!rc && body->failed)
        rc = response_error(body->error, 500, NULL, NULL, "The server has no memory left.");
    json_decref(body->messages);
    *chat = rc ? NULL : body->root;
    if (rc)
        json_decref(body->root);
    return rc;
}

void chat_body_set(struct chat_body *body, const char *name, json_t *value)
{
    body->failed |= json_object_set_new(body->root, name, value) != 0;
}

void chat_body_copy(struct chat_body *body, const char *from, const char *name)
{
    json_t *value = field_get(body->from, from);
    if (value)
        chat_body_set(body, name, json_incref(value));
}

const char *chat_body_type(const json_t *object)
{
    const char *type = json_string_value(field_get(object, "type"));
    return type ? type : "";
}

/* ---- messages ---- */

static json_t *add(struct chat_body *body, json_t *list, json_t *value)
{
    if (!value || json_array_append_new(list, value)) {
        body->failed = true;
        return NULL;
    }
    return value;
}

static json_t *string_of(const struct buf *text)
{
    return text->failed ? NULL : json_stringn(text->len ? text->data : "", text->len);
}

json_t *chat_body_message(struct chat_body *body, const char *role, const struct buf *text)
{
    return add(body, body->messages,
               json_pack("{s:s, s:o}", "role", role, "content", string_of(text)));
}

void chat_body_call(struct chat_body *body, json_t *message, json_t *id, json_t *name,
                    json_t *arguments)
{
    json_t *calls = json_object_get(message, "tool_calls");
    if (!calls && message) {
        calls = json_array();
        body->failed |= json_object_set_new(message, "tool_calls", calls) != 0;
    }
    if (!body->failed)
        add(body, calls,
            json_pack("{s:O, s:s, s:{s:O, s:O}}", "id", id, "type", "function", "function", "name",
                      name, "arguments", arguments));
}

void chat_body_result(struct chat_body *body, json_t *id, const struct buf *text)
{
    add(body, body->messages,
        json_pack("{s:s, s:O, s:o}", "role", "tool", "tool_call_id", id, "content",
                  string_of(text)));
}

/* ---- tools ---- */

static void add_tool(struct chat_body *body, const json_t *tool, json_t *name,
                     const char *parameters)
{
    json_t *tools = json_object_get(body->root, "tools");
    json_t *about = field_get(tool, "description"), *schema = field_get(tool, parameters);
    json_t *strict = field_get(tool, "strict");
    if (!tools)
        chat_body_set(body, "tools", tools = json_array());
    json_t *function = json_pack("{s:O}", "name", name);
    body->failed |= !function || (about && json_object_set(function, "description", about)) ||
                    (schema && json_object_set(function, "parameters", schema)) ||
                    (strict && json_object_set(function, "strict", strict));
    if (body->failed)
        json_decref(function);
    else
        add(body, tools, json_pack("{s:s, s:o}", "type", "function", "function", function));
}

int chat_body_tools(struct chat_body *body, const char *own, const char *parameters)
{
    const json_t *list = field_get(body->from, "tools");
    if (list && !json_is_array(list))
        return response_error(body->error, 400, "tools", NULL, "'tools' must be a list.");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *tool = json_array_get(list, i);
        const char *type = chat_body_type(tool);
        struct place at = place_of("tools", i, "");
        if (*type && strcmp(type, own))
            return response_error(body->error, 400, "tools", NULL,
                                  "'%s.type' is '%.60s', but this server runs no tools: declare "
                                  "your own, of type \"%s\", with 'name' and '%s'.",
                                  at.text, type, own, parameters);
        json_t *name = chat_body_string(body, tool, "name", &at);
        if (!name)
            return ERR_INVALID;
        add_tool(body, tool, name, parameters);
    }
    return 0;
}

void chat_body_choose(struct chat_body *body, json_t *name)
{
    chat_body_set(body, "tool_choice",
                  json_pack("{s:s, s:{s:O}}", "type", "function", "function", "name", name));
}

/* ---- text ---- */

json_t *chat_body_string(struct chat_body *body, const json_t *object, const char *name,
                         const struct place *at)
{
    json_t *value = field_get(object, name);
    char where[128];
    if (json_is_string(value))
        return value;
    snprintf(where, sizeof where, "%s.%s", at->text, name);
    response_error(body->error, 400, where, NULL, "'%s' must be a string.", where);
    return NULL;
}

int chat_body_part(struct chat_body *body, const json_t *part, const char *const *types,
                   const struct place *at, struct buf *text)
{
    const json_t *type = chat_body_string(body, part, "type", at);
    char where[128];
    if (!type)
        return ERR_INVALID;
    for (int i = 0; types[i]; i++)
        if (!strcmp(types[i], json_string_value(type))) {
            const json_t *string = chat_body_string(body, part, "text", at);
            if (!string)
                return ERR_INVALID;
            buf_puts(text, text->len ? "\n" : "");
            buf_append(text, json_string_value(string), json_string_length(string));
            return 0;
        }
    snprintf(where, sizeof where, "%s.type", at->text);
    return response_error(body->error, 400, where, NULL,
                          "'%s' is '%.40s', which is not supported here: this model reads only "
                          "text.",
                          where, json_string_value(type));
}

int chat_body_text(struct chat_body *body, const json_t *content, const char *const *types,
                   const struct place *at, struct buf *text)
{
    if (json_is_string(content))
        buf_append(text, json_string_value(content), json_string_length(content));
    else if (content && !json_is_array(content))
        return response_error(body->error, 400, at->text, NULL,
                              "'%s' must be a string or a list of parts.", at->text);
    for (size_t i = 0; i < json_array_size(content); i++) {
        struct place part = place_of(at->text, i, "");
        if (chat_body_part(body, json_array_get(content, i), types, &part, text))
            return ERR_INVALID;
    }
    return 0;
}
