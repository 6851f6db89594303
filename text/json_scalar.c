/* Strings, numbers and given values of a schema: see json_compiler.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/choices.h"
#include "text/json_compiler.h"
#include "text/json_multiple.h"
#include "text/json_pattern.h"
#include "text/regex.h"

/* ---- given values ---- */

/* Numbers as short as they can be. */
static char *write_value(const json_t *value)
{
    size_t flags = JSON_ENCODE_ANY;
    char *text = json_dumps(value, flags | JSON_REAL_PRECISION(15));
    json_t *back = text ? json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
    if (text && (!back || !json_equal(back, (json_t *)value))) {
        free(text);
        text = json_dumps(value, flags);
    }
    json_decref(back);
    return text;
}

int32_t json_values_draw(struct json_compiler *c, json_t *const *values, size_t n, int32_t from)
{
    struct choice_text *list = NULL;
    size_t made = 0;
    if (n > CHOICES_MAX) {
        json_refuse(c, "enum", "more than %d values are not supported", CHOICES_MAX);
        return from;
    }
    list = calloc(n, sizeof *list);
    for (; list && made < n; made++) {
        char *text = write_value(values[made]);
        if (!text)
            break;
        list[made] = (struct choice_text){text, strlen(text)};
    }
    if (made < n)
        json_out_of_memory(c);
    else
        from = choices_draw(&c->draft, list, (int)n, from);
    for (size_t i = 0; i < made; i++)
        free((char *)list[i].bytes);
    free(list);
    return from;
}

/* ---- strings ---- */

/* Its inside as a regular expression. */
static int32_t draw_pattern(struct json_compiler *c, const char *keyword, const char *expression,
                            size_t len, bool search, int32_t from)
{
    struct regex_options options = {.json = true, .search = search};
    struct err err;
    int32_t to = from;
    int rc = regex_draw(&c->draft, expression, len, &options, from, &to, &err);
    if (rc == ERR_MEMORY)
        json_out_of_memory(c);
    else if (rc)
        json_refuse(c, keyword, "%s", err.text);
    return to;
}

static int32_t draw_length(struct json_compiler *c, int least, int most, int32_t from)
{
    struct automaton_draft *d = &c->draft;
    int32_t end = automaton_state(d), at = from;
    for (int i = 0; i < least && !d->full; i++)
        at = json_lexis_draw(&c->lexis, JSON_CHAR, at);
    for (int i = least; i < most && !d->full; i++) {
        automaton_empty(d, at, end);
        at = json_lexis_draw(&c->lexis, JSON_CHAR, at);
    }
    if (most < 0) {
        int32_t loop = automaton_state(d);
        automaton_empty(d, at, loop);
        automaton_empty(d, json_lexis_draw(&c->lexis, JSON_CHAR, loop), loop);
        at = loop;
    }
    automaton_empty(d, at, end);
    return end;
}

int32_t json_string_draw(struct json_compiler *c, const json_t *schema, int32_t from)
{
    const json_t *pattern = json_object_get(schema, "pattern");
    const json_t *format = json_object_get(schema, "format");
    const char *expression =
        json_is_string(format) ? json_pattern_format(json_string_value(format)) : NULL;
    int least = 0, most = -1;
    json_count(c, schema, "minLength", &least);
    json_count(c, schema, "maxLength", &most);
    bool counted = least > 0 || most >= 0;
    if (pattern && !json_is_string(pattern))
        json_refuse(c, "pattern", "it must be a string");
    if (format && !expression)
        json_refuse(c, "format", "'%.40s' is not supported",
                    json_is_string(format) ? json_string_value(format) : "it");
    if (most >= 0 && least > most)
        json_refuse(c, "minLength", "no string can be so long");
    if ((pattern && format) || (counted && (pattern || format)))
        json_refuse(c, pattern ? "pattern" : "format", "this keyword is not supported beside '%s'",
                    pattern && format ? "format"
                    : least > 0       ? "minLength"
                                      : "maxLength");
    if (c->rc)
        return from;
    if (!pattern && !format && !counted)
        return json_lexis_draw(&c->lexis, JSON_TEXT, from);
    from = json_lexis_text(&c->lexis, "\"", from);
    if (pattern)
        from = draw_pattern(c, "pattern", json_string_value(pattern), json_string_length(pattern),
                            true, from);
    else if (format)
        from = draw_pattern(c, "format", expression, strlen(expression), false, from);
    else
        from = draw_length(c, least, most, from);
    return json_lexis_text(&c->lexis, "\"", from);
}

/* ---- numbers ---- */

/* The tighter of a bound and a keyword's. sign: 1 for a lower bound, -1 for an upper one. */
static void tighten(struct json_compiler *c, const json_t *schema, const char *keyword, bool open,
                    bool whole, int sign, int64_t *bound, bool *is_open)
{
    const json_t *field = json_object_get(schema, keyword);
    double x = json_number_value(field);
    if (!field)
        return;
    if (!json_is_number(field)) {
        json_refuse(c, keyword, "it must be a number");
        return;
    }
    if (!whole && x != floor(x)) {
        json_refuse(c, keyword, "a bound of numbers must be a whole number here");
        return;
    }
    if (!(fabs(x) <= 1e15)) {
        json_refuse(c, keyword, "bounds beyond 10^15 are not supported");
        return;
    }
    if (x != floor(x)) { /* no whole number is equal to it */
        x = sign > 0 ? ceil(x) : floor(x);
        open = false;
    }
    int64_t value = (int64_t)x;
    if (value * sign > *bound * sign || (value == *bound && open)) {
        *bound = value;
        *is_open = open;
    }
}

int32_t json_number_draw(struct json_compiler *c, const json_t *schema, bool whole, int32_t from)
{
    struct json_range r = {.low = -JSON_PATTERN_BOUND, .high = JSON_PATTERN_BOUND};
    struct buf expression = {0};
    if (json_object_get(schema, "multipleOf"))
        return json_multiple_draw(c, schema, whole, from);
    tighten(c, schema, "minimum", false, whole, 1, &r.low, &r.low_open);
    tighten(c, schema, "exclusiveMinimum", true, whole, 1, &r.low, &r.low_open);
    tighten(c, schema, "maximum", false, whole, -1, &r.high, &r.high_open);
    tighten(c, schema, "exclusiveMaximum", true, whole, -1, &r.high, &r.high_open);
    if (c->rc)
        return from;
    if (r.low == -JSON_PATTERN_BOUND && r.high == JSON_PATTERN_BOUND)
        return json_lexis_draw(&c->lexis, whole ? JSON_WHOLE : JSON_DECIMAL, from);
    if (whole)
        json_pattern_whole(&r, &expression);
    else
        json_pattern_decimal(&r, &expression);
    if (expression.failed)
        json_out_of_memory(c);
    else if (!expression.len)
        json_refuse(c, NULL, "no number is within its bounds");
    else
        from = json_lexis_regex(&c->lexis, expression.data, false, from);
    buf_release(&expression);
    return from;
}
