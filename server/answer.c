/* Parts of an answer: see answer.h. */
#include "server/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "server/json_text.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static size_t skip_space(const struct buf *text, size_t at)
{
    while (at < text->len && is_space(text->data[at]))
        at++;
    return at;
}

/* ---- parts ---- */

static struct answer_part *add_part(struct answer *answer, bool is_call)
{
    size_t n = answer->n_parts;
    if (n && !answer->parts[n - 1].is_call)
        answer->parts[n - 1].whole = true;
    if (!(n & (n - 1))) { /* full: room grows by powers of two */
        struct answer_part *grown = realloc(answer->parts, (n ? 2 * n : 1) * sizeof *answer->parts);
        if (!grown) {
            answer->failed = true;
            return NULL;
        }
        answer->parts = grown;
    }
    answer->parts[n] = (struct answer_part){.is_call = is_call};
    answer->n_parts++;
    return &answer->parts[n];
}

static void add_text(struct answer *answer, const char *text, size_t len)
{
    size_t n = answer->n_parts;
    if (!len)
        return;
    bool open = n && !answer->parts[n - 1].is_call;
    struct answer_part *part = open ? &answer->parts[n - 1] : add_part(answer, false);
    if (!part)
        return;
    if (answer->forgets && part->given == part->text.len)
        part->text.len = part->given = 0;
    buf_append(&part->text, text, len);
    answer->failed |= part->text.failed;
}

/* Text up to `end` is shown, of what is held. */
static void show(struct answer *answer, size_t end)
{
    add_text(answer, answer->held.data, end);
    buf_consume(&answer->held, end);
}

static void make_id(const struct call_format *format, struct answer_part *part)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    unsigned char bits[16] = {0};
    size_t n = format->short_ids ? 9 : sizeof bits;
    if (getrandom(bits, sizeof bits, 0) < 0)
        memcpy(bits, &part, sizeof part);
    snprintf(part->id, sizeof part->id, "%s", format->short_ids ? "" : "call_");
    for (size_t i = 0, at = strlen(part->id); i < n; i++, at++)
        part->id[at] = letters[bits[i] % (sizeof letters - 1)];
}

/* ---- calls ---- */

static bool is_declared(const struct answer_tools *tools, const struct buf *name)
{
    for (size_t i = 0; i < tools->n; i++)
        if (strlen(tools->names[i]) == name->len && !memcmp(tools->names[i], name->data, name->len))
            return true;
    return false;
}

static bool add_call(struct answer *answer, const char *text, size_t len, bool declared)
{
    struct buf name = {0}, arguments = {0};
    bool call = tool_call_read(text, len, &name, &arguments) &&
                (!declared || is_declared(answer->tools, &name));
    bool extra = answer->tools->one_call && answer->n_calls;
    struct answer_part *part = call && !extra ? add_part(answer, true) : NULL;
    answer->failed |= name.failed || arguments.failed;
    if (part) {
        part->name = name;
        part->text = arguments;
        part->whole = true;
        make_id(answer->tools->format, part);
        answer->n_calls++;
        return true;
    }
    buf_release(&name);
    buf_release(&arguments);
    return call;
}

static bool add_value(struct answer *answer, const char *text, size_t len, bool declared)
{
    if (*text == '{')
        return add_call(answer, text, len, declared);
    size_t n = 0;
    for (size_t at = 1; at < len; n++) {
        while (at < len && (is_space(text[at]) || text[at] == ','))
            at++;
        if (at == len - 1)
            break;
        struct json_scan scan = {0};
        size_t value = text[at] == '{' ? json_scan(&scan, text + at, len - at) : 0;
        if (!value || !add_call(answer, text + at, value, declared))
            return false;
        at += value;
    }
    return n > 0;
}

static void drop_parts(struct answer *answer, size_t n)
{
    while (answer->n_parts > n) {
        struct answer_part *part = &answer->parts[--answer->n_parts];
        answer->n_calls -= part->is_call;
        buf_release(&part->name);
        buf_release(&part->text);
    }
}

/* The values that were read become calls, all or none of them. */
static bool take_values(struct answer *answer, bool declared)
{
    size_t before = answer->n_parts, end = answer->scanned;
    bool was_whole = before && answer->parts[before - 1].whole;
    for (size_t at = skip_space(&answer->held, answer->values); at < end;) {
        struct json_scan scan = {0};
        size_t len = json_scan(&scan, answer->held.data + at, end - at);
        if (!len || !add_value(answer, answer->held.data + at, len, declared)) {
            drop_parts(answer, before);
            if (before)
                answer->parts[before - 1].whole = was_whole;
            return false;
        }
        at = skip_space(&answer->held, at + len);
    }
    return true;
}

/* ---- reading ---- */

/* How many bytes at `at` agree with `what`: all of it, or as many as there are. 0 = they do not. */
static size_t agree(const struct buf *text, size_t at, const char *what)
{
    size_t n = strlen(what), have = text->len - at;
    if (n > have)
        n = have;
    return memcmp(text->data + at, what, n) ? 0 : n;
}

/* Where the last n bytes of a text could be the begin of `what`: the greatest such n. */
static size_t could_begin(const struct buf *text, const char *what)
{
    size_t n = strlen(what);
    while (n > text->len || (n && memcmp(text->data + text->len - n, what, n)))
        n--;
    return n;
}

static void enter(struct answer *answer, enum answer_state state, size_t values)
{
    answer->state = state;
    answer->values = answer->scanned = values;
    answer->in_value = false;
    answer->scan = (struct json_scan){0};
}

/* Goes on over JSON values and the space around them. Returns where something else stands, or the
 * end of what has come. */
static size_t scan_values(struct answer *answer)
{
    struct buf *held = &answer->held;
    for (;;) {
        size_t at = answer->in_value ? answer->scanned : skip_space(held, answer->scanned);
        if (at == held->len)
            return at;
        if (!answer->in_value && held->data[at] != '{' && held->data[at] != '[')
            return at;
        size_t n = json_scan(&answer->scan, held->data + at, held->len - at);
        answer->in_value = !n;
        answer->scanned = n ? at + n : held->len;
        if (n)
            answer->scan = (struct json_scan){0};
    }
}

/* Whether values have been read, and perhaps the begin of one. */
static bool has_values(const struct answer *answer)
{
    return answer->scanned > answer->values;
}

/* Each of these reads on in its state. Returns whether there may be more to read in another. */

/* Between markers. What is no call is shown, its marker too, and not looked at again: so each byte
 * is read a fixed number of times, whatever a model writes. */
static bool read_call(struct answer *answer)
{
    const char *close = answer->tools->format->close;
    size_t at = scan_values(answer), same = agree(&answer->held, at, close);
    if (at == answer->held.len || (has_values(answer) && same && same < strlen(close)))
        return false;
    if (has_values(answer) && same && take_values(answer, false))
        buf_consume(&answer->held, at + same);
    else
        show(answer, answer->scanned);
    enter(answer, ANSWER_TEXT, 0);
    return true;
}

/* Up to where a marker begins or could begin. The space in front of it is held too: it is not part
 * of what is said, if this is a call. */
static bool read_text(struct answer *answer)
{
    struct buf *held = &answer->held;
    const char *open = answer->tools->format->open;
    size_t n = strlen(open);
    const char *at = *open ? memmem(held->data, held->len, open, n) : NULL;
    size_t marker = at ? (size_t)(at - held->data) : held->len - could_begin(held, open);
    size_t end = marker;
    while (n && end && is_space(held->data[end - 1]))
        end--;
    show(answer, end);
    if (at)
        enter(answer, ANSWER_CALL, marker - end + n);
    return at;
}

/* An answer that is nothing but calls begins like one. Returns 0 when it does not, or how much of
 * what has come agrees. */
static bool begins_like_call(const struct buf *held, size_t at)
{
    static const char *const keys[] = {"\"name\"", "\"function\"", "\"type\""};
    for (int brackets = 0; at < held->len && strchr("{[ \t\r\n", held->data[at]); at++)
        if (!held->data[at] || (!is_space(held->data[at]) && ++brackets > 2))
            return false;
    for (int i = 0; i < 3; i++)
        if (at == held->len || agree(held, at, keys[i]))
            return true;
    return false;
}

static bool read_only_calls(struct answer *answer)
{
    struct buf *held = &answer->held;
    size_t at = scan_values(answer);
    if (at < held->len && answer->fenced && has_values(answer)) {
        size_t fence = agree(held, at, "```");
        at = fence ? skip_space(held, at + fence) : at;
    }
    if (at == held->len && begins_like_call(held, answer->values))
        return false;
    enter(answer, ANSWER_TEXT, 0);
    return true;
}

static bool read_begin(struct answer *answer)
{
    struct buf *held = &answer->held;
    size_t at = skip_space(held, 0), fence = at < held->len ? agree(held, at, "```") : 0;
    answer->fenced = fence;
    for (at += fence; fence && at < held->len && held->data[at] != '\n'; at++)
        if ((held->data[at] | 32) < 'a' || (held->data[at] | 32) > 'z')
            fence = 0; /* not the name of a language */
    at = skip_space(held, at);
    if (at == held->len && (fence || !answer->fenced))
        return false;
    bool value = held->data[at] == '{' || held->data[at] == '[';
    enter(answer, value && (fence || !answer->fenced) ? ANSWER_ONLY_CALLS : ANSWER_TEXT, at);
    return true;
}

void answer_add(struct answer *answer, const char *text, size_t len)
{
    static bool (*const read[])(struct answer *) = {[ANSWER_BEGIN] = read_begin,
                                                    [ANSWER_TEXT] = read_text,
                                                    [ANSWER_CALL] = read_call,
                                                    [ANSWER_ONLY_CALLS] = read_only_calls};
    if (!answer->tools->format) {
        add_text(answer, text, len);
        return;
    }
    buf_append(&answer->held, text, len);
    answer->failed |= answer->held.failed;
    while (!answer->failed && answer->held.len && read[answer->state](answer))
        ;
}

/* Closing markers may be missing at the very end. Space behind a call says nothing. */
void answer_end(struct answer *answer)
{
    size_t n = answer->n_parts, at = 0;
    bool only = answer->state == ANSWER_ONLY_CALLS, calls = only || answer->state == ANSWER_CALL;
    if (calls && answer->held.len && !answer->failed) {
        at = scan_values(answer);
        if (has_values(answer) &&
            (only || at == answer->held.len ||
             at + agree(&answer->held, at, answer->tools->format->close) == answer->held.len) &&
            take_values(answer, only))
            answer->held.len = 0;
    }
    bool behind_call = n && answer->parts[n - 1].is_call;
    if (!behind_call || skip_space(&answer->held, 0) < answer->held.len)
        show(answer, answer->held.len);
    answer->held.len = 0;
    if (answer->n_parts)
        answer->parts[answer->n_parts - 1].whole = true;
}

bool answer_next(struct answer *answer, struct answer_piece *piece)
{
    if (answer->next == answer->n_parts)
        return false;
    struct answer_part *part = &answer->parts[answer->next];
    size_t given = part->given;
    if (part->begun && given == part->text.len && !part->whole)
        return false;
    *piece = (struct answer_piece){.part = part,
                                   .index = answer->next,
                                   .begins = !part->begun,
                                   .ends = part->whole,
                                   .text = part->text.len ? part->text.data + given : "",
                                   .len = part->text.len - given};
    part->begun = true;
    part->given = part->text.len;
    answer->next += part->whole;
    return true;
}

void answer_write_text(const struct answer *answer, struct buf *out)
{
    struct buf text = {0};
    for (size_t i = 0; i < answer->n_parts; i++)
        if (!answer->parts[i].is_call)
            buf_append(&text, answer->parts[i].text.data, answer->parts[i].text.len);
    json_write(out, text.len ? text.data : "", text.len);
    out->failed |= text.failed;
    buf_release(&text);
}

void answer_release(struct answer *answer)
{
    drop_parts(answer, 0);
    free(answer->parts);
    buf_release(&answer->held);
    memset(answer, 0, sizeof *answer);
}
