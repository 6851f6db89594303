/* The methods of dictionaries, lists and tuples. Those of strings are in template_text_methods.c.
 */
#include "text/template_run.h"

static struct value get(struct run *r, const struct call *call)
{
    if (!value_hashable(call->a[0]))
        return run_fail(r, "a %s cannot be a key", value_type(call->a[0]));
    const struct value *found = dict_find(r, call->self.dict, call->a[0]);
    return found ? *found : call->a[1].kind == VALUE_ABSENT ? NONE : call->a[1];
}

static struct value view(struct run *r, const struct dict *dict, enum value_kind kind)
{
    struct value seq = value_seq(r, kind, 0);
    if (r->rc)
        return NONE;
    seq.seq->items = kind == VALUE_KEYS ? dict->keys : dict->values;
    seq.seq->n = seq.seq->room = dict->n;
    return seq;
}

static struct value keys(struct run *r, const struct call *call)
{
    return view(r, call->self.dict, VALUE_KEYS);
}

static struct value values(struct run *r, const struct call *call)
{
    return view(r, call->self.dict, VALUE_VALUES);
}

static struct value items_method(struct run *r, const struct call *call)
{
    return dict_pairs(r, call->self.dict, VALUE_ITEMS);
}

static struct value copy_method(struct run *r, const struct call *call)
{
    (void)r;
    return call->self;
}

static struct value count(struct run *r, const struct call *call)
{
    int64_t n = 0;
    for (size_t i = 0; i < call->self.seq->n && !r->rc; i++)
        n += value_equal(r, call->self.seq->items[i], call->a[0]);
    return INT(n);
}

static struct value index_method(struct run *r, const struct call *call)
{
    for (size_t i = 0; i < call->self.seq->n && !r->rc; i++)
        if (value_equal(r, call->self.seq->items[i], call->a[0]))
            return INT((int64_t)i);
    return run_fail(r, "index found no such item");
}

/* What would change them is there, but the sandbox hides it. */
const struct builtin dict_methods[] = {
    {"get", get, {"key", "default"}, 1, false},
    {"items", items_method, {0}, 0, false},
    {"keys", keys, {0}, 0, false},
    {"values", values, {0}, 0, false},
    {"copy", copy_method, {0}, 0, false},
    {"clear", NULL, {0}, 0, false},
    {"pop", NULL, {0}, 0, false},
    {"popitem", NULL, {0}, 0, false},
    {"setdefault", NULL, {0}, 0, false},
    {"update", NULL, {0}, 0, false},
    {0},
};

const struct builtin tuple_methods[] = {
    {"count", count, {"value"}, 1, false},
    {"index", index_method, {"value"}, 1, false},
    {0},
};

const struct builtin list_methods[] = {
    {"count", count, {"value"}, 1, false}, {"index", index_method, {"value"}, 1, false},
    {"copy", copy_method, {0}, 0, false},  {"append", NULL, {0}, 0, false},
    {"clear", NULL, {0}, 0, false},        {"extend", NULL, {0}, 0, false},
    {"insert", NULL, {0}, 0, false},       {"pop", NULL, {0}, 0, false},
    {"remove", NULL, {0}, 0, false},       {"reverse", NULL, {0}, 0, false},
    {"sort", NULL, {0}, 0, false},         {0},
};
