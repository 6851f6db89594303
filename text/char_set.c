/* Sets of characters: see char_set.h. */
#include "text/char_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

void char_set_add(struct char_set *set, uint32_t low, uint32_t high)
{
    if (set->n == set->room) {
        int room = set->room ? 2 * set->room : 8;
        struct char_range *ranges = realloc(set->ranges, (size_t)room * sizeof *ranges);
        if (!ranges) {
            set->failed = true;
            return;
        }
        set->ranges = ranges;
        set->room = room;
    }
    set->ranges[set->n++] = (struct char_range){low, high};
}

void char_set_add_all(struct char_set *set, const struct char_set *other)
{
    for (int i = 0; i < other->n; i++)
        char_set_add(set, other->ranges[i].low, other->ranges[i].high);
    set->failed |= other->failed;
}

static int by_low(const void *a, const void *b)
{
    const struct char_range *x = a, *y = b;
    return (x->low > y->low) - (x->low < y->low);
}

static void merge(struct char_set *set)
{
    int n = 0;
    if (set->n)
        qsort(set->ranges, (size_t)set->n, sizeof *set->ranges, by_low);
    for (int i = 0; i < set->n; i++) {
        struct char_range r = set->ranges[i];
        if (n && r.low <= set->ranges[n - 1].high + 1) {
            if (r.high > set->ranges[n - 1].high)
                set->ranges[n - 1].high = r.high;
        } else {
            set->ranges[n++] = r;
        }
    }
    set->n = n;
}

/* What is between the ranges, of 0 to CHAR_MOST. */
static void complement(struct char_set *set)
{
    struct char_set rest = {.failed = set->failed};
    uint32_t next = 0;
    merge(set);
    for (int i = 0; i < set->n; i++) {
        if (set->ranges[i].low > next)
            char_set_add(&rest, next, set->ranges[i].low - 1);
        next = set->ranges[i].high + 1;
    }
    if (next <= CHAR_MOST)
        char_set_add(&rest, next, CHAR_MOST);
    char_set_release(set);
    *set = rest;
}

void char_set_settle(struct char_set *set)
{
    complement(set);
    char_set_add(set, 0xd800, 0xdfff);
    complement(set);
}

void char_set_negate(struct char_set *set)
{
    complement(set);
    char_set_settle(set);
}

void char_set_release(struct char_set *set)
{
    free(set->ranges);
    *set = (struct char_set){0};
}

/* ---- drawing ---- */

/* States from which 1, 2 or 3 more bytes of a character lead to the end, whichever they are; 0
 * where there is none yet. */
struct ends {
    struct automaton_draft *draft;
    int32_t from, to, rest[4];
};

static int32_t rest_of(struct ends *e, int bytes)
{
    if (bytes == 0)
        return e->to;
    if (!e->rest[bytes]) {
        int32_t behind = rest_of(e, bytes - 1);
        e->rest[bytes] = automaton_state(e->draft);
        automaton_bytes(e->draft, e->rest[bytes], behind, 0x80, 0xbf);
    }
    return e->rest[bytes];
}

/* Characters whose encodings are all that lie, byte for byte, between those of the two. */
static void draw_box(struct ends *e, const char *low, const char *high, int len)
{
    int32_t at = e->from;
    for (int i = 0; i < len; i++) {
        int full = 0; /* bytes from here on that may be any */
        while (i > 0 && i + full < len && (uint8_t)low[i + full] == 0x80 &&
               (uint8_t)high[i + full] == 0xbf)
            full++;
        bool rest = i > 0 && i + full == len;
        int32_t to = i + 1 == len ? e->to : rest ? rest_of(e, len - i - 1) : -1;
        if (to < 0)
            to = automaton_state(e->draft);
        automaton_bytes(e->draft, at, to, (uint8_t)low[i], (uint8_t)high[i]);
        if (rest)
            return;
        at = to;
    }
}

/* Cuts a range until the encodings of a part have one length and, behind the byte in which they
 * first differ, any bytes. */
static void draw_range(struct ends *e, uint32_t low, uint32_t high)
{
    static const uint32_t lasts[] = {0x7f, 0x7ff, 0xffff};
    char a[4], b[4];
    for (int i = 0; i < 3; i++)
        if (low <= lasts[i] && high > lasts[i]) {
            draw_range(e, low, lasts[i]);
            low = lasts[i] + 1;
        }
    int len = utf8_encode(low, a);
    for (int i = 1; i < len; i++) {
        uint32_t mask = (1u << 6 * i) - 1;
        if ((low & ~mask) == (high & ~mask))
            continue;
        if (low & mask) {
            draw_range(e, low, low | mask);
            draw_range(e, (low | mask) + 1, high);
            return;
        }
        if ((high & mask) != mask) {
            draw_range(e, low, (high & ~mask) - 1);
            draw_range(e, high & ~mask, high);
            return;
        }
    }
    utf8_encode(high, b);
    draw_box(e, a, b, len);
}

static void draw_escape(struct ends *e, uint32_t code)
{
    static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    char text[8];
    int len = snprintf(text, sizeof text, "\\u%04x", code);
    for (const char *s = shorts; *s; s += 2)
        if ((uint32_t)*s == code)
            len = snprintf(text, sizeof text, "\\%c", s[1]);
    int32_t last = automaton_text(e->draft, e->from, text, (size_t)len);
    automaton_empty(e->draft, last, e->to);
}

static bool is_escaped(uint32_t code)
{
    return code < 0x20 || code == '"' || code == '\\';
}

void char_set_draw(const struct char_set *set, bool json, struct automaton_draft *draft,
                   int32_t from, int32_t to)
{
    struct ends e = {.draft = draft, .from = from, .to = to};
    for (int i = 0; i < set->n && !draft->full; i++) {
        uint32_t low = set->ranges[i].low, high = set->ranges[i].high;
        for (uint32_t c = low; json && c <= high && c <= '\\'; c++) {
            if (!is_escaped(c))
                continue;
            if (c > low)
                draw_range(&e, low, c - 1);
            draw_escape(&e, c);
            low = c + 1;
        }
        if (low <= high)
            draw_range(&e, low, high);
    }
}
