/* The methods of strings. */
#include <string.h>

#include "text/template_chars.h"
#include "text/template_run.h"

static bool strings(struct run *r, const struct call *call, int n)
{
    for (int i = 0; i < n; i++)
        if (call->a[i].kind != VALUE_STRING && call->a[i].kind != VALUE_ABSENT)
            run_fail(r, "a str was expected as an argument, not a %s", value_type(call->a[i]));
    return !r->rc;
}

static struct value upper(struct run *r, const struct call *call)
{
    return text_case(r, call->self, TEXT_UPPER);
}

static struct value lower(struct run *r, const struct call *call)
{
    return text_case(r, call->self, TEXT_LOWER);
}

static struct value capitalize(struct run *r, const struct call *call)
{
    return text_case(r, call->self, TEXT_CAPITALIZE);
}

static struct value title(struct run *r, const struct call *call)
{
    return text_case(r, call->self, TEXT_TITLE);
}

static struct value strip(struct run *r, const struct call *call)
{
    return text_strip(r, call->self, call->a[0], true, true);
}

static struct value lstrip(struct run *r, const struct call *call)
{
    return text_strip(r, call->self, call->a[0], true, false);
}

static struct value rstrip(struct run *r, const struct call *call)
{
    return text_strip(r, call->self, call->a[0], false, true);
}

static struct value replace(struct run *r, const struct call *call)
{
    return strings(r, call, 2) ? text_replace(r, call->self, call->a[0], call->a[1], call->a[2])
                               : NONE;
}

static struct value join(struct run *r, const struct call *call)
{
    return text_join(r, call->self, call->a[0], false);
}

static struct value format(struct run *r, const struct call *call)
{
    return format_braces(r, call->self, call->args);
}

static struct value splitlines(struct run *r, const struct call *call)
{
    return text_lines(r, call->self, value_truth(r, call->a[0]));
}

/* At white space, at most `left` times (negative: always). */
static struct value split_space(struct run *r, struct value text, int64_t left)
{
    const char *bytes = text.string->bytes, *end = bytes + text.string->len, *at = bytes;
    struct value list = value_seq(r, VALUE_LIST, 0);
    run_chars(r, text.string->len);
    while (run_step(r, 1)) {
        size_t n;
        while (at < end && (n = chars_space(at, end)))
            at += n;
        if (at == end)
            break;
        const char *word = at;
        for (; at < end && (left == 0 || !chars_space(at, end)); at += n)
            chars_decode(at, end, &n);
        left -= left > 0;
        seq_add(r, list, value_slice(r, text, (size_t)(word - bytes), (size_t)(at - bytes)));
    }
    return list;
}

static bool separator(struct run *r, const struct call *call, int64_t *left)
{
    *left = -1;
    if (call->a[1].kind != VALUE_ABSENT && !value_int(call->a[1], left))
        run_fail(r, "split takes a whole number as its maxsplit");
    if (call->a[0].kind != VALUE_ABSENT && call->a[0].kind != VALUE_NONE)
        strings(r, call, 1);
    if (call->a[0].kind == VALUE_STRING && !call->a[0].string->len)
        run_fail(r, "split takes no empty separator");
    return !r->rc;
}

static struct value split(struct run *r, const struct call *call)
{
    int64_t left;
    if (!separator(r, call, &left))
        return NONE;
    if (call->a[0].kind != VALUE_STRING)
        return split_space(r, call->self, left);
    const struct marked *s = call->self.string, *between = call->a[0].string;
    struct value list = value_seq(r, VALUE_LIST, 0);
    size_t at = 0;
    for (; left && run_step(r, 1); left -= left > 0) {
        size_t place = text_find(r, s, at, between);
        if (place == s->len)
            break;
        seq_add(r, list, value_slice(r, call->self, at, place));
        at = place + between->len;
    }
    seq_add(r, list, value_slice(r, call->self, at, s->len));
    return list;
}

/* The last place of `what` before `end`; SIZE_MAX when there is none. */
static size_t find_last(struct run *r, const struct marked *s, size_t end,
                        const struct marked *what)
{
    if (what->len > end)
        return SIZE_MAX;
    if (!what->len)
        return end;
    for (size_t at = end - what->len + 1; at-- > 0;)
        if (s->bytes[at] == what->bytes[0] && run_step(r, 1) && run_bytes(r, what->len) &&
            !memcmp(s->bytes + at, what->bytes, what->len))
            return at;
    return SIZE_MAX;
}

static struct value rsplit(struct run *r, const struct call *call)
{
    int64_t left;
    if (!separator(r, call, &left))
        return NONE;
    if (call->a[0].kind != VALUE_STRING)
        return left < 0 ? split_space(r, call->self, left)
                        : run_fail(r, "rsplit at white space with maxsplit is not supported");
    const struct marked *s = call->self.string, *between = call->a[0].string;
    struct value list = value_seq(r, VALUE_LIST, 0);
    size_t end = s->len;
    run_chars(r, s->len);
    for (; left && run_step(r, 1); left -= left > 0) {
        size_t place = find_last(r, s, end, between);
        if (place == SIZE_MAX)
            break;
        seq_add(r, list, value_slice(r, call->self, place + between->len, end));
        end = place;
    }
    seq_add(r, list, value_slice(r, call->self, 0, end));
    for (size_t i = 0; !r->rc && i < list.seq->n / 2; i++) {
        struct value *a = list.seq->items + i, *b = list.seq->items + list.seq->n - 1 - i, t = *a;
        *a = *b;
        *b = t;
    }
    return list;
}

static struct value affix(struct run *r, const struct call *call, bool end)
{
    struct value one = call->a[0], *items = &one;
    size_t n = 1;
    if (one.kind == VALUE_TUPLE) {
        items = one.seq->items;
        n = one.seq->n;
    }
    const struct marked *s = call->self.string;
    for (size_t i = 0; i < n && run_step(r, 1); i++) {
        if (items[i].kind != VALUE_STRING)
            return run_fail(r, "startswith and endswith take strings, not a %s",
                            value_type(items[i]));
        const struct marked *part = items[i].string;
        if (part->len <= s->len && run_bytes(r, part->len) &&
            !memcmp(s->bytes + (end ? s->len - part->len : 0), part->bytes, part->len))
            return BOOL(true);
    }
    return BOOL(false);
}

static struct value startswith(struct run *r, const struct call *call)
{
    return affix(r, call, false);
}

static struct value endswith(struct run *r, const struct call *call)
{
    return affix(r, call, true);
}

static struct value without_affix(struct run *r, const struct call *call, bool end)
{
    if (!strings(r, call, 1) || !affix(r, call, end).truth)
        return call->self;
    size_t n = call->a[0].string->len, len = call->self.string->len;
    return value_slice(r, call->self, end ? 0 : n, end ? len - n : len);
}

static struct value removeprefix(struct run *r, const struct call *call)
{
    return without_affix(r, call, false);
}

static struct value removesuffix(struct run *r, const struct call *call)
{
    return without_affix(r, call, true);
}

static struct value count(struct run *r, const struct call *call)
{
    if (!strings(r, call, 1))
        return NONE;
    const struct marked *s = call->self.string, *what = call->a[0].string;
    int64_t n = 0;
    if (!what->len)
        return INT(value_length(r, call->self) + 1);
    for (size_t at = 0; run_step(r, 1); at += what->len, n++)
        if ((at = text_find(r, s, at, what)) == s->len)
            break;
    return INT(n);
}

/* The character's place, -1 for none. */
static struct value place(struct run *r, const struct call *call, bool last)
{
    if (!strings(r, call, 1))
        return NONE;
    const struct marked *s = call->self.string, *what = call->a[0].string;
    run_chars(r, 2 * s->len);
    size_t at;
    if (last) {
        at = find_last(r, s, s->len, what);
    } else {
        const char *found = memmem(s->bytes, s->len, what->bytes, what->len);
        at = found ? (size_t)(found - s->bytes) : SIZE_MAX;
    }
    return INT(at == SIZE_MAX ? -1 : (int64_t)chars_count(s->bytes, at));
}

static struct value find_method(struct run *r, const struct call *call)
{
    return place(r, call, false);
}

static struct value rfind(struct run *r, const struct call *call)
{
    return place(r, call, true);
}

static struct value index_method(struct run *r, const struct call *call)
{
    struct value at = place(r, call, false);
    return !r->rc && at.integer < 0 ? run_fail(r, "index found no such text") : at;
}

/* Whether there are characters and all are of that kind; cased ones for upper and lower. */
static struct value all(struct run *r, const struct call *call, char kind)
{
    const struct marked *s = call->self.string;
    bool some = false;
    run_chars(r, s->len);
    for (size_t at = 0, n; at < s->len; at += n) {
        const char *c = s->bytes + at;
        int32_t code = chars_decode(c, s->bytes + s->len, &n);
        int digit = code >= 0 && code < 0x80 ? chars_digit((char)code) : 99;
        bool up = chars_is_upper(code), low = chars_is_lower(code);
        bool letter = up || low || digit < 99 || (code >= 0x80 && chars_word(c, c + n));
        bool is = kind == 'd'   ? digit <= 9
                  : kind == 'a' ? letter && digit > 9
                  : kind == 'n' ? letter
                  : kind == 's' ? chars_space(c, c + n) != 0
                  : kind == 'u' ? !low
                                : !up;
        if (!is)
            return BOOL(false);
        some |= kind == 'u' ? up : kind == 'l' ? low : true;
    }
    return BOOL(some);
}

static struct value isdigit_method(struct run *r, const struct call *call)
{
    return all(r, call, 'd');
}

static struct value isalpha_method(struct run *r, const struct call *call)
{
    return all(r, call, 'a');
}

static struct value isalnum_method(struct run *r, const struct call *call)
{
    return all(r, call, 'n');
}

static struct value isspace_method(struct run *r, const struct call *call)
{
    return all(r, call, 's');
}

static struct value isupper_method(struct run *r, const struct call *call)
{
    return all(r, call, 'u');
}

static struct value islower_method(struct run *r, const struct call *call)
{
    return all(r, call, 'l');
}

static struct value unsupported(struct run *r, const struct call *call)
{
    (void)call;
    return run_fail(r, "this method of strings is not supported");
}

const struct builtin text_methods[] = {
    {"upper", upper, {0}, 0, false},
    {"lower", lower, {0}, 0, false},
    {"capitalize", capitalize, {0}, 0, false},
    {"title", title, {0}, 0, false},
    {"strip", strip, {"chars"}, 0, false},
    {"lstrip", lstrip, {"chars"}, 0, false},
    {"rstrip", rstrip, {"chars"}, 0, false},
    {"replace", replace, {"old", "new", "count"}, 2, false},
    {"join", join, {"iterable"}, 1, false},
    {"format", format, {0}, 0, true},
    {"split", split, {"sep", "maxsplit"}, 0, false},
    {"rsplit", rsplit, {"sep", "maxsplit"}, 0, false},
    {"splitlines", splitlines, {"keepends"}, 0, false},
    {"startswith", startswith, {"prefix"}, 1, false},
    {"endswith", endswith, {"suffix"}, 1, false},
    {"removeprefix", removeprefix, {"prefix"}, 1, false},
    {"removesuffix", removesuffix, {"suffix"}, 1, false},
    {"count", count, {"sub"}, 1, false},
    {"find", find_method, {"sub"}, 1, false},
    {"rfind", rfind, {"sub"}, 1, false},
    {"index", index_method, {"sub"}, 1, false},
    {"isdigit", isdigit_method, {0}, 0, false},
    {"isnumeric", isdigit_method, {0}, 0, false},
    {"isdecimal", isdigit_method, {0}, 0, false},
    {"isalpha", isalpha_method, {0}, 0, false},
    {"isalnum", isalnum_method, {0}, 0, false},
    {"isspace", isspace_method, {0}, 0, false},
    {"isupper", isupper_method, {0}, 0, false},
    {"islower", islower_method, {0}, 0, false},
    {"casefold", unsupported, {0}, 0, true},
    {"center", unsupported, {0}, 0, true},
    {"encode", unsupported, {0}, 0, true},
    {"expandtabs", unsupported, {0}, 0, true},
    {"format_map", unsupported, {0}, 0, true},
    {"isascii", unsupported, {0}, 0, true},
    {"isidentifier", unsupported, {0}, 0, true},
    {"isprintable", unsupported, {0}, 0, true},
    {"istitle", unsupported, {0}, 0, true},
    {"ljust", unsupported, {0}, 0, true},
    {"maketrans", unsupported, {0}, 0, true},
    {"partition", unsupported, {0}, 0, true},
    {"rindex", unsupported, {0}, 0, true},
    {"rjust", unsupported, {0}, 0, true},
    {"rpartition", unsupported, {0}, 0, true},
    {"swapcase", unsupported, {0}, 0, true},
    {"translate", unsupported, {0}, 0, true},
    {"zfill", unsupported, {0}, 0, true},
    {0},
};
