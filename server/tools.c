/* Tools of a chat: see tools.h. */
#include "server/tools.h"

#include <stdlib.h>
#include <string.h>

#include "server/field.h"
#include "server/json_text.h"

const char *tools_name(const json_t *tool)
{
    return json_string_value(field_get(field_get(tool, "function"), "name"));
}

static int check_tool(const json_t *tool, size_t i, struct response *error)
{
    const char *type = json_string_value(field_get(tool, "type")), *name = tools_name(tool);
    bool strict = false;
    if (!type || strcmp(type, "function") || !name || !*name)
        return response_error(error, 400, "tools", NULL,
                              "'tools[%zu]' must be an object like {\"type\": \"function\", "
                              "\"function\": {\"name\": \"...\"}}.",
                              i);
    return field_bool(field_get(tool, "function"), "strict", &strict, error);
}

static const char *find(const json_t *list, const char *name)
{
    for (size_t i = 0; name && i < json_array_size(list); i++)
        if (!strcmp(tools_name(json_array_get(list, i)), name))
            return name;
    return NULL;
}

static int parse_choice(const json_t *choice, const json_t *list, struct tools *tools,
                        struct response *error)
{
    const char *word = json_string_value(choice), *type = NULL;
    if (word && !strcmp(word, "none"))
        return 0;
    tools->list = json_array_size(list) ? list : NULL;
    if (!choice || (word && !strcmp(word, "auto")))
        return 0;
    type = json_string_value(field_get(choice, "type"));
    bool named = type && !strcmp(type, "function");
    if (!named && !(word && !strcmp(word, "required")))
        return response_error(error, 400, "tool_choice", NULL,
                              "'tool_choice' must be \"none\", \"auto\", \"required\" or an object "
                              "like {\"type\": \"function\", \"function\": {\"name\": \"...\"}}.");
    if (!tools->list)
        return response_error(error, 400, "tool_choice", NULL,
                              "'tool_choice' asks for a call, but there are no 'tools'.");
    tools->must_call = true;
    tools->one_call = named; /* "exactly one specific function", in OpenAI's words */
    if (named)
        tools->must_name = find(list, tools_name(choice));
    else if (json_array_size(list) == 1)
        tools->must_name = tools_name(json_array_get(list, 0));
    if (named && !tools->must_name)
        return response_error(error, 400, "tool_choice", NULL,
                              "'tool_choice' names a function that 'tools' does not have.");
    return 0;
}

int tools_parse(const json_t *root, const struct api_model *model, struct tools *tools,
                struct response *error)
{
    const json_t *list = field_get(root, "tools");
    bool parallel = true;
    *tools = (struct tools){0};
    if (list && !json_is_array(list))
        return response_error(error, 400, "tools", NULL, "'tools' must be a list.");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (check_tool(json_array_get(list, i), i, error))
            return ERR_INVALID;
    if (parse_choice(field_get(root, "tool_choice"), list, tools, error) ||
        field_bool(root, "parallel_tool_calls", &parallel, error))
        return ERR_INVALID;
    tools->one_call |= !parallel;
    if (tools->must_call && !model->calls)
        return response_error(error, 400, "tool_choice", NULL,
                              "'tool_choice' must be \"none\" or \"auto\": this model's chat "
                              "template has no calls, or in a format that is not known here.");
    return 0;
}

/* A name as it stands in a JSON string, marked as the client's text. */
static bool add_name(struct rendered *rendered, const char *name)
{
    struct buf quoted = {0};
    json_write(&quoted, name, strlen(name));
    struct text_range *grown =
        realloc(rendered->literal, (rendered->n_literal + 1) * sizeof *rendered->literal);
    if (!grown || quoted.failed) {
        rendered->literal = grown ? grown : rendered->literal;
        buf_release(&quoted);
        return false;
    }
    rendered->literal = grown;
    size_t begin = rendered->text.len;
    buf_append(&rendered->text, quoted.data + 1, quoted.len - 2);
    rendered->literal[rendered->n_literal++] = (struct text_range){begin, rendered->text.len};
    buf_release(&quoted);
    return true;
}

int tools_begin(const struct tools *tools, const struct call_format *format,
                struct rendered *rendered, struct buf *begun, struct response *error)
{
    struct buf *text = &rendered->text;
    bool failed = false;
    if (!tools->must_call)
        return 0;
    buf_puts(text, format->control);
    size_t begin = text->len;
    buf_puts(text, format->force);
    if (tools->must_name) {
        failed = !add_name(rendered, tools->must_name);
        buf_printf(text, "\", \"%s\":", format->arguments);
    }
    if (begun && !text->failed)
        buf_append(begun, text->data + begin, text->len - begin);
    if (failed || text->failed || (begun && begun->failed))
        return response_error(error, 500, NULL, NULL, "The server has no memory left.");
    return 0;
}

int tools_for_answer(const struct tools *tools, const struct api_model *model,
                     struct answer_tools *to, struct response *error)
{
    size_t n = json_array_size(tools->list);
    if (!n || !model->calls)
        return 0;
    to->format = model->calls;
    to->one_call = tools->one_call;
    to->names = calloc(n, sizeof *to->names);
    for (size_t i = 0; to->names && i < n; i++, to->n++)
        if (!(to->names[i] = strdup(tools_name(json_array_get(tools->list, i)))))
            break;
    return to->n == n ? 0
                      : response_error(error, 500, NULL, NULL, "The server has no memory left.");
}

void tools_release(struct answer_tools *tools)
{
    for (size_t i = 0; i < tools->n; i++)
        free(tools->names[i]);
    free(tools->names);
    *tools = (struct answer_tools){0};
}
