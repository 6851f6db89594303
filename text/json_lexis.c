/* Rules for the parts of JSON: see json_lexis.h. */
#include "text/json_lexis.h"

#include <assert.h>
#include <string.h>

#include "text/regex.h"

int32_t json_lexis_text(struct json_lexis *x, const char *text, int32_t from)
{
    return automaton_text(x->draft, from, text, strlen(text));
}

int32_t json_lexis_regex(struct json_lexis *x, const char *expression, bool json, int32_t from)
{
    struct regex_options options = {.json = json};
    int32_t to = from;
    struct err err;
    int rc = regex_draw(x->draft, expression, strlen(expression), &options, from, &to, &err);
    assert(rc != ERR_INVALID);
    if (rc)
        x->draft->full = x->draft->no_memory = true;
    return to;
}

/* `open`, parts with commas between them, `close`; or none. */
static int32_t draw_list(struct json_lexis *x, const char *open, const char *close, bool keys,
                         int32_t from)
{
    struct automaton_draft *d = x->draft;
    int32_t begin = json_lexis_draw(x, JSON_SPACE, json_lexis_text(x, open, from));
    int32_t part = automaton_state(d), end = automaton_state(d), at = part;
    automaton_empty(d, begin, part);
    automaton_empty(d, begin, end);
    if (keys)
        at = json_lexis_regex(x, ": ?", false, json_lexis_draw(x, JSON_TEXT, at));
    at = json_lexis_draw(x, JSON_ANY, at);
    automaton_empty(d, json_lexis_draw(x, JSON_SPACE, json_lexis_text(x, ",", at)), part);
    automaton_empty(d, json_lexis_draw(x, JSON_SPACE, at), end);
    return json_lexis_text(x, close, end);
}

static int32_t draw_any(struct json_lexis *x, int32_t from)
{
    struct automaton_draft *d = x->draft;
    static const enum json_word kinds[] = {JSON_TEXT, JSON_DECIMAL, JSON_OBJECT_ANY,
                                           JSON_ARRAY_ANY};
    int32_t to = automaton_state(d);
    for (int i = 0; i < 4; i++)
        automaton_empty(d, json_lexis_draw(x, kinds[i], from), to);
    automaton_empty(d, json_lexis_regex(x, "true|false|null", false, from), to);
    return to;
}

/* Escapes of UTF-16 come in pairs where a half alone is no character. */
#define PLAIN "[^\"\\\\\\x00-\\x1f]"
#define HEX "[0-9a-fA-F]"
#define ESCAPED                                                                                    \
    "\\\\([\"\\\\/bfnrt]|u([0-9a-cefA-CEF]" HEX "{3}|[dD][0-7]" HEX "{2}|[dD][89abAB]" HEX         \
    "{2}\\\\u[dD][c-fC-F]" HEX "{2}))"
#define DIGITS "-?(0|[1-9][0-9]{0,17})"

static int32_t draw_inside(struct json_lexis *x, enum json_word word, int32_t from)
{
    switch (word) {
    case JSON_SPACE:
        return json_lexis_regex(x, "( |\\n[ \\t]{0,40})?", false, from);
    case JSON_CHAR:
        return json_lexis_regex(x, PLAIN "|" ESCAPED, false, from);
    case JSON_TEXT:
        return json_lexis_regex(x, "\"(" PLAIN "|" ESCAPED ")*\"", false, from);
    case JSON_WHOLE:
        return json_lexis_regex(x, DIGITS, false, from);
    case JSON_DECIMAL:
        return json_lexis_regex(x, DIGITS "(\\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?", false, from);
    case JSON_OBJECT_ANY:
        return draw_list(x, "{", "}", true, from);
    case JSON_ARRAY_ANY:
        return draw_list(x, "[", "]", false, from);
    default:
        return draw_any(x, from);
    }
}

int32_t json_lexis_draw(struct json_lexis *x, enum json_word word, int32_t from)
{
    struct automaton_draft *d = x->draft;
    int32_t to = automaton_state(d);
    if (!x->rule[word]) {
        int rule = automaton_rule(d);
        x->rule[word] = rule + 1;
        if (!d->full) {
            struct automaton_rule r = d->rules[rule];
            automaton_empty(d, draw_inside(x, word, r.start), r.final);
        }
    }
    automaton_call(d, from, to, x->rule[word] - 1);
    return to;
}
