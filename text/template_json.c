/* A conversation's JSON to values. Its strings are not copied, and marked all over. */
#include <string.h>

#include "text/template_run.h"

/* Marks for a text that is marked all over, shared by all such texts. */
static const char *ones(struct run *r, size_t len)
{
    if (len > r->n_ones) {
        size_t room = len > 2 * r->n_ones ? len + 64 : 2 * r->n_ones;
        char *marks = run_take(r, room, 1);
        if (!marks)
            return NULL;
        memset(marks, 1, room);
        r->ones = marks;
        r->n_ones = room;
    }
    return r->ones;
}

static struct value text(struct run *r, const char *bytes, size_t len)
{
    struct marked *marked = run_take(r, 1, sizeof *marked);
    const char *marks = ones(r, len);
    if (!marked || r->rc)
        return NONE;
    *marked = (struct marked){.bytes = bytes, .marks = marks, .len = len};
    return (struct value){.kind = VALUE_STRING, .string = marked};
}

static struct value list(struct run *r, const json_t *json)
{
    size_t n = json_array_size(json);
    struct value list = value_seq(r, VALUE_LIST, n);
    for (size_t i = 0; i < n && !r->rc; i++)
        seq_add(r, list, value_from_json(r, json_array_get(json, i)));
    return list;
}

/* Keys are unique already: they go in without a search. */
static struct value object(struct run *r, const json_t *json)
{
    struct value v = value_dict(r, VALUE_DICT, json_object_size(json));
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)json, key, item)
    {
        struct value name = text(r, key, strlen(key)), value = value_from_json(r, item);
        if (r->rc || v.dict->n == v.dict->room)
            break;
        v.dict->keys[v.dict->n] = name;
        v.dict->values[v.dict->n++] = value;
    }
    return v;
}

struct value value_from_json(struct run *r, const json_t *json)
{
    struct value v = NONE;
    if (run_enter(r))
        switch (json_typeof(json)) {
        case JSON_OBJECT:
            v = object(r, json);
            break;
        case JSON_ARRAY:
            v = list(r, json);
            break;
        case JSON_STRING:
            v = text(r, json_string_value(json), json_string_length(json));
            break;
        case JSON_INTEGER:
            v = INT(json_integer_value(json));
            break;
        case JSON_REAL:
            v = FLOAT(json_real_value(json));
            break;
        case JSON_TRUE:
        case JSON_FALSE:
            v = BOOL(json_is_true(json));
            break;
        case JSON_NULL:
            break;
        }
    r->depth--;
    return v;
}
