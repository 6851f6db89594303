/* Python's two ways to put values into a text: "%s" % x and "{}".format(x). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/template_chars.h"
#include "text/template_run.h"

/* A conversion: [flags][width][.precision]letter */
struct spec {
    char fill, align; /* align: < > ^ = or 0 */
    bool plus, space, alternate;
    int width, precision; /* -1: not given */
    char type;
};

#define MAX_WIDTH 1000

static const char *number(const char *at, const char *end, int *n)
{
    for (*n = 0; at < end && chars_digit(*at) <= 9; at++)
        *n = *n < MAX_WIDTH ? *n * 10 + chars_digit(*at) : *n;
    return at;
}

/* Adds a text, padded to the width. */
static void pad(struct builder *b, struct value text, const struct spec *spec, char align)
{
    if (b->run->rc)
        return;
    int64_t missing = spec->width - value_length(b->run, text);
    int64_t before = align == '>' ? missing : align == '^' ? missing / 2 : 0;
    for (int64_t i = 0; i < before; i++)
        builder_add(b, &spec->fill, NULL, 1);
    builder_value(b, text);
    for (int64_t i = before < 0 ? 0 : before; i < missing; i++)
        builder_add(b, &spec->fill, NULL, 1);
}

static void put_number(struct builder *b, struct value v, const struct spec *spec)
{
    char format[32], text[400];
    bool real = strchr("eEfFgG", spec->type);
    double x = 0;
    int64_t integer = 0;
    bool ok = real ? value_number(v, &x) : value_int(v, &integer);
    if (!ok && v.kind == VALUE_FLOAT && v.real > -9e18 && v.real < 9e18) {
        integer = (int64_t)v.real;
        ok = spec->type == 'd';
    }
    if (!ok || x > 1e300 || x < -1e300) {
        run_fail(b->run, "a %s cannot be formatted as a number by '%c'", value_type(v), spec->type);
        return;
    }
    bool zeros = spec->fill == '0' && (spec->align == '=' || !spec->align);
    snprintf(format, sizeof format, "%%%s%s%s%s*.*%s%c", spec->plus ? "+" : "",
             spec->space ? " " : "", spec->alternate ? "#" : "", zeros ? "0" : "", real ? "" : "ll",
             spec->type);
    int width = zeros && spec->width < 300 ? spec->width : 0;
    int precision = spec->precision < 0    ? (real ? 6 : -1)
                    : spec->precision < 60 ? spec->precision
                                           : 60;
    if (real)
        snprintf(text, sizeof text, format, width, precision, x);
    else
        snprintf(text, sizeof text, format, width, precision, (long long)integer);
    struct builder copy = {.run = b->run};
    builder_puts(&copy, text);
    pad(b, builder_string(&copy), spec, spec->align ? spec->align : '>');
}

static void put_text(struct builder *b, struct value text, const struct spec *spec, char align)
{
    if (!b->run->rc && spec->precision >= 0) {
        size_t end = chars_offset(text.string->bytes, text.string->len, (size_t)spec->precision);
        text = value_slice(b->run, text, 0, end);
    }
    pad(b, text, spec, spec->align ? spec->align : align);
}

/* ---- percent ---- */

static const char *percent_spec(const char *at, const char *end, struct spec *spec)
{
    *spec = (struct spec){.fill = ' ', .precision = -1};
    for (; at < end && *at && strchr("-+ #0", *at); at++) {
        spec->plus |= *at == '+';
        spec->space |= *at == ' ';
        spec->alternate |= *at == '#';
        if (*at == '-')
            spec->align = '<';
        else if (*at == '0' && spec->align != '<')
            spec->fill = '0';
    }
    if (spec->align == '<')
        spec->fill = ' ';
    at = number(at, end, &spec->width);
    if (at < end && *at == '.')
        at = number(at + 1, end, &spec->precision);
    spec->type = at < end ? *at : 0;
    return at + (at < end);
}

static void percent_value(struct builder *b, struct value v, struct spec *spec)
{
    struct builder text = {.run = b->run};
    switch (spec->type) {
    case 's':
    case 'r':
        if (spec->type == 's')
            print_str(&text, v);
        else
            print_repr(&text, v);
        spec->fill = ' ';
        put_text(b, builder_string(&text), spec, '>');
        break;
    case 'i':
    case 'u':
        spec->type = 'd'; /* fallthrough */
    case 'd':
    case 'x':
    case 'X':
    case 'o':
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        put_number(b, v, spec);
        break;
    default:
        run_fail(b->run, "a conversion behind %% is unknown or not supported");
    }
}

/* The value that the next conversion takes: by its name, or the next in turn. */
static struct value percent_next(struct run *r, struct value arguments, struct value name,
                                 size_t *next)
{
    if (name.kind == VALUE_STRING) {
        if (arguments.kind != VALUE_DICT)
            return run_fail(r, "%%(name)s needs a dict on the right of %%");
        const struct value *found = dict_find(r, arguments.dict, name);
        return found ? *found : run_fail(r, "%%(name)s names a key that is not there");
    }
    size_t n = arguments.kind == VALUE_TUPLE ? arguments.seq->n : 1;
    if (*next >= n)
        return run_fail(r, "a format has more conversions than there are values");
    size_t at = (*next)++;
    return arguments.kind == VALUE_TUPLE ? arguments.seq->items[at] : arguments;
}

struct value format_percent(struct run *r, struct value format, struct value arguments)
{
    struct builder b = {.run = r};
    const struct marked *s = format.string;
    const char *end = s->bytes + s->len, *at = s->bytes, *stop;
    size_t next = 0;
    for (; at < end && run_step(r, 1); at = stop) {
        stop = memchr(at, '%', (size_t)(end - at));
        stop = stop ? stop : end;
        builder_add(&b, at, s->marks ? s->marks + (at - s->bytes) : NULL, (size_t)(stop - at));
        if (stop == end)
            break;
        struct value name = {.kind = VALUE_ABSENT};
        const char *close =
            ++stop < end && *stop == '(' ? memchr(stop, ')', (size_t)(end - stop)) : NULL;
        if (close) {
            name =
                value_slice(r, format, (size_t)(stop + 1 - s->bytes), (size_t)(close - s->bytes));
            stop = close + 1;
        }
        struct spec spec;
        stop = percent_spec(stop, end, &spec);
        if (spec.type == '%')
            builder_puts(&b, "%");
        else
            percent_value(&b, percent_next(r, arguments, name, &next), &spec);
    }
    size_t given = arguments.kind == VALUE_TUPLE ? arguments.seq->n : 1;
    /* Python takes what has items by key for a mapping, of which not all need be used. */
    bool mapping = arguments.kind == VALUE_DICT || arguments.kind == VALUE_LIST ||
                   arguments.kind == VALUE_RANGE || arguments.kind == VALUE_UNDEFINED;
    if (!r->rc && next < given && !mapping)
        return run_fail(r, "a format has fewer conversions than there are values");
    return builder_string(&b);
}

/* ---- braces ---- */

static const char *brace_spec(const char *at, const char *end, struct spec *spec)
{
    *spec = (struct spec){.fill = ' ', .precision = -1};
    if (at + 1 < end && strchr("<>^=", at[1]) && at[1]) {
        spec->fill = *at;
        spec->align = at[1];
        at += 2;
    } else if (at < end && *at && strchr("<>^=", *at)) {
        spec->align = *at++;
    }
    for (; at < end && *at && strchr("+- #", *at); at++) {
        spec->plus |= *at == '+';
        spec->space |= *at == ' ';
        spec->alternate |= *at == '#';
    }
    if (at < end && *at == '0' && !spec->align) {
        spec->fill = '0';
        spec->align = '=';
    }
    at = number(at, end, &spec->width);
    if (at < end && *at == '.')
        at = number(at + 1, end, &spec->precision);
    spec->type = at < end ? *at : 0;
    return at + (at < end);
}

static void brace_value(struct builder *b, struct value v, const char *at, const char *end)
{
    struct spec spec;
    if (brace_spec(at, end, &spec) != end) {
        run_fail(b->run, "a format behind ':' is not supported");
        return;
    }
    bool numeric = (v.kind == VALUE_INT || v.kind == VALUE_FLOAT);
    if (!spec.type && v.kind == VALUE_INT)
        spec.type = 'd';
    if (spec.type == 's' || (!spec.type && spec.precision < 0) || (!spec.type && !numeric))
        put_text(b, value_str(b->run, v), &spec, numeric ? '>' : '<');
    else if (spec.type && strchr("deEfFgGxXo", spec.type))
        put_number(b, v, &spec);
    else
        run_fail(b->run, "a format behind ':' is not supported");
}

/* The value of a field: "", "0", "name", with ".attribute" and "[key]" behind. */
static struct value field(struct run *r, struct value format, size_t at, size_t end,
                          const struct args *args, size_t *next)
{
    const char *bytes = format.string->bytes;
    size_t stop = at;
    struct value v = {.kind = VALUE_ABSENT};
    while (stop < end && bytes[stop] != '.' && bytes[stop] != '[')
        stop++;
    int index;
    bool digits = number(bytes + at, bytes + stop, &index) == bytes + stop;
    size_t place = stop == at ? (*next)++ : (size_t)index;
    if (digits && place < args->n)
        v = args->values[place];
    for (size_t i = 0; !digits && i < args->n_named; i++)
        if (strlen(args->named[i].name) == stop - at &&
            !memcmp(args->named[i].name, bytes + at, stop - at))
            v = args->named[i].value;
    if (v.kind == VALUE_ABSENT)
        return run_fail(r, "a field of format() names a value that was not given");
    while (stop < end && !r->rc) {
        bool item = bytes[stop++] == '[';
        size_t begin = stop;
        while (stop < end && (item ? bytes[stop] != ']' : bytes[stop] != '.' && bytes[stop] != '['))
            stop++;
        int key;
        struct value name = value_slice(r, format, begin, stop);
        bool numeric = item && number(bytes + begin, bytes + stop, &key) == bytes + stop;
        v = value_item(r, v, numeric && stop > begin ? INT(key) : name);
        stop += item;
    }
    return v;
}

struct value format_braces(struct run *r, struct value format, const struct args *args)
{
    struct builder b = {.run = r};
    const struct marked *s = format.string;
    size_t next = 0, at = 0;
    run_chars(r, s->len);
    while (at < s->len && !r->rc) {
        char c = s->bytes[at];
        bool twice = at + 1 < s->len && s->bytes[at + 1] == c;
        if ((c != '{' && c != '}') || twice) {
            builder_add(&b, s->bytes + at, s->marks ? s->marks + at : NULL, 1);
            at += c == '{' || c == '}' ? 2 : 1;
            continue;
        }
        const char *close = memchr(s->bytes + at, '}', s->len - at);
        if (c == '}' || !close)
            return run_fail(r, "format() has a brace without its other");
        size_t end = (size_t)(close - s->bytes);
        const char *colon = memchr(s->bytes + at, ':', end - at);
        size_t name = colon ? (size_t)(colon - s->bytes) : end;
        if (memchr(s->bytes + at, '!', name - at))
            return run_fail(r, "conversions with '!' in format() are not supported");
        struct value v = field(r, format, at + 1, name, args, &next);
        brace_value(&b, v, colon ? colon + 1 : close, close);
        at = end + 1;
    }
    return builder_string(&b);
}
