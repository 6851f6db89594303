/* Calls as an automaton: see call_grammar.h. */
#include "server/call_grammar.h"

#include <string.h>

#include "server/field.h"
#include "server/json_text.h"
#include "text/automaton.h"
#include "text/json_schema.h"
#include "text/positions.h"

static int no_memory(struct response *error)
{
    return response_error(error, 500, NULL, NULL, "The server has no memory left.");
}

/* ---- arguments ---- */

/* Whether every text begins as an object does. */
static int check_objects(const struct automaton *automaton, struct err *err)
{
    struct positions positions;
    int rc = positions_init(&positions, automaton, err);
    int32_t start = rc ? POSITION_NONE : positions_start(&positions);
    for (int byte = 0; !rc && start >= 0 && byte < 256; byte++)
        if (byte != '{' && positions_step(&positions, start, (uint8_t)byte) != POSITION_NONE)
            rc = err_set(err, ERR_INVALID,
                         "at #: arguments are an object, so that 'type' must be \"object\"");
    positions_release(&positions);
    return rc;
}

/* Whatever the schema, as a list of parameters. */
static int compile_schema(const json_t *schema, struct automaton **automaton, struct err *err)
{
    int rc = json_schema_compile(schema, automaton, err);
    if (!rc)
        rc = check_objects(*automaton, err);
    if (rc) {
        automaton_release(*automaton);
        *automaton = NULL;
    }
    return rc;
}

static int compile_none(struct automaton **automaton, struct err *err)
{
    json_t *none = json_pack("{s:s, s:{}}", "type", "object", "properties");
    int rc = none ? json_schema_compile(none, automaton, err)
                  : err_set(err, ERR_MEMORY, "no memory left");
    json_decref(none);
    return rc;
}

/* The arguments of a tool. */
static int compile(const json_t *tool, struct automaton **automaton, struct response *error)
{
    const json_t *function = field_get(tool, "function");
    const json_t *schema = field_get(function, "parameters");
    struct err err;
    *automaton = NULL;
    int rc = schema ? compile_schema(schema, automaton, &err) : compile_none(automaton, &err);
    if (rc == ERR_INVALID && json_is_true(field_get(function, "strict")))
        return response_error(error, 400, "tools", NULL,
                              "The function '%.100s' is strict, but its parameters cannot be "
                              "followed: %s.",
                              tools_name(tool), err.text);
    if (rc == ERR_INVALID)
        rc = json_object_compile(automaton, &err);
    return rc ? no_memory(error) : 0;
}

/* ---- calls ---- */

struct calls {
    const struct tools *tools;
    const struct call_format *format;
    struct automaton_draft draft;
    int32_t start, name, end; /* the begin; before a tool's name; behind a call */
};

static int32_t text(struct calls *c, int32_t from, const char *what)
{
    return automaton_text(&c->draft, from, what, strlen(what));
}

/* The name as in a JSON string, its quote behind it, up to the colon in front of the arguments. */
static int32_t draw_name(struct calls *c, const char *name)
{
    struct buf quoted = {0};
    json_write(&quoted, name, strlen(name));
    c->draft.no_memory |= quoted.failed;
    c->draft.full |= quoted.failed;
    int32_t at = quoted.failed
                     ? c->name
                     : automaton_text(&c->draft, c->name, quoted.data + 1, quoted.len - 1);
    buf_release(&quoted);
    at = text(c, text(c, at, ", \""), c->format->arguments);
    return text(c, at, "\":");
}

static int draw_call(struct calls *c, const json_t *tool, struct response *error)
{
    struct automaton *arguments;
    int rc = compile(tool, &arguments, error);
    if (rc)
        return rc;
    int32_t colon = draw_name(c, tools_name(tool)), behind = automaton_state(&c->draft);
    automaton_call(&c->draft, text(c, colon, " "), behind, automaton_include(&c->draft, arguments));
    automaton_empty(&c->draft, text(c, behind, c->format->behind), c->end);
    if (c->tools->must_name)
        automaton_empty(&c->draft, c->start, colon);
    automaton_release(arguments);
    return 0;
}

static void draw_rest(struct calls *c, int32_t final)
{
    if (!c->tools->must_name)
        automaton_empty(&c->draft, c->start, c->name);
    if (c->format->next && !c->tools->one_call)
        automaton_empty(&c->draft, text(c, c->end, c->format->next), c->name);
    automaton_empty(&c->draft, text(c, c->end, c->format->end), final);
}

int call_grammar_make(const struct tools *tools, const struct call_format *format,
                      const struct automaton **grammar, struct response *error)
{
    struct calls c = {.tools = tools, .format = format};
    struct automaton *automaton = NULL;
    struct err err;
    int rc = 0;
    automaton_rule(&c.draft);
    struct automaton_rule whole = c.draft.full ? (struct automaton_rule){0} : c.draft.rules[0];
    c.start = whole.start;
    c.name = automaton_state(&c.draft);
    c.end = automaton_state(&c.draft);
    for (size_t i = 0; !rc && i < json_array_size(tools->list); i++) {
        const json_t *tool = json_array_get(tools->list, i);
        if (!tools->must_name || !strcmp(tools->must_name, tools_name(tool)))
            rc = draw_call(&c, tool, error);
    }
    draw_rest(&c, whole.final);
    if (rc) {
        automaton_draft_release(&c.draft);
        return rc;
    }
    rc = automaton_finish(&c.draft, &automaton, &err);
    *grammar = automaton;
    if (rc == ERR_INVALID)
        return response_error(error, 400, "tools", NULL,
                              "The parameters of all tools together cannot be followed: %s.",
                              err.text);
    return rc ? no_memory(error) : 0;
}
