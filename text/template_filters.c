/* Filters on single values. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/template_chars.h"
#include "text/template_run.h"

static struct value upper(struct run *r, const struct call *call)
{
    return text_case(r, call->self, TEXT_UPPER);
}

static struct value lower(struct run *r, const struct call *call)
{
    return text_case(r, call->self, TEXT_LOWER);
}

static struct value title(struct run *r, const struct call *call)
{
    return text_case(r, call->self, TEXT_FILTER_TITLE);
}

static struct value capitalize(struct run *r, const struct call *call)
{
    return text_case(r, call->self, TEXT_CAPITALIZE);
}

static struct value trim(struct run *r, const struct call *call)
{
    return text_strip(r, call->self, call->a[0], true, true);
}

static struct value replace(struct run *r, const struct call *call)
{
    return text_replace(r, value_str(r, call->self), value_str(r, call->a[0]),
                        value_str(r, call->a[1]), call->a[2]);
}

static struct value string(struct run *r, const struct call *call)
{
    return value_soft(r, call->self);
}

static struct value safe(struct run *r, const struct call *call)
{
    struct value v = value_soft(r, call->self);
    v.safe = v.kind == VALUE_STRING;
    return v;
}

static struct value escape(struct run *r, const struct call *call)
{
    return value_escape(r, call->self);
}

static struct value format(struct run *r, const struct call *call)
{
    struct value tuple = value_seq(r, VALUE_TUPLE, 0);
    for (size_t i = 0; i < call->args->n; i++)
        seq_add(r, tuple, call->args->values[i]);
    if (call->args->n_named)
        return run_fail(r, "the filter format takes no named arguments here");
    return r->rc ? NONE : format_percent(r, value_soft(r, call->self), tuple);
}

static struct value default_filter(struct run *r, const struct call *call)
{
    bool replaced = call->self.kind == VALUE_UNDEFINED ||
                    (value_truth(r, call->a[1]) && !value_truth(r, call->self));
    if (!replaced)
        return call->self;
    return call->a[0].kind == VALUE_ABSENT ? value_literal(r, "", 0) : call->a[0];
}

static struct value length(struct run *r, const struct call *call)
{
    int64_t n = value_length(r, call->self);
    return n < 0 ? run_fail(r, "a %s has no length", value_type(call->self)) : INT(n);
}

/* ---- numbers ---- */

/* A string's number as Python's int() and float() read it; false when it is none. */
static bool read_text(const struct marked *s, bool whole, int base, double *real, int64_t *integer)
{
    char text[128], *end;
    size_t n = 0;
    const char *stop = chars_rstrip(s->bytes, s->bytes + s->len), *at = s->bytes;
    for (size_t m; at < stop && (m = chars_space(at, stop)); at += m)
        ;
    for (; at < stop && n < sizeof text - 1; at++) {
        bool between =
            *at == '_' && n && chars_digit(at[-1]) < 36 && at + 1 < stop && chars_digit(at[1]) < 36;
        if (*at == '_' && !between)
            return false;
        if (*at != '_')
            text[n++] = *at;
    }
    text[n] = 0;
    if (!n || at < stop || strlen(text) != n || chars_space(text, text + n))
        return false;
    if (whole) {
        *integer = strtoll(text, &end, base);
    } else {
        *real = strtod(text, &end);
        if (strpbrk(text, "xX(")) /* C reads hexadecimal and nan(...), Python does not */
            return false;
    }
    return !*end;
}

static struct value whole(struct run *r, double real, struct value otherwise)
{
    if (isnan(real) || isinf(real))
        return otherwise;
    if (real >= 0x1p63 || real < -0x1p63)
        return run_fail(r, "a whole number does not fit in 64 bits");
    return INT((int64_t)real);
}

static struct value int_filter(struct run *r, const struct call *call)
{
    struct value otherwise = call->a[0].kind == VALUE_ABSENT ? INT(0) : call->a[0];
    int64_t integer = 0, base = 10;
    double real;
    if (call->a[1].kind != VALUE_ABSENT && (!value_int(call->a[1], &base) || base < 2 || base > 36))
        return run_fail(r, "int takes a base from 2 to 36");
    if (call->self.kind == VALUE_STRING) {
        if (read_text(call->self.string, true, (int)base, &real, &integer))
            return INT(integer);
        return read_text(call->self.string, false, 0, &real, &integer) ? whole(r, real, otherwise)
                                                                       : otherwise;
    }
    if (call->self.kind == VALUE_UNDEFINED)
        return run_fail(r, "int: the value is undefined");
    if (value_int(call->self, &integer))
        return INT(integer);
    return value_number(call->self, &real) ? whole(r, real, otherwise) : otherwise;
}

static struct value float_filter(struct run *r, const struct call *call)
{
    int64_t integer;
    double real;
    if (call->self.kind == VALUE_UNDEFINED)
        return run_fail(r, "float: the value is undefined");
    bool ok = call->self.kind == VALUE_STRING
                  ? read_text(call->self.string, false, 0, &real, &integer)
                  : value_number(call->self, &real);
    return ok ? FLOAT(real) : call->a[0].kind == VALUE_ABSENT ? FLOAT(0.0) : call->a[0];
}

static struct value abs_filter(struct run *r, const struct call *call)
{
    int64_t integer;
    if (value_int(call->self, &integer))
        return integer < 0 ? op_negate(r, INT(integer), true) : INT(integer);
    if (call->self.kind != VALUE_FLOAT)
        return run_fail(r, "abs takes a number, not a %s", value_type(call->self));
    return FLOAT(fabs(call->self.real));
}

/* To the nearest, ties to even, as printing does it exactly. */
static double nearest(double real, int64_t digits)
{
    char text[400];
    if (digits < 0) {
        double unit = pow(10, (double)-digits);
        return nearbyint(real / unit) * unit;
    }
    snprintf(text, sizeof text, "%.*f", digits > 30 ? 30 : (int)digits, real);
    return strtod(text, NULL);
}

static struct value round_filter(struct run *r, const struct call *call)
{
    int64_t digits = 0, integer;
    double real;
    if (call->a[0].kind != VALUE_ABSENT && !value_int(call->a[0], &digits))
        return run_fail(r, "round takes a whole number as its precision");
    if (!value_number(call->self, &real))
        return run_fail(r, "round takes a number, not a %s", value_type(call->self));
    if (call->a[1].kind == VALUE_ABSENT || value_is(call->a[1], "common")) {
        if (value_int(call->self, &integer) && digits >= 0)
            return INT(integer);
        real = nearest(real, digits);
        return call->self.kind == VALUE_FLOAT ? FLOAT(real) : whole(r, real, NONE);
    }
    double unit = pow(10, (double)digits);
    if (value_is(call->a[1], "ceil"))
        return FLOAT(ceil(real * unit) / unit);
    if (value_is(call->a[1], "floor"))
        return FLOAT(floor(real * unit) / unit);
    return run_fail(r, "round takes \"common\", \"ceil\" or \"floor\"");
}

/* ---- layout ---- */

/* Spaces, or the string itself; false with a failure for other kinds. */
static bool indentation(struct run *r, struct value width, int64_t usual, struct builder *b)
{
    if (width.kind == VALUE_STRING) {
        builder_value(b, width);
        return !r->rc;
    }
    int64_t n = usual;
    if (width.kind != VALUE_ABSENT && !value_int(width, &n))
        run_fail(r, "an indentation is a number or a str, not a %s", value_type(width));
    if (n > 1000)
        run_fail(r, "an indentation is at most 1000");
    for (int64_t i = 0; i < n && !r->rc; i++)
        builder_puts(b, " ");
    return !r->rc;
}

static struct value indent(struct run *r, const struct call *call)
{
    struct builder b = {.run = r}, space = {.run = r};
    if (call->self.kind != VALUE_STRING)
        return run_fail(r, "indent takes a str, not a %s", value_type(call->self));
    if (!indentation(r, call->a[0], 4, &space))
        return NONE;
    struct value in = builder_string(&space);
    /* The text gets a last line break, so that an empty last line counts. */
    struct value lines =
        text_lines(r, value_concat(r, call->self, value_literal(r, "\n", 1)), false);
    bool first = value_truth(r, call->a[1]), blank = value_truth(r, call->a[2]);
    for (size_t i = 0; !r->rc && i < lines.seq->n; i++) {
        struct value line = lines.seq->items[i];
        if (i)
            builder_puts(&b, "\n");
        if (i ? blank || line.string->len : first)
            builder_value(&b, in);
        builder_value(&b, line);
    }
    struct value result = builder_string(&b);
    result.safe = call->self.safe;
    return result;
}

static struct value tojson(struct run *r, const struct call *call)
{
    struct builder b = {.run = r}, space = {.run = r};
    struct json_style style = {.ascii = value_truth(r, call->a[0]),
                               .sort = value_truth(r, call->a[3])};
    if (call->a[1].kind != VALUE_ABSENT && call->a[1].kind != VALUE_NONE) {
        if (!indentation(r, call->a[1], 0, &space))
            return NONE;
        builder_add(&space, "", NULL, 1); /* its NUL */
        style.indent = space.bytes;
    }
    struct value pair = call->a[2];
    if ((pair.kind == VALUE_TUPLE || pair.kind == VALUE_LIST) && pair.seq->n == 2) {
        style.item = pair.seq->items[0];
        style.key = pair.seq->items[1];
    } else if (pair.kind != VALUE_ABSENT && pair.kind != VALUE_NONE) {
        return run_fail(r, "tojson takes two strings as its separators");
    }
    if (!r->rc)
        print_json(&b, call->self, &style);
    return builder_string(&b);
}

const struct builtin text_filters[] = {
    {"trim", trim, {"chars"}, 0, false},
    {"tojson", tojson, {"ensure_ascii", "indent", "separators", "sort_keys"}, 0, false},
    {"length", length, {0}, 0, false},
    {"count", length, {0}, 0, false},
    {"default", default_filter, {"default_value", "boolean"}, 0, false},
    {"d", default_filter, {"default_value", "boolean"}, 0, false},
    {"upper", upper, {0}, 0, false},
    {"lower", lower, {0}, 0, false},
    {"title", title, {0}, 0, false},
    {"capitalize", capitalize, {0}, 0, false},
    {"replace", replace, {"old", "new", "count"}, 2, false},
    {"string", string, {0}, 0, false},
    {"safe", safe, {0}, 0, false},
    {"escape", escape, {0}, 0, false},
    {"e", escape, {0}, 0, false},
    {"format", format, {0}, 0, true},
    {"int", int_filter, {"default", "base"}, 0, false},
    {"float", float_filter, {"default"}, 0, false},
    {"abs", abs_filter, {0}, 0, false},
    {"round", round_filter, {"precision", "method"}, 0, false},
    {"indent", indent, {"width", "first", "blank"}, 0, false},
    {0},
};

const struct builtin *filter_find(const char *name)
{
    const struct builtin *found = builtin_find(text_filters, name);
    return found ? found : builtin_find(seq_filters, name);
}
