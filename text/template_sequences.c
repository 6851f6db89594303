/* Filters on sequences and dictionaries. Where Jinja computes items as they are asked for, they are
 * computed at once here. */
#include <stdlib.h>
#include <string.h>

#include "text/template_lex.h"
#include "text/template_run.h"

/* ---- one item, all items ---- */

static struct value first(struct run *r, const struct call *call)
{
    struct value items = value_items(r, call->self);
    if (r->rc || !items.seq->n)
        return r->rc ? NONE : value_undefined(r, "first item", "sequence without items");
    return items.seq->items[0];
}

static struct value last(struct run *r, const struct call *call)
{
    if (call->self.kind == VALUE_ITERATOR)
        return run_fail(r, "a generator has no last item: use list before");
    struct value items = value_items(r, call->self);
    if (r->rc || !items.seq->n)
        return r->rc ? NONE : value_undefined(r, "last item", "sequence without items");
    return items.seq->items[items.seq->n - 1];
}

static struct value copy(struct run *r, struct value v, enum value_kind kind)
{
    struct value items = value_items(r, v);
    if (r->rc || !run_step(r, items.seq->n / 16))
        return NONE;
    struct value list = value_seq(r, kind, items.seq->n);
    for (size_t i = 0; !r->rc && i < items.seq->n; i++)
        seq_add(r, list, items.seq->items[i]);
    return list;
}

static struct value list(struct run *r, const struct call *call)
{
    return copy(r, call->self, VALUE_LIST);
}

static struct value reverse(struct run *r, const struct call *call)
{
    struct value back[3] = {NONE, NONE, INT(-1)};
    if (call->self.kind == VALUE_STRING)
        return value_range(r, call->self, back);
    bool iterator = call->self.kind != VALUE_ITERATOR;
    struct value all = copy(r, call->self, VALUE_LIST);
    all = value_range(r, all, back);
    if (!r->rc && iterator)
        all.kind = VALUE_ITERATOR;
    return all;
}

static struct value join(struct run *r, const struct call *call)
{
    struct value items = value_items(r, call->self);
    struct value between =
        call->a[0].kind == VALUE_ABSENT ? value_literal(r, "", 0) : value_str(r, call->a[0]);
    if (call->a[1].kind == VALUE_ABSENT || call->a[1].kind == VALUE_NONE || r->rc)
        return text_join(r, between, items, true);
    struct value picked = value_seq(r, VALUE_LIST, items.seq->n);
    for (size_t i = 0; i < items.seq->n && run_step(r, 1); i++)
        seq_add(r, picked, value_path(r, items.seq->items[i], call->a[1]));
    return text_join(r, between, picked, true);
}

/* ---- pairs ---- */

static struct value pair(struct run *r, struct value a, struct value b)
{
    struct value tuple = value_seq(r, VALUE_TUPLE, 2);
    seq_add(r, tuple, a);
    seq_add(r, tuple, b);
    return tuple;
}

struct value dict_pairs(struct run *r, const struct dict *dict, enum value_kind kind)
{
    struct value list = value_seq(r, kind, dict->n);
    for (size_t i = 0; i < dict->n && run_step(r, 1); i++)
        seq_add(r, list, pair(r, dict->keys[i], dict->values[i]));
    return list;
}

static struct value items(struct run *r, const struct call *call)
{
    if (call->self.kind == VALUE_UNDEFINED)
        return value_seq(r, VALUE_ITERATOR, 0);
    if (call->self.kind != VALUE_DICT)
        return run_fail(r, "items takes a dict, not a %s", value_type(call->self));
    return dict_pairs(r, call->self.dict, VALUE_ITERATOR);
}

/* ---- order ---- */

struct sorting {
    struct value key, item;
    size_t place;
};
struct order {
    struct run *run;
    bool reverse;
};

/* Equal keys keep their order, in reverse too. */
static int by_key(const void *a, const void *b, void *order)
{
    const struct sorting *x = a, *y = b;
    const struct order *o = order;
    int c = 0;
    if (!o->run->rc && !value_equal(o->run, x->key, y->key))
        c = value_compare(o->run, x->key, y->key);
    c = o->reverse ? -c : c;
    return c ? c : x->place < y->place ? -1 : 1;
}

static struct value fold(struct run *r, struct value key, struct value case_sensitive)
{
    bool lower = key.kind == VALUE_STRING && !value_truth(r, case_sensitive);
    return lower ? text_case(r, key, TEXT_LOWER) : key;
}

/* The key of an item: an attribute, or a list of them named with commas. */
static struct value sort_key(struct run *r, struct value item, struct value path,
                             struct value case_sensitive)
{
    if (path.kind != VALUE_STRING || !memchr(path.string->bytes, ',', path.string->len))
        return fold(r, value_path(r, item, path), case_sensitive);
    struct value keys = value_seq(r, VALUE_LIST, 2);
    for (size_t at = 0, end; at <= path.string->len && run_step(r, 1); at = end + 1) {
        for (end = at; end < path.string->len && path.string->bytes[end] != ','; end++)
            ;
        struct value part = value_slice(r, path, at, end);
        seq_add(r, keys, fold(r, value_path(r, item, part), case_sensitive));
    }
    return keys;
}

static struct value sorted(struct run *r, struct value in, struct value path,
                           struct value case_sensitive, bool reverse)
{
    if (r->rc)
        return NONE;
    size_t n = in.seq->n;
    struct sorting *all = run_take(r, n, sizeof *all);
    struct value result = value_seq(r, VALUE_LIST, n);
    for (size_t i = 0; all && i < n && run_step(r, 1); i++)
        all[i] = (struct sorting){sort_key(r, in.seq->items[i], path, case_sensitive),
                                  in.seq->items[i], i};
    struct order order = {r, reverse};
    if (!r->rc)
        qsort_r(all, n, sizeof *all, by_key, &order);
    for (size_t i = 0; !r->rc && i < n; i++)
        seq_add(r, result, all[i].item);
    return result;
}

static struct value sort(struct run *r, const struct call *call)
{
    return sorted(r, value_items(r, call->self), call->a[2], call->a[1],
                  value_truth(r, call->a[0]));
}

static struct value dictsort(struct run *r, const struct call *call)
{
    if (call->self.kind != VALUE_DICT)
        return run_fail(r, "dictsort takes a dict, not a %s", value_type(call->self));
    bool by_value = value_is(call->a[1], "value");
    if (call->a[1].kind != VALUE_ABSENT && !by_value && !value_is(call->a[1], "key"))
        return run_fail(r, "dictsort sorts by \"key\" or by \"value\"");
    return sorted(r, dict_pairs(r, call->self.dict, VALUE_LIST), INT(by_value), call->a[0],
                  value_truth(r, call->a[2]));
}

static struct value unique(struct run *r, const struct call *call)
{
    struct value in = value_items(r, call->self);
    struct value seen = value_seq(r, VALUE_LIST, 0), result = value_seq(r, VALUE_ITERATOR, 0);
    for (size_t i = 0; !r->rc && i < in.seq->n && run_step(r, 1); i++) {
        struct value key = fold(r, value_path(r, in.seq->items[i], call->a[1]), call->a[0]);
        if (!value_hashable(key))
            return run_fail(r, "unique cannot compare a %s", value_type(key));
        if (value_in(r, key, seen))
            continue;
        seq_add(r, seen, key);
        seq_add(r, result, in.seq->items[i]);
    }
    return result;
}

static struct value extreme(struct run *r, const struct call *call, int sign)
{
    struct value in = value_items(r, call->self), best = NONE, best_key = NONE;
    for (size_t i = 0; !r->rc && i < in.seq->n && run_step(r, 1); i++) {
        struct value key = fold(r, value_path(r, in.seq->items[i], call->a[1]), call->a[0]);
        if (i && value_compare(r, key, best_key) * sign <= 0)
            continue;
        best = in.seq->items[i];
        best_key = key;
    }
    return r->rc || in.seq->n ? best : value_undefined(r, "item", "sequence without items");
}

static struct value min(struct run *r, const struct call *call)
{
    return extreme(r, call, -1);
}

static struct value max(struct run *r, const struct call *call)
{
    return extreme(r, call, 1);
}

static struct value sum(struct run *r, const struct call *call)
{
    struct value in = value_items(r, call->self);
    struct value total = call->a[1].kind == VALUE_ABSENT ? INT(0) : call->a[1];
    if (total.kind == VALUE_STRING)
        return run_fail(r, "sum does not join strings: use join");
    for (size_t i = 0; !r->rc && i < in.seq->n && run_step(r, 1); i++)
        total = op_binary(r, LEX_ADD, total, value_path(r, in.seq->items[i], call->a[0]));
    return total;
}

static struct value batch(struct run *r, const struct call *call)
{
    struct value in = value_items(r, call->self), result = value_seq(r, VALUE_ITERATOR, 0);
    struct value part = value_seq(r, VALUE_LIST, 0);
    int64_t n;
    if (!value_int(call->a[0], &n) || n < 1 || n > RUN_RANGE)
        return run_fail(r, "batch takes a number of items from 1 to %d", RUN_RANGE);
    for (size_t i = 0; !r->rc && i < in.seq->n && run_step(r, 1); i++) {
        if (part.seq->n == (size_t)n) {
            seq_add(r, result, part);
            part = value_seq(r, VALUE_LIST, 0);
        }
        seq_add(r, part, in.seq->items[i]);
    }
    bool fill = call->a[1].kind != VALUE_ABSENT && call->a[1].kind != VALUE_NONE;
    while (!r->rc && fill && part.seq->n && part.seq->n < (size_t)n && run_step(r, 1))
        seq_add(r, part, call->a[1]);
    if (!r->rc && part.seq->n)
        seq_add(r, result, part);
    return result;
}

/* ---- map, select, reject ---- */

/* The filter or test named by args[from], with the arguments behind it. */
static const struct builtin *named(struct run *r, const struct args *args, size_t from, bool test,
                                   struct args *rest)
{
    struct value name = args->values[from];
    char text[64] = "";
    if (name.kind == VALUE_STRING && name.string->len < sizeof text)
        memcpy(text, name.string->bytes, name.string->len);
    const struct builtin *found = test ? test_find(text) : filter_find(text);
    if (!found)
        run_fail(r, "there is no %s \"%s\"", test ? "test" : "filter", text);
    *rest = *args;
    rest->values += from + 1;
    rest->n -= from + 1;
    return found;
}

static const struct value *keyword(const struct args *args, const char *name)
{
    for (size_t i = 0; i < args->n_named; i++)
        if (!strcmp(args->named[i].name, name))
            return &args->named[i].value;
    return NULL;
}

static struct value map(struct run *r, const struct call *call)
{
    const struct args *args = call->args;
    const struct value *path = args->n ? NULL : keyword(args, "attribute");
    const struct value *otherwise = keyword(args, "default");
    const struct builtin *filter = NULL;
    struct args rest;
    if (!value_truth(r, call->self))
        return value_seq(r, VALUE_ITERATOR, 0);
    if (!path && !args->n)
        return run_fail(r, "map needs a filter's name or attribute=");
    if (!path)
        filter = named(r, args, 0, false, &rest);
    struct value in = value_items(r, call->self), result = value_seq(r, VALUE_ITERATOR, 0);
    for (size_t i = 0; !r->rc && i < in.seq->n && run_step(r, 1); i++) {
        struct value item = in.seq->items[i];
        if (filter)
            item = builtin_call(r, filter, item, &rest);
        else
            item = value_path(r, item, *path);
        if (path && otherwise && item.kind == VALUE_UNDEFINED)
            item = *otherwise;
        seq_add(r, result, item);
    }
    return result;
}

/* The items for which a test of theirs, or of an attribute of theirs, has the outcome `wanted`. */
static struct value filtered(struct run *r, const struct call *call, bool attribute, bool wanted)
{
    const struct args *args = call->args;
    struct value result = value_seq(r, VALUE_ITERATOR, 0);
    if (!value_truth(r, call->self))
        return result;
    if (attribute && !args->n)
        return run_fail(r, "selectattr and rejectattr need an attribute's name");
    size_t at = attribute;
    struct args rest;
    const struct builtin *test = args->n > at ? named(r, args, at, true, &rest) : NULL;
    struct value in = value_items(r, call->self);
    for (size_t i = 0; !r->rc && i < in.seq->n && run_step(r, 1); i++) {
        struct value item = in.seq->items[i], v = item;
        if (attribute)
            v = value_path(r, item, args->values[0]);
        if (test)
            v = builtin_call(r, test, v, &rest);
        if (value_truth(r, v) == wanted)
            seq_add(r, result, item);
    }
    return result;
}

static struct value select_filter(struct run *r, const struct call *call)
{
    return filtered(r, call, false, true);
}

static struct value reject(struct run *r, const struct call *call)
{
    return filtered(r, call, false, false);
}

static struct value selectattr(struct run *r, const struct call *call)
{
    return filtered(r, call, true, true);
}

static struct value rejectattr(struct run *r, const struct call *call)
{
    return filtered(r, call, true, false);
}

const struct builtin seq_filters[] = {
    {"first", first, {0}, 0, false},
    {"last", last, {0}, 0, false},
    {"list", list, {0}, 0, false},
    {"reverse", reverse, {0}, 0, false},
    {"join", join, {"d", "attribute"}, 0, false},
    {"items", items, {0}, 0, false},
    {"sort", sort, {"reverse", "case_sensitive", "attribute"}, 0, false},
    {"dictsort", dictsort, {"case_sensitive", "by", "reverse"}, 0, false},
    {"unique", unique, {"case_sensitive", "attribute"}, 0, false},
    {"min", min, {"case_sensitive", "attribute"}, 0, false},
    {"max", max, {"case_sensitive", "attribute"}, 0, false},
    {"sum", sum, {"attribute", "start"}, 0, false},
    {"batch", batch, {"linecount", "fill_with"}, 1, false},
    {"map", map, {0}, 0, true},
    {"select", select_filter, {0}, 0, true},
    {"reject", reject, {0}, 0, true},
    {"selectattr", selectattr, {0}, 0, true},
    {"rejectattr", rejectattr, {0}, 0, true},
    {0},
};
