/* Work on strings: case, stripping, splitting, joining, replacing. Bytes keep their marks. */
#include <string.h>

#include "text/template_chars.h"
#include "text/template_run.h"

/* ---- case ---- */

/* Whether a new word begins behind the character. */
static bool ends_word(enum text_case how, int32_t code, bool space)
{
    if (how == TEXT_TITLE)
        return !chars_is_upper(code) && !chars_is_lower(code);
    return how == TEXT_FILTER_TITLE &&
           (space || (code > 0 && code < 0x80 && strchr("-({[<", (char)code)));
}

/* A sigma at a word's end has a small letter of its own. */
static bool final_sigma(int32_t before, int32_t code, const char *at, const char *end)
{
    size_t n;
    if (code != 0x3a3 || !(chars_is_upper(before) || chars_is_lower(before)))
        return false;
    int32_t behind = at < end ? chars_decode(at, end, &n) : -1;
    return !chars_is_upper(behind) && !chars_is_lower(behind);
}

/* Letter by letter; `first` letters become upper case, others lower. */
struct value text_case(struct run *r, struct value text, enum text_case how)
{
    struct builder b = {.run = r};
    text = value_soft(r, text);
    if (r->rc || !run_chars(r, text.string->len))
        return NONE;
    const struct marked *s = text.string;
    const char *end = s->bytes + s->len;
    bool first = how != TEXT_LOWER;
    int32_t before = -1;
    for (size_t at = 0, n; at < s->len && !r->rc; at += n) {
        const char *c = s->bytes + at;
        int32_t code = chars_decode(c, end, &n), out[3];
        bool mark = s->marks && s->marks[at];
        int count = first ? chars_upper(code, out) : chars_lower(code, out);
        if (!first && final_sigma(before, code, c + n, end))
            out[0] = 0x3c2;
        if (first && count > 1 && (how == TEXT_CAPITALIZE || how == TEXT_TITLE))
            for (int i = 1; i < count; i++) { /* "Ss", not "SS" */
                int32_t small[3];
                chars_lower(out[i], small);
                out[i] = small[0];
            }
        if (code < 0)
            builder_add(&b, c, s->marks ? s->marks + at : NULL, n);
        for (int i = 0; code >= 0 && i < count; i++)
            builder_char(&b, out[i], mark);
        first = how == TEXT_UPPER || ends_word(how, code, chars_space(c, end));
        before = code;
    }
    struct value result = builder_string(&b);
    result.safe = text.safe;
    return result;
}

/* ---- strip ---- */

/* Whether the character of n bytes at `at` is among those to go. */
static bool among(struct value chars, const char *at, size_t n)
{
    if (chars.kind != VALUE_STRING)
        return chars_space(at, at + n) == n;
    const char *set = chars.string->bytes, *end = set + chars.string->len;
    for (size_t m; set < end; set += m) {
        chars_decode(set, end, &m);
        if (m == n && !memcmp(set, at, n))
            return true;
    }
    return false;
}

struct value text_strip(struct run *r, struct value text, struct value chars, bool left, bool right)
{
    if (chars.kind != VALUE_STRING && chars.kind != VALUE_ABSENT && chars.kind != VALUE_NONE)
        return run_fail(r, "strip takes a str, not a %s", value_type(chars));
    text = value_soft(r, text);
    if (r->rc)
        return NONE;
    const char *bytes = text.string->bytes;
    size_t begin = 0, end = text.string->len, n;
    size_t cost = 1 + (chars.kind == VALUE_STRING ? chars.string->len / RUN_STEP_CHARS : 0);
    for (; left && begin < end && run_step(r, cost); begin += n) {
        chars_decode(bytes + begin, bytes + end, &n);
        if (!among(chars, bytes + begin, n))
            break;
    }
    while (right && end > begin && run_step(r, cost)) {
        size_t at = end - 1;
        while (at > begin && end - at < 4 && ((unsigned char)bytes[at] & 0xc0) == 0x80)
            at--;
        if (!among(chars, bytes + at, end - at))
            break;
        end = at;
    }
    return value_slice(r, text, begin, end);
}

/* ---- replace, join ---- */

size_t text_find(struct run *r, const struct marked *s, size_t at, const struct marked *what)
{
    const char *found = memmem(s->bytes + at, s->len - at, what->bytes, what->len);
    size_t place = found ? (size_t)(found - s->bytes) : s->len;
    run_bytes(r, place - at);
    return place;
}

/* An empty old text is between all characters. */
static void interleave(struct builder *b, const struct marked *s, struct value new, int64_t count)
{
    size_t at = 0, n;
    run_chars(b->run, s->len);
    for (; count && !b->run->rc; count--, at += n) {
        builder_value(b, new);
        n = 0;
        if (at == s->len)
            return;
        chars_decode(s->bytes + at, s->bytes + s->len, &n);
        builder_add(b, s->bytes + at, s->marks ? s->marks + at : NULL, n);
    }
    builder_add(b, s->bytes + at, s->marks ? s->marks + at : NULL, s->len - at);
}

struct value text_replace(struct run *r, struct value text, struct value old, struct value new,
                          struct value count)
{
    int64_t left = -1;
    struct builder b = {.run = r};
    if (count.kind != VALUE_ABSENT && count.kind != VALUE_NONE && !value_int(count, &left))
        return run_fail(r, "replace takes a whole number as its count");
    if (r->rc)
        return NONE;
    const struct marked *s = text.string;
    size_t at = 0;
    if (!old.string->len) {
        interleave(&b, s, new, left);
        return builder_string(&b);
    }
    while (left && run_step(r, 1)) {
        size_t place = text_find(r, s, at, old.string);
        if (place == s->len)
            break;
        builder_add(&b, s->bytes + at, s->marks ? s->marks + at : NULL, place - at);
        builder_value(&b, new);
        at = place + old.string->len;
        left -= left > 0;
    }
    builder_add(&b, s->bytes + at, s->marks ? s->marks + at : NULL, s->len - at);
    struct value result = builder_string(&b);
    result.safe = text.safe;
    return result;
}

/* Items that are no strings fail, or are written as str() does if `any`. */
struct value text_join(struct run *r, struct value between, struct value items, bool any)
{
    struct builder b = {.run = r};
    items = value_items(r, items);
    for (size_t i = 0; !r->rc && i < items.seq->n && run_step(r, 1); i++) {
        struct value item = items.seq->items[i];
        if (i)
            builder_value(&b, between);
        if (!any && item.kind != VALUE_STRING)
            return run_fail(r, "join takes strings, not a %s", value_type(item));
        print_str(&b, item);
    }
    return builder_string(&b);
}

struct value text_lines(struct run *r, struct value text, bool keep_ends)
{
    struct value list = value_seq(r, VALUE_LIST, 0);
    if (r->rc || !run_chars(r, text.string->len))
        return list;
    const char *bytes = text.string->bytes, *end = bytes + text.string->len;
    const char *line = bytes;
    for (const char *at = bytes; at < end && !r->rc;) {
        size_t n = chars_break(at, end), m;
        if (!n) {
            chars_decode(at, end, &m);
            at += m;
            continue;
        }
        run_step(r, 1);
        seq_add(r, list,
                value_slice(r, text, (size_t)(line - bytes),
                            (size_t)(at - bytes) + (keep_ends ? n : 0)));
        line = at += n;
    }
    if (line < end)
        seq_add(r, list, value_slice(r, text, (size_t)(line - bytes), text.string->len));
    return list;
}
