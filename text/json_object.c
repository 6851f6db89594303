/* Objects and arrays of a schema: see json_compiler.h. */
#include <stdlib.h>
#include <string.h>

#include "text/char_set.h"
#include "text/json_compiler.h"
#include "text/utf8.h"

/* ---- names of additional properties ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names that are none of n sorted ones, of which `at` bytes have been read, behind the quote; only
 * characters that need no escape. `free` is the state in which the name is another already. */
static void draw_other(struct json_compiler *c, const char *const *names, int n, size_t at,
                       int32_t from, int32_t free, int32_t to)
{
    struct char_set others = {0};
    for (uint32_t i = 0; i < ' '; i++)
        char_set_add(&others, i, i);
    char_set_add(&others, '"', '"');
    char_set_add(&others, '\\', '\\');
    if (!n || names[0][at])
        automaton_bytes(&c->draft, from, to, '"', '"');
    for (int i = 0, same; i < n && !c->draft.full; i += same) {
        uint32_t code = 0;
        int len = utf8_decode(names[i] + at, strlen(names[i] + at), &code);
        for (same = 1;
             i + same < n && len > 0 && !strncmp(names[i] + at, names[i + same] + at, (size_t)len);)
            same++;
        if (!names[i][at] || len <= 0)
            continue;
        char_set_add(&others, code, code);
        if (code >= ' ' && code != '"' && code != '\\')
            draw_other(c, names + i, same, at + (size_t)len,
                       automaton_text(&c->draft, from, names[i] + at, (size_t)len), free, to);
    }
    char_set_negate(&others);
    char_set_draw(&others, false, &c->draft, from, free);
    if (others.failed)
        json_out_of_memory(c);
    char_set_release(&others);
}

/* A name, with its quotes, that is none of the properties. */
static int32_t draw_other_name(struct json_compiler *c, json_t *properties, int32_t from)
{
    size_t n = json_object_size(properties), i = 0;
    const char **names = calloc(n + 1, sizeof *names), *name;
    json_t *value;
    int32_t to = automaton_state(&c->draft), free_at = automaton_state(&c->draft);
    if (!names) {
        json_out_of_memory(c);
        return to;
    }
    json_object_foreach(properties, name, value) names[i++] = name;
    if (n)
        qsort(names, n, sizeof *names, by_name);
    from = json_lexis_text(&c->lexis, "\"", from);
    draw_other(c, names, (int)n, 0, from, free_at, to);
    draw_other(c, NULL, 0, 0, free_at, free_at, to);
    free(names);
    return to;
}

/* ---- objects ---- */

/* An object half-way: `bare` has no property yet, `some` has; -1: it can't be so. */
struct half {
    int32_t bare, some;
};

/* Where the next property begins. */
static int32_t begin_property(struct json_compiler *c, const struct half *h)
{
    int32_t at = automaton_state(&c->draft);
    if (h->bare >= 0)
        automaton_empty(&c->draft, h->bare, at);
    if (h->some >= 0)
        automaton_empty(
            &c->draft,
            json_lexis_draw(&c->lexis, JSON_SPACE, json_lexis_text(&c->lexis, ",", h->some)), at);
    return at;
}

static int32_t draw_colon(struct json_compiler *c, int32_t from)
{
    return json_lexis_regex(&c->lexis, ": ?", false, from);
}

static void draw_property(struct json_compiler *c, struct half *h, const char *name,
                          const json_t *schema, bool required)
{
    json_t *key = json_string(name);
    int32_t at = begin_property(c, h), behind = automaton_state(&c->draft);
    if (!key)
        json_out_of_memory(c);
    else
        at = draw_colon(c, json_values_draw(c, &key, 1, at));
    json_decref(key);
    size_t mark = json_enter(c, name);
    automaton_empty(&c->draft, json_value_draw(c, schema, at), behind);
    json_leave(c, mark);
    if (!required && h->some >= 0)
        automaton_empty(&c->draft, h->some, behind);
    if (required)
        h->bare = -1;
    h->some = behind;
}

/* Any number of properties that are not listed. */
static void draw_others(struct json_compiler *c, struct half *h, json_t *properties,
                        const json_t *schema)
{
    int32_t loop = automaton_state(&c->draft);
    if (h->some >= 0)
        automaton_empty(&c->draft, h->some, loop);
    struct half both = {h->bare, loop};
    int32_t at = draw_colon(c, draw_other_name(c, properties, begin_property(c, &both)));
    size_t mark = json_enter(c, "additionalProperties");
    at = json_is_object(schema) ? json_value_draw(c, schema, at)
                                : json_lexis_draw(&c->lexis, JSON_ANY, at);
    json_leave(c, mark);
    automaton_empty(&c->draft, at, loop);
    h->some = loop;
}

static void check_object(struct json_compiler *c, const json_t *schema)
{
    const json_t *properties = json_object_get(schema, "properties");
    const json_t *required = json_object_get(schema, "required");
    const json_t *others = json_object_get(schema, "additionalProperties");
    if (properties && !json_is_object(properties))
        json_refuse(c, "properties", "it must be an object");
    if (required && !json_is_array(required))
        json_refuse(c, "required", "it must be a list of names");
    if (others && !json_is_boolean(others) && !json_is_object(others))
        json_refuse(c, "additionalProperties", "it must be true, false or a schema");
}

/* The names that are required, as the keys of an object. NULL: something is wrong. */
static json_t *required_names(struct json_compiler *c, const json_t *schema)
{
    const json_t *properties = json_object_get(schema, "properties");
    const json_t *required = json_object_get(schema, "required");
    json_t *names = json_object();
    for (size_t i = 0; i < json_array_size(required) && !c->rc; i++) {
        const char *name = json_string_value(json_array_get(required, i));
        if (!name)
            json_refuse(c, "required", "it must be a list of names");
        else if (!json_object_get(properties, name))
            json_refuse(c, "required", "'%.80s' is not among the properties", name);
        else if (json_object_set_new(names, name, json_true()))
            json_out_of_memory(c);
    }
    if (!names)
        json_out_of_memory(c);
    if (c->rc)
        json_decref(names);
    return c->rc ? NULL : names;
}

int32_t json_object_draw(struct json_compiler *c, const json_t *schema, int32_t from)
{
    json_t *properties = json_object_get(schema, "properties"), *value;
    const json_t *others = json_object_get(schema, "additionalProperties");
    const char *name;
    check_object(c, schema);
    json_t *required = c->rc ? NULL : required_names(c, schema);
    if (c->rc)
        return from;
    if (!properties && (!others || json_is_true(others))) {
        json_decref(required);
        return json_lexis_draw(&c->lexis, JSON_OBJECT_ANY, from);
    }
    struct half h = {json_lexis_draw(&c->lexis, JSON_SPACE, json_lexis_text(&c->lexis, "{", from)),
                     -1};
    size_t mark = json_enter(c, "properties");
    json_object_foreach(properties, name, value)
    {
        if (c->rc || c->draft.full)
            break;
        draw_property(c, &h, name, value, json_object_get(required, name) != NULL);
    }
    json_decref(required);
    json_leave(c, mark);
    if (json_is_true(others) || json_is_object(others))
        draw_others(c, &h, properties, others);
    int32_t end = automaton_state(&c->draft);
    if (h.bare >= 0)
        automaton_empty(&c->draft, h.bare, end);
    if (h.some >= 0)
        automaton_empty(&c->draft, json_lexis_draw(&c->lexis, JSON_SPACE, h.some), end);
    return json_lexis_text(&c->lexis, "}", end);
}

/* ---- arrays ---- */

struct items {
    const json_t *prefix; /* a schema for each of the first; */
    const json_t *rest;   /* for those behind; NULL: there are none */
    int least, most;      /* -1: no end */
    int rule;             /* of rest, -1: not drawn */
};

/* Items behind the prefix are a rule: there may be many. */
static int32_t draw_item(struct json_compiler *c, struct items *items, int i, int32_t from)
{
    int32_t to = automaton_state(&c->draft);
    if ((size_t)i < json_array_size(items->prefix)) {
        size_t mark = json_enter(c, "prefixItems"), inner = json_enter_item(c, (size_t)i);
        int32_t end = json_value_draw(c, json_array_get(items->prefix, (size_t)i), from);
        json_leave(c, inner);
        json_leave(c, mark);
        automaton_empty(&c->draft, end, to);
        return to;
    }
    if (items->rule < 0 && !c->draft.full) {
        size_t mark = json_enter(c, "items");
        items->rule = automaton_rule(&c->draft);
        if (!c->draft.full) {
            struct automaton_rule r = c->draft.rules[items->rule];
            automaton_empty(&c->draft, json_value_draw(c, items->rest, r.start), r.final);
        }
        json_leave(c, mark);
    }
    automaton_call(&c->draft, from, to, items->rule);
    return to;
}

/* What the schema says, with no more items than can be. */
static void read_items(struct json_compiler *c, const json_t *schema, struct items *items)
{
    const json_t *rest = json_object_get(schema, "items");
    *items = (struct items){json_object_get(schema, "prefixItems"), rest, 0, -1, -1};
    if (json_is_array(rest))
        json_refuse(c, "items", "a list is not supported: use 'prefixItems'");
    if (items->prefix && !json_array_size(items->prefix))
        json_refuse(c, "prefixItems", "it must be a list of schemas");
    if (!rest && !items->prefix)
        items->rest = json_true();
    if (json_is_false(rest))
        items->rest = NULL;
    json_count(c, schema, "minItems", &items->least);
    json_count(c, schema, "maxItems", &items->most);
    int prefix = (int)json_array_size(items->prefix);
    if (!items->rest && (items->most < 0 || items->most > prefix))
        items->most = prefix;
    if (items->most >= 0 && items->least > items->most)
        json_refuse(c, "minItems", "no list can have so many items");
}

int32_t json_array_draw(struct json_compiler *c, const json_t *schema, int32_t from)
{
    struct automaton_draft *d = &c->draft;
    struct items items;
    read_items(c, schema, &items);
    if (c->rc)
        return from;
    int32_t at = json_lexis_draw(&c->lexis, JSON_SPACE, json_lexis_text(&c->lexis, "[", from));
    int32_t end = automaton_state(d);
    int prefix = (int)json_array_size(items.prefix), i = 0;
    if (!items.least)
        automaton_empty(d, at, end);
    /* Without an end, the last of those that differ is followed by itself. */
    int last = items.most >= 0 ? items.most : (items.least > prefix ? items.least : prefix + 1);
    for (; i < last && !c->rc && !d->full; i++) {
        int32_t begin = automaton_state(d);
        if (i)
            at = json_lexis_draw(&c->lexis, JSON_SPACE, json_lexis_text(&c->lexis, ",", at));
        automaton_empty(d, at, begin);
        at = draw_item(c, &items, i, begin);
        if (i + 1 >= items.least)
            automaton_empty(d, json_lexis_draw(&c->lexis, JSON_SPACE, at), end);
        if (i + 1 == last && items.most < 0)
            automaton_empty(
                d, json_lexis_draw(&c->lexis, JSON_SPACE, json_lexis_text(&c->lexis, ",", at)),
                begin);
    }
    return json_lexis_text(&c->lexis, "]", end);
}
