/* Operators, as Python has them. */
#include <math.h>
#include <string.h>

#include "text/template_chars.h"
#include "text/template_lex.h"
#include "text/template_run.h"

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
    if (r->rc || !value_defined(r, a) || (a.kind != VALUE_STRING && !value_defined(r, b)))
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
    if (!value_defined(r, b))
        return NONE;
    return run_fail(r, "cannot %s a %s and a %s", names[op - LEX_ADD], value_type(a),
                    value_type(b));
}

struct value op_negate(struct run *r, struct value a, bool minus)
{
    int64_t i;
    if (r->rc || !value_defined(r, a))
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
    if (!value_defined(r, a) || !value_defined(r, b))
        return false;
    double x, y;
    if (value_number(a, &x) && value_number(b, &y) && (isnan(x) || isnan(y)))
        return false;
    int c = value_compare(r, a, b);
    return op == LEX_LT ? c < 0 : op == LEX_LE ? c <= 0 : op == LEX_GT ? c > 0 : c >= 0;
}
