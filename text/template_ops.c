/* Operators, attributes, items and slices, as Python has them. */
#include <math.h>
#include <string.h>

#include "text/template_chars.h"
#include "text/template_lex.h"
#include "text/template_run.h"

struct value value_undefined(struct run *r, const char *name, const char *owner)
{
    struct missing *missing = run_take(r, 1, sizeof *missing);
    if (!missing)
        return NONE;
    *missing = (struct missing){name, owner};
    return (struct value){.kind = VALUE_UNDEFINED, .missing = missing};
}

/* Nothing but tests, printing and iteration can be done with an undefined value. */
static bool defined(struct run *r, struct value v)
{
    if (v.kind == VALUE_UNDEFINED && v.missing->owner)
        run_fail(r, "a %s has no \"%.100s\"", v.missing->owner, v.missing->name);
    else if (v.kind == VALUE_UNDEFINED)
        run_fail(r, "\"%.100s\" is undefined", v.missing->name);
    return !r->rc;
}

/* ---- strings and lists ---- */

/* Behind a, where its bytes lie, if nothing has been put there yet: so that text that grows piece
 * by piece is not copied each time. */
static bool append(struct marked *result, const struct marked *a, const struct marked *b)
{
    struct store *store = a->store;
    if (!store || a->bytes + a->len != store->bytes + store->used ||
        b->len > store->room - store->used)
        return false;
    memcpy(store->bytes + store->used, b->bytes, b->len);
    if (b->marks)
        memcpy(store->marks + store->used, b->marks, b->len);
    store->used += b->len;
    *result = *a;
    result->len += b->len;
    return true;
}

static struct store *new_store(struct run *r, size_t room)
{
    struct store *store = run_take(r, 1, sizeof *store);
    if (!store)
        return NULL;
    *store =
        (struct store){.bytes = run_take(r, room, 1), .marks = run_take(r, room, 1), .room = room};
    return r->rc ? NULL : store;
}

#define LONG 256 /* bytes from which room is left behind a text */

struct value value_concat(struct run *r, struct value a, struct value b)
{
    if (r->rc)
        return NONE;
    const struct marked *x = a.string, *y = b.string;
    if (!y->len || !x->len)
        return (struct value){.kind = VALUE_STRING, .string = y->len ? y : x};
    struct marked *result = run_take(r, 1, sizeof *result);
    if (!result || !run_bytes(r, y->len))
        return NONE;
    if (!append(result, x, y)) {
        size_t len = x->len + y->len;
        struct store *store = new_store(r, len < LONG ? len : 2 * len);
        if (!store || !run_bytes(r, x->len))
            return NONE;
        *result = (struct marked){.bytes = store->bytes, .marks = store->marks, .store = store};
        append(result, result, x);
        append(result, result, y);
    }
    return (struct value){.kind = VALUE_STRING, .string = result};
}

struct value value_escape(struct run *r, struct value v)
{
    static const char special[] = "&<>'\"";
    static const char *const escapes[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    v = value_soft(r, v);
    if (r->rc || v.safe)
        return v;
    struct builder b = {.run = r};
    const struct marked *s = v.string;
    run_chars(r, s->len);
    for (size_t i = 0; i < s->len && !r->rc; i++) {
        const char *marks = s->marks ? s->marks + i : NULL;
        const char *which = s->bytes[i] ? strchr(special, s->bytes[i]) : NULL;
        if (!which)
            builder_add(&b, s->bytes + i, marks, 1);
        else
            builder_add(&b, escapes[which - special], marks && *marks ? "\1\1\1\1\1" : NULL,
                        strlen(escapes[which - special]));
    }
    v = builder_string(&b);
    v.safe = true;
    return v;
}

static struct value add_strings(struct run *r, struct value a, struct value b)
{
    bool safe = a.safe || b.safe;
    if (safe) { /* Markup escapes what it is added to */
        a = value_escape(r, a);
        b = value_escape(r, b);
    }
    struct value sum = value_concat(r, a, b);
    sum.safe = safe;
    return sum;
}

static struct value repeat(struct run *r, struct value v, int64_t times)
{
    times = times < 0 ? 0 : times;
    if (v.kind == VALUE_STRING) {
        struct builder b = {.run = r, .limit = r->max_output};
        for (int64_t i = 0; v.string->len && i < times && run_step(r, 1); i++)
            builder_value(&b, v);
        bool safe = v.safe;
        v = builder_string(&b);
        v.safe = safe;
        return v;
    }
    struct value list = value_seq(r, v.kind, 0);
    for (int64_t i = 0; v.seq->n && i < times && !r->rc; i++)
        for (size_t k = 0; k < v.seq->n && run_step(r, 1); k++)
            seq_add(r, list, v.seq->items[k]);
    return list;
}

static struct value add_lists(struct run *r, struct value a, struct value b)
{
    struct value list = value_seq(r, a.kind, a.seq->n + b.seq->n);
    if (!run_step(r, a.seq->n / 16 + b.seq->n / 16))
        return NONE;
    for (size_t i = 0; i < a.seq->n; i++)
        seq_add(r, list, a.seq->items[i]);
    for (size_t i = 0; i < b.seq->n; i++)
        seq_add(r, list, b.seq->items[i]);
    return list;
}

/* ---- arithmetic ---- */

static struct value too_big(struct run *r)
{
    return run_fail(r, "a whole number does not fit in 64 bits");
}

static struct value int_power(struct run *r, int64_t a, int64_t b)
{
    int64_t power = 1;
    if (b < 0)
        return a ? FLOAT(pow((double)a, (double)b)) : run_fail(r, "a division by zero");
    if (a == 0 || a == 1 || a == -1)
        return INT(b == 0 ? 1 : a == -1 && b % 2 == 0 ? 1 : a);
    for (; b > 0; b--)
        if (__builtin_mul_overflow(power, a, &power))
            return too_big(r);
    return INT(power);
}

static struct value int_op(struct run *r, int op, int64_t a, int64_t b)
{
    int64_t c = 0;
    bool over = false;
    switch (op) {
    case LEX_ADD:
        over = __builtin_add_overflow(a, b, &c);
        break;
    case LEX_SUB:
        over = __builtin_sub_overflow(a, b, &c);
        break;
    case LEX_MUL:
        over = __builtin_mul_overflow(a, b, &c);
        break;
    case LEX_POW:
        return int_power(r, a, b);
    default:
        if (b == 0)
            return run_fail(r, "a division by zero");
        if (op == LEX_DIV)
            return FLOAT((double)a / (double)b);
        if (b == -1) {
            over = op == LEX_FLOORDIV && __builtin_sub_overflow(0, a, &c);
            break;
        }
        c = op == LEX_MOD ? a % b : a / b;
        if (a % b && (a < 0) != (b < 0))
            c += op == LEX_MOD ? b : -1;
    }
    return over ? too_big(r) : INT(c);
}

/* The rest has the divisor's sign, even when it is 0. */
static double float_rest(double a, double b)
{
    double rest = fmod(a, b);
    if (rest == 0)
        return copysign(0, b);
    return (rest < 0) != (b < 0) ? rest + b : rest;
}

static double float_floor(double a, double b)
{
    double quotient = (a - float_rest(a, b)) / b;
    if (quotient == 0)
        return copysign(0, a / b);
    double whole = floor(quotient);
    return quotient - whole > 0.5 ? whole + 1 : whole;
}

static struct value float_op(struct run *r, int op, double a, double b)
{
    if ((op == LEX_DIV || op == LEX_FLOORDIV || op == LEX_MOD) && b == 0)
        return run_fail(r, "a division by zero");
    switch (op) {
    case LEX_ADD:
        return FLOAT(a + b);
    case LEX_SUB:
        return FLOAT(a - b);
    case LEX_MUL:
        return FLOAT(a * b);
    case LEX_DIV:
        return FLOAT(a / b);
    case LEX_POW:
        if ((a == 0 && b < 0) || (a < 0 && b != floor(b)))
            return run_fail(r, "a power that is no real number");
        return FLOAT(pow(a, b));
    default:
        return FLOAT(op == LEX_MOD ? float_rest(a, b) : float_floor(a, b));
    }
}

struct value op_binary(struct run *r, int op, struct value a, struct value b)
{
    static const char *const names[] = {"add",    "subtract",         "multiply", "divide",
                                        "divide", "take the rest of", "raise"};
    int64_t i, k;
    double x, y;
    if (r->rc || !defined(r, a) || (a.kind != VALUE_STRING && !defined(r, b)))
        return NONE;
    if (value_int(a, &i) && value_int(b, &k))
        return int_op(r, op, i, k);
    if (value_number(a, &x) && value_number(b, &y))
        return float_op(r, op, x, y);
    if (op == LEX_MOD && a.kind == VALUE_STRING)
        return format_percent(r, a, b);
    if (op == LEX_ADD && a.kind == VALUE_STRING && b.kind == VALUE_STRING)
        return add_strings(r, a, b);
    if (op == LEX_ADD && a.kind == b.kind && (a.kind == VALUE_LIST || a.kind == VALUE_TUPLE))
        return add_lists(r, a, b);
    bool left = a.kind >= VALUE_STRING && a.kind <= VALUE_TUPLE && value_int(b, &i);
    bool right = b.kind >= VALUE_STRING && b.kind <= VALUE_TUPLE && value_int(a, &i);
    if (op == LEX_MUL && (left || right))
        return repeat(r, left ? a : b, i);
    if (!defined(r, b))
        return NONE;
    return run_fail(r, "cannot %s a %s and a %s", names[op - LEX_ADD], value_type(a),
                    value_type(b));
}

struct value op_negate(struct run *r, struct value a, bool minus)
{
    int64_t i;
    if (r->rc || !defined(r, a))
        return NONE;
    if (value_int(a, &i))
        return minus ? int_op(r, LEX_SUB, 0, i) : INT(i);
    if (a.kind != VALUE_FLOAT)
        return run_fail(r, "a %s has no sign", value_type(a));
    return FLOAT(minus ? -a.real : a.real);
}

bool op_compare(struct run *r, int op, struct value a, struct value b)
{
    if (op == LEX_EQ || op == LEX_NE)
        return value_equal(r, a, b) == (op == LEX_EQ);
    if (op == LEX_IN || op == LEX_NOT_IN)
        return value_in(r, a, b) == (op == LEX_IN);
    if (!defined(r, a) || !defined(r, b))
        return false;
    double x, y;
    if (value_number(a, &x) && value_number(b, &y) && (isnan(x) || isnan(y)))
        return false;
    int c = value_compare(r, a, b);
    return op == LEX_LT ? c < 0 : op == LEX_LE ? c <= 0 : op == LEX_GT ? c > 0 : c >= 0;
}

/* ---- attributes and items ---- */

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
    if (r->rc || !defined(r, v))
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
    if (r->rc || !defined(r, v))
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
    if (r->rc || !defined(r, v))
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
