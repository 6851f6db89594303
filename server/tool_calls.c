/* Calls of tools: see tool_calls.h. */
#include "server/tool_calls.h"

#include <jansson.h>
#include <string.h>

static const struct call_format TAGGED = {.open = "<tool_call>",
                                          .close = "</tool_call>",
                                          .control = "",
                                          .force = "<tool_call>\n{\"name\": \"",
                                          .arguments = "arguments",
                                          .behind = "}\n</tool_call>",
                                          .next = "\n<tool_call>\n{\"name\": \"",
                                          .end = ""};
static const struct call_format LISTED = {.open = "",
                                          .close = "",
                                          .control = "[TOOL_CALLS] ",
                                          .force = "[{\"name\": \"",
                                          .arguments = "arguments",
                                          .behind = "}",
                                          .next = ", {\"name\": \"",
                                          .end = "]",
                                          .short_ids = true};
static const struct call_format BARE = {.open = "",
                                        .close = "",
                                        .control = "",
                                        .force = "{\"name\": \"",
                                        .arguments = "parameters",
                                        .behind = "}",
                                        .end = ""};

static bool has(const char *text, size_t len, const char *what)
{
    return memmem(text, len, what, strlen(what)) != NULL;
}

const struct call_format *call_format_of(const char *template, size_t len)
{
    /* The same markers around XML, and around a name alone. */
    if (!len || has(template, len, "<function=") || has(template, len, "[ARGS]"))
        return NULL;
    if (has(template, len, "<tool_call>"))
        return &TAGGED;
    if (has(template, len, "[TOOL_CALLS]"))
        return &LISTED;
    return has(template, len, "<|python_tag|>") ? &BARE : NULL;
}

size_t json_scan(struct json_scan *scan, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (scan->escaped)
            scan->escaped = false;
        else if (scan->in_string && c == '\\')
            scan->escaped = true;
        else if (c == '"')
            scan->in_string = !scan->in_string;
        else if (!scan->in_string && (c == '{' || c == '['))
            scan->depth++;
        else if (!scan->in_string && (c == '}' || c == ']') && --scan->depth == 0)
            return i + 1;
    }
    return 0;
}

/* ---- members, as they are written: numbers would not survive being read and printed ---- */

static size_t skip(const char *text, size_t at, size_t len, const char *what)
{
    while (at < len && strchr(what, text[at]) && text[at])
        at++;
    return at;
}

/* Where the value ends that begins at `at` of valid JSON. */
static size_t end_of_value(const char *text, size_t at, size_t len)
{
    struct json_scan scan = {0};
    if (text[at] == '{' || text[at] == '[')
        return at + json_scan(&scan, text + at, len - at);
    if (text[at] != '"')
        return at + strcspn(text + at, ",}] \t\r\n");
    for (at++; at < len && text[at] != '"'; at++)
        at += text[at] == '\\';
    return at + 1;
}

/* The value of a member of an object, which is valid JSON. NULL when there is none. */
static const char *member(const char *text, size_t len, const char *name, size_t *value_len)
{
    size_t at = skip(text, 0, len, " \t\r\n") + 1, n = strlen(name);
    while ((at = skip(text, at, len, " \t\r\n,")) < len && text[at] == '"') {
        size_t key = at + 1, key_end = end_of_value(text, at, len) - 1;
        at = skip(text, key_end + 1, len, " \t\r\n:");
        size_t end = end_of_value(text, at, len);
        if (key_end - key == n && !memcmp(text + key, name, n)) {
            *value_len = end - at;
            return text + at;
        }
        at = end;
    }
    return NULL;
}

/* ---- calls ---- */

/* A name may stand in it twice, as no grammar can prevent where any names may be. */
static bool is_object(const char *text, size_t len)
{
    json_t *value = json_loadb(text, len, JSON_ALLOW_NUL, NULL);
    bool object = json_is_object(value);
    json_decref(value);
    return object;
}

/* A string's text, or false. */
static bool read_string(const char *text, size_t len, struct buf *to)
{
    json_t *value = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    bool string = json_is_string(value);
    if (string)
        buf_append(to, json_string_value(value), json_string_length(value));
    json_decref(value);
    return string;
}

/* Arguments are an object; some models put it into a string. */
static bool read_arguments(const char *text, size_t len, struct buf *to)
{
    if (*text == '{')
        buf_append(to, text, len);
    else if (!read_string(text, len, to) || !is_object(to->data, to->len))
        return false;
    return true;
}

/* Some templates show an object in two pairs of braces, and their models write it so. */
static void strip_braces(const char **text, size_t *len)
{
    size_t second = skip(*text, 1, *len, " \t\r\n"), last = *len - 1;
    while (last > second && strchr(" \t\r\n", (*text)[last - 1]))
        last--;
    if (second + 1 < last && (*text)[second] == '{' && (*text)[last - 1] == '}') {
        *text += second;
        *len = last - second;
    }
}

bool tool_call_read(const char *text, size_t len, struct buf *name, struct buf *arguments)
{
    static const char *const keys[] = {"arguments", "parameters"};
    size_t n;
    name->len = arguments->len = 0;
    if (len < 2 || *text != '{')
        return false;
    strip_braces(&text, &len);
    if (!is_object(text, len))
        return false;
    const char *function = member(text, len, "function", &n);
    if (function && *function == '{') { /* the shape in which tools are declared */
        text = function;
        len = n;
    }
    const char *value = member(text, len, "name", &n);
    if (!value || !read_string(value, n, name) || !name->len || memchr(name->data, '\0', name->len))
        return false;
    for (int i = 0; i < 2; i++)
        if ((value = member(text, len, keys[i], &n)) && strncmp(value, "null", 4))
            return read_arguments(value, n, arguments);
    buf_puts(arguments, "{}");
    return true;
}
