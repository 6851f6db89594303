/* Messages: see messages.h. */
#include "server/messages.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "server/field.h"

#define WHERE_MAX 96

/* "messages[2].content" */
struct where {
    char text[WHERE_MAX];
};

static struct where at_message(size_t i, const char *field)
{
    struct where where;
    snprintf(where.text, sizeof where.text, "messages[%zu]%s", i, field);
    return where;
}

static struct where at_part(const struct where *list, size_t i, const char *field)
{
    struct where where;
    snprintf(where.text, sizeof where.text, "%.40s[%zu]%s", list->text, i, field);
    return where;
}

static int no_memory(struct response *error)
{
    return response_error(error, 500, NULL, NULL, "The server has no memory left.");
}

static const char *role_of(const json_t *message)
{
    static const char *const roles[][2] = {{"system", "system"},
                                           {"developer", "system"},
                                           {"user", "user"},
                                           {"assistant", "assistant"},
                                           {"tool", "tool"}};
    const json_t *field = field_get(message, "role");
    const char *given = json_string_value(field);
    for (size_t i = 0; given && i < sizeof roles / sizeof roles[0]; i++)
        if (json_string_length(field) == strlen(roles[i][0]) && !strcmp(given, roles[i][0]))
            return roles[i][1];
    return NULL;
}

/* ---- content ---- */

static int add_part(struct buf *text, const json_t *part, const struct where *list, size_t i,
                    struct response *error)
{
    const json_t *type = field_get(part, "type"), *string = field_get(part, "text");
    struct where where = at_part(list, i, ".type");
    if (!json_is_string(type))
        return response_error(error, 400, where.text, NULL,
                              "'%s' must be a string: a part of a message is an object like "
                              "{\"type\": \"text\", \"text\": \"...\"}.",
                              where.text);
    if (strcmp(json_string_value(type), "text"))
        return response_error(error, 400, where.text, NULL,
                              "'%s' is '%.40s', but this model reads only \"text\".", where.text,
                              json_string_value(type));
    where = at_part(list, i, ".text");
    if (!json_is_string(string))
        return response_error(error, 400, where.text, NULL, "'%s' must be a string.", where.text);
    buf_puts(text, i ? "\n" : "");
    buf_append(text, json_string_value(string), json_string_length(string));
    return 0;
}

/* Parts become one string, a line each: templates that were written for text expect that. */
static int join_parts(json_t *to, const json_t *parts, const struct where *where,
                      struct response *error)
{
    struct buf text = {0};
    int rc = 0;
    for (size_t i = 0; !rc && i < json_array_size(parts); i++)
        rc = add_part(&text, json_array_get(parts, i), where, i, error);
    if (!rc &&
        (text.failed ||
         json_object_set_new(to, "content", json_stringn(text.data ? text.data : "", text.len))))
        rc = no_memory(error);
    buf_release(&text);
    return rc;
}

static int add_content(json_t *to, const json_t *message, const char *role, size_t i,
                       struct response *error)
{
    json_t *content = field_get(message, "content");
    struct where where = at_message(i, ".content");
    if (json_is_array(content))
        return join_parts(to, content, &where, error);
    if (json_is_string(content))
        return json_object_set(to, "content", content) ? no_memory(error) : 0;
    /* An assistant that only calls tools says nothing. */
    if (!content && !strcmp(role, "assistant"))
        return json_object_set_new(to, "content", json_string("")) ? no_memory(error) : 0;
    return response_error(error, 400, where.text, NULL, "'%s' must be a string or a list of parts.",
                          where.text);
}

/* ---- tool calls ---- */

/* Clients send arguments as a string of JSON, templates expect what it says. */
static json_t *arguments_of(json_t *given)
{
    if (!json_is_string(given))
        return given ? json_incref(given) : json_object();
    if (!json_string_length(given))
        return json_object();
    json_t *parsed = json_loadb(json_string_value(given), json_string_length(given),
                                JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    if (json_is_object(parsed))
        return parsed;
    json_decref(parsed);
    return json_incref(given);
}

static int add_call(json_t *calls, const json_t *call, const struct where *list, size_t i,
                    struct response *error)
{
    const json_t *function = field_get(call, "function");
    json_t *name = field_get(function, "name"), *arguments = field_get(function, "arguments");
    json_t *id = field_get(call, "id");
    struct where where = at_part(list, i, ".function.name");
    if (!json_is_string(name))
        return response_error(error, 400, where.text, NULL, "'%s' must be a string.", where.text);
    where = at_part(list, i, ".function.arguments");
    if (arguments && !json_is_string(arguments) && !json_is_object(arguments))
        return response_error(error, 400, where.text, NULL,
                              "'%s' must be a string of JSON or an object.", where.text);
    where = at_part(list, i, ".id");
    if (id && !json_is_string(id))
        return response_error(error, 400, where.text, NULL, "'%s' must be a string.", where.text);
    json_t *made = json_pack("{s:s, s:{s:O, s:o}}", "type", "function", "function", "name", name,
                             "arguments", arguments_of(arguments));
    bool failed =
        !made || (id && json_object_set(made, "id", id)) || json_array_append(calls, made);
    json_decref(made);
    return failed ? no_memory(error) : 0;
}

static int add_calls(json_t *to, const json_t *message, size_t i, struct response *error)
{
    const json_t *given = field_get(message, "tool_calls");
    struct where where = at_message(i, ".tool_calls");
    if (!given)
        return 0;
    if (!json_is_array(given))
        return response_error(error, 400, where.text, NULL, "'%s' must be a list.", where.text);
    if (!json_array_size(given))
        return 0;
    json_t *calls = json_array();
    if (json_object_set_new(to, "tool_calls", calls))
        return no_memory(error);
    for (size_t j = 0; j < json_array_size(given); j++)
        if (add_call(calls, json_array_get(given, j), &where, j, error))
            return ERR_INVALID;
    return 0;
}

/* ---- messages ---- */

static int add_strings(json_t *to, const json_t *message, size_t i, struct response *error)
{
    static const char *const names[] = {"name", "tool_call_id", "reasoning_content"};
    for (size_t j = 0; j < sizeof names / sizeof names[0]; j++) {
        json_t *field = field_get(message, names[j]);
        if (!field)
            continue;
        if (json_is_string(field)) {
            if (json_object_set(to, names[j], field))
                return no_memory(error);
            continue;
        }
        struct where where = at_message(i, ".");
        strncat(where.text, names[j], sizeof where.text - strlen(where.text) - 1);
        return response_error(error, 400, where.text, NULL, "'%s' must be a string.", where.text);
    }
    return 0;
}

/* What a message may hold that would be lost. */
static int refuse_others(const json_t *message, size_t i, struct response *error)
{
    struct where where = at_message(i, ".function_call");
    if (field_get(message, "function_call"))
        return response_error(error, 400, where.text, NULL,
                              "'%s' is not supported: use 'tool_calls'.", where.text);
    where = at_message(i, ".audio");
    if (field_get(message, "audio"))
        return response_error(error, 400, where.text, NULL,
                              "'%s' is not supported: this model reads only text.", where.text);
    return 0;
}

static int add_message(json_t *messages, const json_t *message, size_t i, struct response *error)
{
    struct where where = at_message(i, "");
    if (!json_is_object(message))
        return response_error(error, 400, where.text, NULL, "'%s' must be an object.", where.text);
    const char *role = role_of(message);
    where = at_message(i, ".role");
    if (!role)
        return response_error(error, 400, where.text, NULL,
                              "'%s' must be \"system\", \"developer\", \"user\", \"assistant\" or "
                              "\"tool\".",
                              where.text);
    json_t *to = json_pack("{s:s}", "role", role);
    if (!to || json_array_append_new(messages, to))
        return no_memory(error);
    if (refuse_others(message, i, error) || add_content(to, message, role, i, error) ||
        add_strings(to, message, i, error))
        return ERR_INVALID;
    return strcmp(role, "assistant") ? 0 : add_calls(to, message, i, error);
}

int messages_parse(const json_t *root, json_t **messages, struct response *error)
{
    const json_t *given = field_get(root, "messages");
    *messages = NULL;
    if (!given)
        return response_error(error, 400, "messages", NULL, "'messages' is missing.");
    if (!json_is_array(given) || !json_array_size(given))
        return response_error(error, 400, "messages", NULL,
                              "'messages' must be a list of at least one message.");
    *messages = json_array();
    if (!*messages)
        return no_memory(error);
    for (size_t i = 0; i < json_array_size(given); i++)
        if (add_message(*messages, json_array_get(given, i), i, error))
            return ERR_INVALID;
    return 0;
}
