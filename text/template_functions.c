/* Functions that every template has: Jinja's own and those that model makers count on. */
#include <string.h>
#include <time.h>

#include "text/template_run.h"

static struct value raise_exception(struct run *r, const struct call *call)
{
    struct value text = value_str(r, call->a[0]);
    return r->rc
               ? NONE
               : run_fail(r, "the template says: %.*s",
                          text.string->len < 300 ? (int)text.string->len : 300, text.string->bytes);
}

static struct value strftime_now(struct run *r, const struct call *call)
{
    char format[256], text[1024];
    struct tm now;
    if (call->a[0].kind != VALUE_STRING || call->a[0].string->len >= sizeof format - 1)
        return run_fail(r, "strftime_now takes a str of at most 254 bytes");
    size_t len = call->a[0].string->len;
    memcpy(format, call->a[0].string->bytes, len);
    memcpy(format + len, " ", 2); /* so that no text is not taken for too little room */
    if (!localtime_r(&r->input->now, &now))
        return run_fail(r, "strftime_now: the time is not one of a calendar");
    size_t n = strftime(text, sizeof text, format, &now);
    struct builder b = {.run = r};
    builder_add(&b, text, NULL, n ? n - 1 : 0);
    return n ? builder_string(&b) : run_fail(r, "strftime_now gives more than 1023 bytes");
}

static void set_pair(struct run *r, struct value dict, struct value pair)
{
    struct value items = value_items(r, pair);
    if (r->rc)
        return;
    if (items.seq->n != 2)
        run_fail(r, "dict takes pairs of a key and a value");
    else
        dict_set(r, dict, items.seq->items[0], items.seq->items[1]);
}

/* From a dictionary, a sequence of pairs, and named arguments. */
static struct value dict_of(struct run *r, const struct call *call, enum value_kind kind)
{
    const struct args *args = call->args;
    struct value dict = value_dict(r, kind, args->n_named);
    if (args->n > 1)
        return run_fail(r, "dict and namespace take at most one argument without a name");
    struct value from = args->n ? args->values[0] : NONE;
    if (args->n && from.kind == VALUE_DICT) {
        for (size_t i = 0; i < from.dict->n && run_step(r, 1); i++)
            dict_set(r, dict, from.dict->keys[i], from.dict->values[i]);
    } else if (args->n) {
        from = value_items(r, from);
        for (size_t i = 0; !r->rc && i < from.seq->n && run_step(r, 1); i++)
            set_pair(r, dict, from.seq->items[i]);
    }
    for (size_t i = 0; i < args->n_named; i++) {
        const char *name = args->named[i].name;
        dict_set(r, dict, value_literal(r, name, strlen(name)), args->named[i].value);
    }
    return dict;
}

static struct value dict(struct run *r, const struct call *call)
{
    return dict_of(r, call, VALUE_DICT);
}

static struct value namespace(struct run *r, const struct call *call)
{
    return dict_of(r, call, VALUE_NAMESPACE);
}

/* The number of items is counted first: no range is too long for that. */
static struct value range(struct run *r, const struct call *call)
{
    int64_t part[3] = {0, 0, 1};
    size_t n = call->a[1].kind == VALUE_ABSENT ? 1 : call->a[2].kind == VALUE_ABSENT ? 2 : 3;
    for (size_t i = 0; i < n; i++)
        if (!value_int(call->a[i], n == 1 ? &part[1] : &part[i]))
            return run_fail(r, "range takes whole numbers, not a %s", value_type(call->a[i]));
    if (part[2] == 0)
        return run_fail(r, "range takes no step of 0");
    struct value list = value_seq(r, VALUE_RANGE, 0);
    if (r->rc)
        return NONE;
    list.seq->start = part[0];
    list.seq->stop = part[1];
    list.seq->step = part[2];
    for (int64_t i = part[0]; part[2] > 0 ? i < part[1] : i > part[1];) {
        if (list.seq->n == RUN_RANGE)
            return run_fail(r, "a range has more than %d items", RUN_RANGE);
        run_step(r, list.seq->n % 16 == 0);
        seq_add(r, list, INT(i));
        if (r->rc || __builtin_add_overflow(i, part[2], &i))
            break;
    }
    return list;
}

const struct builtin jinja_functions[] = {
    {"raise_exception", raise_exception, {"message"}, 1, false},
    {"strftime_now", strftime_now, {"format"}, 1, false},
    {"namespace", namespace, {0}, 0, true},
    {"dict", dict, {0}, 0, true},
    {"range", range, {"start", "stop", "step"}, 1, false},
    {0},
};
