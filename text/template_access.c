/* Attributes, items and slices of values, as Python and Jinja's sandbox have them. */
#include <string.h>

#include "text/template_chars.h"
#include "text/template_run.h"

struct value value_undefined(struct run *r, const char *name, const char *owner)
{
    struct missing *missing = run_take(r, 1, sizeof *missing);
    if (!missing)
        return NONE;
    *missing = (struct missing){name, owner};
    return (struct value){.kind = VALUE_UNDEFINED, .missing = missing};
}

bool value_defined(struct run *r, struct value v)
{
    if (v.kind == VALUE_UNDEFINED && v.missing->owner)
        run_fail(r, "a %s has no \"%.100s\"", v.missing->owner, v.missing->name);
    else if (v.kind == VALUE_UNDEFINED)
        run_fail(r, "\"%.100s\" is undefined", v.missing->name);
    return !r->rc;
}

static struct value method(struct run *r, const struct builtin *table, struct value self,
                           const char *name)
{
    const struct builtin *builtin = builtin_find(table, name);
    struct method *bound = builtin ? run_take(r, 1, sizeof *bound) : NULL;
    if (!bound)
        return (struct value){.kind = VALUE_ABSENT};
    *bound = (struct method){builtin, self};
    return (struct value){.kind = VALUE_METHOD, .method = bound};
}

/* What Python's getattr() finds; ABSENT for nothing. */
static struct value own_attr(struct run *r, struct value v, const char *name)
{
    switch (v.kind) {
    case VALUE_STRING:
        return method(r, text_methods, v, name);
    case VALUE_DICT:
        return method(r, dict_methods, v, name);
    case VALUE_LIST:
        return method(r, list_methods, v, name);
    case VALUE_TUPLE:
    case VALUE_RANGE:
        return method(r, tuple_methods, v, name);
    case VALUE_LOOP:
        return method(r, loop_methods, v, name);
    case VALUE_NAMESPACE: {
        const struct value *found = dict_get(r, v.dict, name);
        return found ? *found : (struct value){.kind = VALUE_ABSENT};
    }
    default:
        return (struct value){.kind = VALUE_ABSENT};
    }
}

struct value value_attr(struct run *r, struct value v, const char *name)
{
    if (r->rc || !value_defined(r, v))
        return NONE;
    struct value found = own_attr(r, v, name);
    /* The loop's attributes are computed, not called. */
    if (found.kind == VALUE_METHOD && v.kind == VALUE_LOOP && !found.method->builtin->variadic)
        return found.method->builtin->fn(r, &(struct call){.self = v});
    if (found.kind == VALUE_METHOD && !found.method->builtin->fn)
        return value_undefined(r, name, "value that may not be changed");
    if (found.kind != VALUE_ABSENT)
        return found;
    const struct value *item = v.kind == VALUE_DICT ? dict_get(r, v.dict, name) : NULL;
    return item ? *item : value_undefined(r, name, value_type(v));
}

static struct value character(struct run *r, struct value v, int64_t index)
{
    const struct marked *s = v.string;
    if (index < 0)
        index += value_length(r, v);
    if (index < 0 || index >= (int64_t)s->len || !run_chars(r, (size_t)index))
        return (struct value){.kind = VALUE_ABSENT};
    size_t at = chars_offset(s->bytes, s->len, (size_t)index), n;
    if (at == s->len)
        return (struct value){.kind = VALUE_ABSENT};
    chars_decode(s->bytes + at, s->bytes + s->len, &n);
    return value_slice(r, v, at, at + n);
}

struct value value_item(struct run *r, struct value v, struct value key)
{
    int64_t index;
    if (r->rc || !value_defined(r, v))
        return NONE;
    if (v.kind == VALUE_DICT) {
        const struct value *found = value_hashable(key) ? dict_find(r, v.dict, key) : NULL;
        if (found)
            return *found;
    } else if (value_int(key, &index)) {
        if (v.kind == VALUE_STRING) {
            struct value found = character(r, v, index);
            if (found.kind != VALUE_ABSENT)
                return found;
        } else if (v.kind >= VALUE_LIST && v.kind <= VALUE_RANGE) {
            index += index < 0 ? (int64_t)v.seq->n : 0;
            if (index >= 0 && index < (int64_t)v.seq->n)
                return v.seq->items[index];
        }
    }
    struct value text = value_str(r, key);
    struct builder b = {.run = r};
    builder_value(&b, text);
    builder_add(&b, "", NULL, 1); /* its NUL */
    if (r->rc)
        return NONE;
    if (key.kind == VALUE_STRING)
        return value_attr(r, v, b.bytes);
    return value_undefined(r, b.bytes, value_type(v));
}

/* "a.b.0" from `at` on. */
static struct value along(struct run *r, struct value v, struct value path)
{
    const struct marked *s = path.string;
    for (size_t at = 0, end; at <= s->len && !r->rc; at = end + 1) {
        bool digits = true;
        int64_t index = 0;
        for (end = at; end < s->len && s->bytes[end] != '.'; end++) {
            digits = digits && chars_digit(s->bytes[end]) <= 9 && end - at < 18;
            index = digits ? index * 10 + chars_digit(s->bytes[end]) : 0;
        }
        struct value part = digits && end > at ? INT(index) : value_slice(r, path, at, end);
        v = value_item(r, v, part);
    }
    return v;
}

struct value value_path(struct run *r, struct value v, struct value path)
{
    if (r->rc || path.kind == VALUE_ABSENT || path.kind == VALUE_NONE)
        return v;
    return path.kind == VALUE_STRING ? along(r, v, path) : value_item(r, v, path);
}

/* ---- slices ---- */

/* Python's slice.indices for a length. False when a part is no number. */
static bool bounds(const struct value part[3], int64_t n, int64_t *start, int64_t *stop,
                   int64_t *step)
{
    *step = 1;
    if (part[2].kind != VALUE_NONE && !value_int(part[2], step))
        return false;
    int64_t low = *step < 0 ? -1 : 0, high = *step < 0 ? n - 1 : n;
    int64_t *end[2] = {start, stop};
    *start = *step < 0 ? high : low;
    *stop = *step < 0 ? low : high;
    for (int i = 0; i < 2; i++) {
        if (part[i].kind == VALUE_NONE)
            continue;
        int64_t at;
        if (!value_int(part[i], &at))
            return false;
        at += at < 0 ? n : 0;
        *end[i] = at < low ? low : at > high ? high : at;
    }
    return *step != 0;
}

static struct value text_range(struct run *r, struct value v, int64_t start, int64_t stop,
                               int64_t step)
{
    const struct marked *s = v.string;
    if (step == 1) {
        run_chars(r, s->len);
        size_t begin = chars_offset(s->bytes, s->len, (size_t)start), end = begin;
        if (stop > start)
            end += chars_offset(s->bytes + begin, s->len - begin, (size_t)(stop - start));
        return value_slice(r, v, begin, end);
    }
    struct value chars = value_items(r, v);
    struct builder b = {.run = r};
    for (int64_t i = start; (step > 0 ? i < stop : i > stop) && run_step(r, 1);) {
        builder_value(&b, chars.seq->items[i]);
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    bool safe = v.safe;
    v = builder_string(&b);
    v.safe = safe;
    return v;
}

struct value value_range(struct run *r, struct value v, const struct value part[3])
{
    int64_t start, stop, step;
    if (r->rc || !value_defined(r, v))
        return NONE;
    if (v.kind < VALUE_STRING || v.kind > VALUE_RANGE)
        return run_fail(r, "a %s cannot be sliced", value_type(v));
    if (!bounds(part, value_length(r, v), &start, &stop, &step))
        return run_fail(r, "a slice has a bound that is no whole number, or a step of 0");
    if (v.kind == VALUE_STRING)
        return text_range(r, v, start, stop, step);
    struct value list = value_seq(r, v.kind, 0);
    if (!r->rc && v.kind == VALUE_RANGE) {
        list.seq->start = v.seq->start + start * v.seq->step;
        list.seq->stop = v.seq->start + stop * v.seq->step;
        list.seq->step = v.seq->step * step;
    }
    for (int64_t i = start; (step > 0 ? i < stop : i > stop) && run_step(r, 1);) {
        seq_add(r, list, v.seq->items[i]);
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    return list;
}
