/* Values as text: Python's str(), repr() and json.dumps(). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/template_chars.h"
#include "text/template_run.h"

/* The fewest digits that read back as the same number, placed as Python places them. */
void print_float(struct builder *b, double real)
{
    char digits[40], text[64];
    if (!isfinite(real)) {
        builder_puts(b, isnan(real) ? "nan" : real < 0 ? "-inf" : "inf");
        return;
    }
    int precision = 0;
    do
        snprintf(digits, sizeof digits, "%.*e", precision, real);
    while (strtod(digits, NULL) != real && precision++ < 17);
    int power = atoi(strchr(digits, 'e') + 1);
    if (power < -4 || power >= 16) {
        builder_puts(b, digits); /* C and Python write exponents alike */
        return;
    }
    int behind = precision - power;
    snprintf(text, sizeof text, "%.*f", behind > 1 ? behind : 1, real);
    builder_puts(b, text);
}

static void print_int(struct builder *b, int64_t integer)
{
    char text[24];
    builder_add(b, text, NULL, (size_t)snprintf(text, sizeof text, "%lld", (long long)integer));
}

/* An escape for a character whose mark it takes over. */
static void escaped(struct builder *b, bool mark, const char *format, int32_t code)
{
    char text[16];
    size_t n = (size_t)snprintf(text, sizeof text, format, (unsigned)code);
    builder_add(b, text, mark ? "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1" : NULL, n);
}

/* What repr() writes for a character that it does not write as it is; NULL for others. */
static const char *repr_escape(int32_t code, char quote)
{
    return code == '\\'            ? "\\\\"
           : code == quote         ? "\\%c"
           : code == '\n'          ? "\\n"
           : code == '\r'          ? "\\r"
           : code == '\t'          ? "\\t"
           : chars_printable(code) ? NULL
           : code < 0x100          ? "\\x%02x"
           : code < 0x10000        ? "\\u%04x"
                                   : "\\U%08x";
}

static const char *json_escape(int32_t code, bool ascii)
{
    return code == '"'            ? "\\\""
           : code == '\\'         ? "\\\\"
           : code == '\n'         ? "\\n"
           : code == '\r'         ? "\\r"
           : code == '\t'         ? "\\t"
           : code == '\b'         ? "\\b"
           : code == '\f'         ? "\\f"
           : code < 0x20          ? "\\u%04x"
           : ascii && code > 0x7e ? "\\u%04x"
                                  : NULL;
}

/* A string in quotes; json and ascii choose whose. Runs without escapes are added whole. */
static void quoted(struct builder *b, const struct marked *s, char quote, bool json, bool ascii)
{
    const char *end = s->bytes + s->len, *run = s->bytes;
    size_t n;
    run_chars(b->run, s->len);
    builder_add(b, &quote, NULL, 1);
    for (const char *at = run; at < end && !b->run->rc; at += n) {
        int32_t code = chars_decode(at, end, &n);
        if (code < 0)
            continue;
        const char *escape = json ? json_escape(code, ascii) : repr_escape(code, quote);
        if (!escape)
            continue;
        const char *marks = s->marks ? s->marks + (run - s->bytes) : NULL;
        bool mark = s->marks && s->marks[at - s->bytes];
        builder_add(b, run, marks, (size_t)(at - run));
        if (json && code > 0xffff) {
            escaped(b, mark, "\\u%04x", 0xd800 + ((code - 0x10000) >> 10));
            code = 0xdc00 + ((code - 0x10000) & 0x3ff);
        }
        escaped(b, mark, escape, code);
        run = at + n;
    }
    builder_add(b, run, s->marks ? s->marks + (run - s->bytes) : NULL, (size_t)(end - run));
    builder_add(b, &quote, NULL, 1);
}

static void print_items(struct builder *b, const struct seq *seq, const char *open,
                        const char *close)
{
    builder_puts(b, open);
    for (size_t i = 0; i < seq->n && run_step(b->run, 1); i++) {
        if (i)
            builder_puts(b, ", ");
        print_repr(b, seq->items[i]);
    }
    builder_puts(b, close);
}

static void print_dict(struct builder *b, const struct dict *dict)
{
    builder_puts(b, "{");
    for (size_t i = 0; i < dict->n && run_step(b->run, 1); i++) {
        if (i)
            builder_puts(b, ", ");
        print_repr(b, dict->keys[i]);
        builder_puts(b, ": ");
        print_repr(b, dict->values[i]);
    }
    builder_puts(b, "}");
}

static void print_range(struct builder *b, const struct seq *range)
{
    builder_puts(b, "range(");
    print_int(b, range->start);
    builder_puts(b, ", ");
    print_int(b, range->stop);
    if (range->step != 1) {
        builder_puts(b, ", ");
        print_int(b, range->step);
    }
    builder_puts(b, ")");
}

static void print_container(struct builder *b, struct value v)
{
    switch (v.kind) {
    case VALUE_LIST:
        print_items(b, v.seq, "[", "]");
        break;
    case VALUE_TUPLE:
        print_items(b, v.seq, "(", v.seq->n == 1 ? ",)" : ")");
        break;
    case VALUE_KEYS:
        print_items(b, v.seq, "dict_keys([", "])");
        break;
    case VALUE_VALUES:
        print_items(b, v.seq, "dict_values([", "])");
        break;
    case VALUE_ITEMS:
        print_items(b, v.seq, "dict_items([", "])");
        break;
    case VALUE_RANGE:
        print_range(b, v.seq);
        break;
    case VALUE_DICT:
        print_dict(b, v.dict);
        break;
    case VALUE_NAMESPACE:
        builder_puts(b, "<Namespace ");
        print_dict(b, v.dict);
        builder_puts(b, ">");
        break;
    default: /* Python writes an address here */
        builder_puts(b, "<");
        builder_puts(b, value_type(v));
        builder_puts(b, ">");
    }
}

void print_repr(struct builder *b, struct value v)
{
    if (v.kind == VALUE_STRING) {
        const struct marked *s = v.string;
        bool doubles = memchr(s->bytes, '\'', s->len) && !memchr(s->bytes, '"', s->len);
        if (v.safe)
            builder_puts(b, "Markup(");
        quoted(b, s, doubles ? '"' : '\'', false, false);
        if (v.safe)
            builder_puts(b, ")");
    } else if (v.kind == VALUE_UNDEFINED) {
        builder_puts(b, "Undefined");
    } else {
        print_str(b, v);
    }
}

void print_str(struct builder *b, struct value v)
{
    switch (v.kind) {
    case VALUE_ABSENT:
    case VALUE_UNDEFINED:
        break;
    case VALUE_NONE:
        builder_puts(b, "None");
        break;
    case VALUE_BOOL:
        builder_puts(b, v.truth ? "True" : "False");
        break;
    case VALUE_INT:
        print_int(b, v.integer);
        break;
    case VALUE_FLOAT:
        print_float(b, v.real);
        break;
    case VALUE_STRING:
        builder_value(b, v);
        break;
    default:
        if (run_enter(b->run))
            print_container(b, v);
        b->run->depth--;
    }
}

struct value value_soft(struct run *r, struct value v)
{
    if (v.kind == VALUE_STRING)
        return v;
    struct builder b = {.run = r};
    print_str(&b, v);
    return builder_string(&b);
}

struct value value_str(struct run *r, struct value v)
{
    v = value_soft(r, v);
    v.safe = false;
    return v;
}

/* ---- JSON ---- */

static void new_line(struct builder *b, const struct json_style *style, int level)
{
    if (!style->indent)
        return;
    builder_puts(b, "\n");
    for (int i = 0; i < level; i++)
        builder_puts(b, style->indent);
}

static void separator(struct builder *b, struct value given, const char *usual)
{
    if (given.kind == VALUE_STRING)
        builder_value(b, given);
    else
        builder_puts(b, usual);
}

static void json_value(struct builder *b, struct value v, const struct json_style *style,
                       int level);

static void json_list(struct builder *b, const struct seq *seq, const struct json_style *style,
                      int level)
{
    builder_puts(b, "[");
    for (size_t i = 0; i < seq->n && run_step(b->run, 1); i++) {
        if (i)
            separator(b, style->item, style->indent ? "," : ", ");
        new_line(b, style, level + 1);
        json_value(b, seq->items[i], style, level + 1);
    }
    if (seq->n)
        new_line(b, style, level);
    builder_puts(b, "]");
}

static void json_key(struct builder *b, struct value key, const struct json_style *style)
{
    if (key.kind == VALUE_STRING) {
        quoted(b, key.string, '"', true, style->ascii);
    } else if (key.kind >= VALUE_NONE && key.kind <= VALUE_FLOAT) {
        builder_puts(b, "\"");
        json_value(b, key, style, 0);
        builder_puts(b, "\"");
    } else {
        run_fail(b->run, "tojson: a %s cannot be a key", value_type(key));
    }
}

static int by_value(const void *a, const void *b, void *run)
{
    const struct value *x = a, *y = b;
    return value_compare(run, x[0], y[0]);
}

/* Keys and values in turn, sorted by the keys. */
static struct value *sorted(struct run *r, const struct dict *dict)
{
    struct value *pairs = run_take(r, dict->n, 2 * sizeof *pairs);
    for (size_t i = 0; pairs && i < dict->n; i++) {
        pairs[2 * i] = dict->keys[i];
        pairs[2 * i + 1] = dict->values[i];
    }
    if (pairs)
        qsort_r(pairs, dict->n, 2 * sizeof *pairs, by_value, r);
    return pairs;
}

static void json_dict(struct builder *b, const struct dict *dict, const struct json_style *style,
                      int level)
{
    struct value *pairs = style->sort ? sorted(b->run, dict) : NULL;
    builder_puts(b, "{");
    for (size_t i = 0; i < dict->n && run_step(b->run, 1); i++) {
        if (i)
            separator(b, style->item, style->indent ? "," : ", ");
        new_line(b, style, level + 1);
        json_key(b, pairs ? pairs[2 * i] : dict->keys[i], style);
        separator(b, style->key, ": ");
        json_value(b, pairs ? pairs[2 * i + 1] : dict->values[i], style, level + 1);
    }
    if (dict->n)
        new_line(b, style, level);
    builder_puts(b, "}");
}

static void json_value(struct builder *b, struct value v, const struct json_style *style, int level)
{
    if (run_enter(b->run)) {
        if (v.kind == VALUE_NONE)
            builder_puts(b, "null");
        else if (v.kind == VALUE_BOOL)
            builder_puts(b, v.truth ? "true" : "false");
        else if (v.kind == VALUE_FLOAT && !isfinite(v.real))
            builder_puts(b, isnan(v.real) ? "NaN" : v.real < 0 ? "-Infinity" : "Infinity");
        else if (v.kind == VALUE_INT || v.kind == VALUE_FLOAT)
            print_str(b, v);
        else if (v.kind == VALUE_STRING)
            quoted(b, v.string, '"', true, style->ascii);
        else if (v.kind == VALUE_LIST || v.kind == VALUE_TUPLE)
            json_list(b, v.seq, style, level);
        else if (v.kind == VALUE_DICT)
            json_dict(b, v.dict, style, level);
        else
            run_fail(b->run, "tojson cannot write a value of kind %s", value_type(v));
    }
    b->run->depth--;
}

void print_json(struct builder *b, struct value v, const struct json_style *style)
{
    json_value(b, v, style, 0);
}
