/* What Python does with values: truth, equality, order, membership, length. */
#include "text/template_value.h"

#include <stdlib.h>
#include <string.h>

#include "text/template_chars.h"
#include "text/template_run.h"

struct value value_literal(struct run *r, const char *bytes, size_t len)
{
    struct marked *marked = run_take(r, 1, sizeof *marked);
    if (!marked)
        return NONE;
    *marked = (struct marked){.bytes = bytes, .len = len};
    return (struct value){.kind = VALUE_STRING, .string = marked};
}

struct value value_slice(struct run *r, struct value string, size_t begin, size_t end)
{
    const struct marked *whole = string.string;
    if (begin == 0 && end == whole->len)
        return string;
    struct marked *part = run_take(r, 1, sizeof *part);
    if (!part)
        return NONE;
    *part = (struct marked){.bytes = whole->bytes + begin,
                            .marks = whole->marks ? whole->marks + begin : NULL,
                            .len = end - begin};
    string.string = part;
    return string;
}

bool value_is(struct value v, const char *text)
{
    return v.kind == VALUE_STRING && v.string->len == strlen(text) &&
           !memcmp(v.string->bytes, text, v.string->len);
}

/* ---- sequences ---- */

struct value value_seq(struct run *r, enum value_kind kind, size_t room)
{
    struct seq *seq = run_take(r, 1, sizeof *seq);
    struct value *items = run_take(r, room, sizeof *items);
    if (!seq || !items)
        return NONE;
    *seq = (struct seq){.items = items, .room = room};
    return (struct value){.kind = (uint8_t)kind, .seq = seq};
}

void seq_add(struct run *r, struct value v, struct value item)
{
    if (r->rc)
        return;
    struct seq *seq = v.seq;
    if (seq->n == seq->room) {
        size_t room = seq->room ? seq->room * 2 : 8;
        struct value *grown = run_take(r, room, sizeof *grown);
        if (!grown)
            return;
        if (seq->n)
            memcpy(grown, seq->items, seq->n * sizeof *grown);
        seq->items = grown;
        seq->room = room;
    }
    seq->items[seq->n++] = item;
}

/* ---- dictionaries ---- */

struct value value_dict(struct run *r, enum value_kind kind, size_t room)
{
    struct dict *dict = run_take(r, 1, sizeof *dict);
    struct value *keys = run_take(r, room, sizeof *keys);
    struct value *values = run_take(r, room, sizeof *values);
    if (!dict || !keys || !values)
        return NONE;
    *dict = (struct dict){.keys = keys, .values = values, .room = room};
    return (struct value){.kind = (uint8_t)kind, .dict = dict};
}

static int by_text(const struct marked *a, const struct marked *b)
{
    size_t n = a->len < b->len ? a->len : b->len;
    int c = n ? memcmp(a->bytes, b->bytes, n) : 0;
    return c ? c : (a->len > b->len) - (a->len < b->len);
}

static int by_key(const void *a, const void *b, void *keys)
{
    const struct value *k = keys;
    return by_text(k[*(const uint32_t *)a].string, k[*(const uint32_t *)b].string);
}

/* Sorts the keys, if they are many and all strings; in the order of the keys no sender can make a
 * search slow, as he could with a hash. */
static bool ordered(struct run *r, struct dict *dict)
{
    if (dict->order || dict->n < 16 || dict->n > UINT32_MAX)
        return dict->order;
    for (size_t i = 0; i < dict->n; i++)
        if (dict->keys[i].kind != VALUE_STRING)
            return false;
    uint32_t *order = run_take(r, dict->n, sizeof *order);
    if (!order || !run_step(r, dict->n))
        return false;
    for (size_t i = 0; i < dict->n; i++)
        order[i] = (uint32_t)i;
    qsort_r(order, dict->n, sizeof *order, by_key, dict->keys);
    dict->order = order;
    return true;
}

const struct value *dict_find(struct run *r, const struct dict *dict, struct value key)
{
    if (key.kind == VALUE_STRING && ordered(r, (struct dict *)dict)) {
        size_t low = 0, high = dict->n;
        while (low < high) {
            size_t middle = low + (high - low) / 2;
            int c = by_text(key.string, dict->keys[dict->order[middle]].string);
            if (c == 0)
                return &dict->values[dict->order[middle]];
            *(c < 0 ? &high : &low) = c < 0 ? middle : middle + 1;
        }
        return NULL;
    }
    run_step(r, dict->n / 16);
    for (size_t i = 0; i < dict->n && !r->rc; i++)
        if (value_equal(r, dict->keys[i], key))
            return &dict->values[i];
    return NULL;
}

const struct value *dict_get(struct run *r, const struct dict *dict, const char *key)
{
    struct marked marked = {.bytes = key, .len = strlen(key)};
    return dict_find(r, dict, (struct value){.kind = VALUE_STRING, .string = &marked});
}

static bool grow(struct run *r, struct dict *dict)
{
    size_t room = dict->room ? dict->room * 2 : 8;
    struct value *keys = run_take(r, room, sizeof *keys);
    struct value *values = run_take(r, room, sizeof *values);
    if (!keys || !values)
        return false;
    if (dict->n) {
        memcpy(keys, dict->keys, dict->n * sizeof *keys);
        memcpy(values, dict->values, dict->n * sizeof *values);
    }
    dict->keys = keys;
    dict->values = values;
    dict->room = room;
    return true;
}

void dict_set(struct run *r, struct value v, struct value key, struct value item)
{
    if (r->rc)
        return;
    struct dict *dict = v.dict;
    if (!value_hashable(key)) {
        run_fail(r, "a %s cannot be a key", value_type(key));
        return;
    }
    const struct value *there = dict_find(r, dict, key);
    if (there) {
        dict->values[there - dict->values] = item;
        return;
    }
    if (r->rc || (dict->n == dict->room && !grow(r, dict)))
        return;
    dict->order = NULL;
    dict->keys[dict->n] = key;
    dict->values[dict->n++] = item;
}

/* ---- kinds ---- */

const char *value_type(struct value v)
{
    static const char *const names[] = {"nothing",    "undefined value", "NoneType",  "bool",
                                        "int",        "float",           "str",       "list",
                                        "tuple",      "range",           "dict_keys", "dict_values",
                                        "dict_items", "generator",       "dict",      "Namespace",
                                        "Macro",      "LoopContext",     "function",  "method"};
    return names[v.kind];
}

bool value_int(struct value v, int64_t *integer)
{
    if (v.kind != VALUE_INT && v.kind != VALUE_BOOL)
        return false;
    *integer = v.kind == VALUE_INT ? v.integer : v.truth;
    return true;
}

bool value_number(struct value v, double *real)
{
    int64_t integer;
    if (value_int(v, &integer))
        *real = (double)integer;
    else if (v.kind == VALUE_FLOAT)
        *real = v.real;
    else
        return false;
    return true;
}

bool value_hashable(struct value v)
{
    if (v.kind == VALUE_TUPLE) {
        /* Tuples of tuples are looked into once: keys that deep are not worth a stack. */
        for (size_t i = 0; i < v.seq->n; i++) {
            struct value item = v.seq->items[i];
            if (item.kind == VALUE_TUPLE || !value_hashable(item))
                return false;
        }
        return true;
    }
    return v.kind != VALUE_LIST && v.kind != VALUE_DICT && v.kind != VALUE_KEYS &&
           v.kind != VALUE_ITEMS;
}

bool value_truth(struct run *r, struct value v)
{
    switch (v.kind) {
    case VALUE_ABSENT:
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return false;
    case VALUE_BOOL:
        return v.truth;
    case VALUE_INT:
        return v.integer != 0;
    case VALUE_FLOAT:
        return v.real != 0;
    case VALUE_ITERATOR:
        return true;
    default:
        return value_length(r, v) != 0;
    }
}

/* ---- comparison ---- */

static bool equal_seqs(struct run *r, const struct seq *a, const struct seq *b)
{
    bool equal = a->n == b->n && run_enter(r);
    for (size_t i = 0; equal && i < a->n; i++)
        equal = value_equal(r, a->items[i], b->items[i]);
    if (a->n == b->n)
        r->depth--;
    return equal;
}

static bool equal_dicts(struct run *r, const struct dict *a, const struct dict *b)
{
    if (a->n != b->n)
        return false;
    bool equal = run_enter(r);
    for (size_t i = 0; equal && i < a->n; i++) {
        const struct value *other = dict_find(r, b, a->keys[i]);
        equal = other && value_equal(r, a->values[i], *other);
    }
    r->depth--;
    return equal;
}

bool value_equal(struct run *r, struct value a, struct value b)
{
    double x, y;
    int64_t i, k;
    if (!run_step(r, 1))
        return false;
    if (value_int(a, &i) && value_int(b, &k))
        return i == k;
    if (value_number(a, &x) && value_number(b, &y))
        return x == y;
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return true;
    case VALUE_STRING:
        return a.string->len == b.string->len && run_bytes(r, a.string->len) &&
               !by_text(a.string, b.string);
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_RANGE:
        return equal_seqs(r, a.seq, b.seq);
    case VALUE_DICT:
        return equal_dicts(r, a.dict, b.dict);
    default:
        return a.seq == b.seq; /* the same thing, whichever pointer it has */
    }
}

static int compare_seqs(struct run *r, const struct seq *a, const struct seq *b)
{
    int c = 0;
    if (run_enter(r))
        for (size_t i = 0; i < a->n && i < b->n && !c; i++)
            if (!value_equal(r, a->items[i], b->items[i]))
                c = value_compare(r, a->items[i], b->items[i]);
    r->depth--;
    return c ? c : (a->n > b->n) - (a->n < b->n);
}

int value_compare(struct run *r, struct value a, struct value b)
{
    double x, y;
    int64_t i, k;
    if (!run_step(r, 1))
        return 0;
    if (value_int(a, &i) && value_int(b, &k))
        return (i > k) - (i < k);
    if (value_number(a, &x) && value_number(b, &y))
        return (x > y) - (x < y);
    if (a.kind == VALUE_STRING && b.kind == VALUE_STRING) {
        run_bytes(r, a.string->len);
        return by_text(a.string, b.string);
    }
    if ((a.kind == VALUE_LIST || a.kind == VALUE_TUPLE) && a.kind == b.kind)
        return compare_seqs(r, a.seq, b.seq);
    run_fail(r, "a %s and a %s cannot be put in order", value_type(a), value_type(b));
    return 0;
}

bool value_in(struct run *r, struct value item, struct value in)
{
    if (in.kind == VALUE_STRING) {
        if (item.kind != VALUE_STRING) {
            run_fail(r, "only a str can be in a str, not a %s", value_type(item));
            return false;
        }
        return run_bytes(r, in.string->len) &&
               memmem(in.string->bytes, in.string->len, item.string->bytes, item.string->len);
    }
    if (in.kind == VALUE_DICT || in.kind == VALUE_KEYS) {
        if (!value_hashable(item))
            run_fail(r, "a %s cannot be a key", value_type(item));
        if (in.kind == VALUE_DICT)
            return !r->rc && dict_find(r, in.dict, item);
    }
    struct value items = value_items(r, in);
    for (size_t i = 0; !r->rc && i < items.seq->n; i++)
        if (value_equal(r, items.seq->items[i], item))
            return true;
    return false;
}

/* ---- iteration ---- */

bool value_iterable(struct value v)
{
    return value_is_seq(v) || v.kind == VALUE_STRING || v.kind == VALUE_DICT ||
           v.kind == VALUE_UNDEFINED || v.kind == VALUE_LOOP;
}

static struct value characters(struct run *r, struct value string)
{
    const struct marked *s = string.string;
    struct value list = value_seq(r, VALUE_LIST, 8);
    string.safe = false;
    for (size_t at = 0, n; !r->rc && at < s->len; at += n) {
        chars_decode(s->bytes + at, s->bytes + s->len, &n);
        run_step(r, 1);
        seq_add(r, list, value_slice(r, string, at, at + n));
    }
    return list;
}

struct value value_items(struct run *r, struct value v)
{
    if (v.kind == VALUE_STRING)
        return characters(r, v);
    if (v.kind == VALUE_UNDEFINED)
        return value_seq(r, VALUE_LIST, 0);
    if (v.kind != VALUE_DICT && v.kind != VALUE_ITERATOR) {
        if (!value_is_seq(v))
            return run_fail(r, "a %s cannot be iterated over", value_type(v));
        return v;
    }
    struct value list = value_seq(r, VALUE_LIST, 0);
    if (r->rc)
        return list;
    if (v.kind == VALUE_ITERATOR) {
        *list.seq = *v.seq;
        *v.seq = (struct seq){0};
    } else {
        list.seq->items = v.dict->keys;
        list.seq->n = list.seq->room = v.dict->n;
    }
    return list;
}

int64_t value_length(struct run *r, struct value v)
{
    if (v.kind == VALUE_STRING) {
        run_chars(r, v.string->len);
        return (int64_t)chars_count(v.string->bytes, v.string->len);
    }
    if (value_is_seq(v) && v.kind != VALUE_ITERATOR)
        return (int64_t)v.seq->n;
    return v.kind == VALUE_DICT ? (int64_t)v.dict->n : v.kind == VALUE_UNDEFINED ? 0 : -1;
}
