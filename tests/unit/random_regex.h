/* Random regular expressions that PCRE2 and regex.h read alike. */
#ifndef TESTS_UNIT_RANDOM_REGEX_H
#define TESTS_UNIT_RANDOM_REGEX_H

#include "tests/unit/unit.h"

#include <stdbool.h>

#include "base/rng.h"

struct dice {
    uint64_t seed, count;
};

static inline int roll(struct dice *d, int n)
{
    return (int)rng_below(d->seed, 3, d->count++, (uint64_t)n);
}

struct text {
    char bytes[8192];
    size_t len;
};

static inline void put(struct text *t, const char *what)
{
    size_t n = strlen(what);
    if (t->len + n < sizeof t->bytes) {
        memcpy(t->bytes + t->len, what, n + 1);
        t->len += n;
    }
}

static inline void put_choice(struct text *t, struct dice *d, int depth, bool ascii);

/* A character or a class; the last four are not ASCII's. */
static inline void put_atom(struct text *t, struct dice *d, int depth, bool ascii)
{
    static const char *const atoms[] = {"a",
                                        "b",
                                        "c",
                                        "\\d",
                                        "\\w",
                                        "[ab]",
                                        "[a-c1]",
                                        "1",
                                        "-",
                                        "(?:ab|a)",
                                        ".",
                                        "[^b]",
                                        "\\s",
                                        "[^\\d]",
                                        "\\W",
                                        "\xc3\xa9",
                                        "[\xc3\xa0-\xc3\xbf]",
                                        "[^\xe4\xb8\xad]",
                                        "\xf0\x9f\x98\x80"};
    if (depth && roll(d, 5) == 0) {
        put(t, roll(d, 2) ? "(" : "(?:");
        put_choice(t, d, depth - 1, ascii);
        put(t, ")");
    } else {
        put(t, atoms[roll(d, ascii ? 10 : 19)]);
    }
}

static inline void put_sequence(struct text *t, struct dice *d, int depth, bool ascii)
{
    static const char *const repeats[] = {"*",     "+",    "?",  "{2}", "{1,3}",
                                          "{0,2}", "{2,}", "*?", "+?"};
    for (int n = roll(d, 4); n >= 0; n--) {
        put_atom(t, d, depth, ascii);
        if (roll(d, 3) == 0)
            put(t, repeats[roll(d, 9)]);
    }
}

/* An expression with groups in each other to a depth; ascii: of single bytes that one may be. */
static inline void put_choice(struct text *t, struct dice *d, int depth, bool ascii)
{
    for (int n = roll(d, 3); n >= 0; n--) {
        put_sequence(t, d, depth, ascii);
        put(t, n ? "|" : "");
    }
}

#endif
