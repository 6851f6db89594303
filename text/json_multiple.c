/* Multiples, digit by digit: see json_multiple.h. */
#include "text/json_multiple.h"

#include <stdio.h>
#include <stdlib.h>

#define DIGITS 15 /* of a number: a double tells all of these apart */

/* ---- decimals ---- */

static const int64_t TEN_TO[DIGITS + 1] = {1,
                                           10,
                                           100,
                                           1000,
                                           10000,
                                           100000,
                                           1000000,
                                           10000000,
                                           100000000,
                                           1000000000,
                                           10000000000,
                                           100000000000,
                                           1000000000000,
                                           10000000000000,
                                           100000000000000,
                                           1000000000000000};

#define BEYOND TEN_TO[DIGITS] /* the least number that has too many digits */

/* digits / 10^places, with as few places as can be */
struct decimal {
    int64_t digits;
    int places;
};

/* The shortest decimal that a double stands for is what was written. */
static bool read_real(double real, struct decimal *x)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%.*e", DIGITS - 1, real), exponent = 0;
    x->digits = 0;
    for (int i = 0; i < n; i++) {
        if (text[i] == 'e') {
            exponent = atoi(text + i + 1);
            break;
        }
        if (text[i] >= '0' && text[i] <= '9')
            x->digits = x->digits * 10 + (text[i] - '0');
    }
    x->digits = real < 0 ? -x->digits : x->digits;
    x->places = x->digits ? DIGITS - 1 - exponent : 0;
    while (x->places > 0 && x->digits % 10 == 0) {
        x->digits /= 10;
        x->places--;
    }
    return strtod(text, NULL) == real && x->places >= 0 && x->places <= DIGITS;
}

/* False, and it is refused, when it is no number or has too many digits. */
static bool read_decimal(struct json_compiler *c, const json_t *schema, const char *keyword,
                         struct decimal *x)
{
    const json_t *field = json_object_get(schema, keyword);
    bool fits = true;
    *x = (struct decimal){json_integer_value(field), 0};
    if (!json_is_number(field))
        json_refuse(c, keyword, "it must be a number");
    else if (json_is_real(field))
        fits = read_real(json_real_value(field), x);
    if (!fits || x->digits <= -BEYOND || x->digits >= BEYOND)
        json_refuse(c, keyword,
                    "beside 'multipleOf' a number may have %d digits, and as many behind the point",
                    DIGITS);
    return !c->rc;
}

/* The greatest whole number of 10^-places that is not above x, at most BEYOND. */
static int64_t floor_of(const struct decimal *x, int places, bool *exact)
{
    int shift = places - x->places;
    *exact = true;
    if (shift >= 0) {
        int64_t most = BEYOND / TEN_TO[shift];
        return x->digits > most ? BEYOND : x->digits < -most ? -BEYOND : x->digits * TEN_TO[shift];
    }
    int64_t down = x->digits / TEN_TO[-shift], rest = x->digits % TEN_TO[-shift];
    *exact = !rest;
    return down - (rest < 0);
}

/* ---- bounds ---- */

enum { MINIMUM, EXCLUSIVE_MINIMUM, MAXIMUM, EXCLUSIVE_MAXIMUM, BOUNDS };

struct bounds {
    bool has[BOUNDS];
    struct decimal at[BOUNDS];
};

static void read_bounds(struct json_compiler *c, const json_t *schema, struct bounds *b)
{
    static const char *const names[] = {"minimum", "exclusiveMinimum", "maximum",
                                        "exclusiveMaximum"};
    for (int i = 0; i < BOUNDS; i++)
        b->has[i] =
            json_object_get(schema, names[i]) && read_decimal(c, schema, names[i], &b->at[i]);
}

/* What they leave of numbers with so many places, as whole numbers of 10^-places. */
static void within(const struct bounds *b, int places, int64_t *least, int64_t *most)
{
    *least = -BEYOND + 1;
    *most = BEYOND - 1;
    for (int i = 0; i < BOUNDS; i++) {
        bool exact, lower = i == MINIMUM || i == EXCLUSIVE_MINIMUM;
        if (!b->has[i])
            continue;
        int64_t bound = floor_of(&b->at[i], places, &exact);
        bound += lower && (i == EXCLUSIVE_MINIMUM || !exact);
        bound -= i == EXCLUSIVE_MAXIMUM && exact;
        if (lower && bound > *least)
            *least = bound;
        if (!lower && bound < *most)
            *most = bound;
    }
}

/* ---- digits ---- */

/* Numbers with `places` digits behind the point, as whole numbers without it. */
struct multiples {
    struct automaton_draft *draft;
    int64_t of;         /* they are multiples of it */
    int64_t remainders; /* of, without factors of ten */
    int32_t *free;      /* (DIGITS + 1, remainders) by the digits that follow: a state + 1 where all
                           of them may, 0: not drawn */
    int places;
    int64_t least, most; /* those that are drawn now */
    int32_t to;
};

static int64_t common(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The state in which the digits of `begun` have been read and `left` more follow; -1 where no
 * multiple begins like that. */
static int32_t draw_digits(struct multiples *m, int64_t begun, int left)
{
    int64_t low = begun * TEN_TO[left], high = low + TEN_TO[left] - 1;
    bool free = low >= m->least && high <= m->most;
    low = low > m->least ? low : m->least;
    high = high < m->most ? high : m->most;
    int64_t first = low + (m->of - low % m->of) % m->of;
    if (first > high || m->draft->full)
        return -1;
    if (!left)
        return m->to;
    /* Of what was read, only this matters to what may follow. It is 0 where only zeros may. */
    int64_t rest = begun % (m->of / common(m->of, TEN_TO[left]));
    int32_t *known = free ? &m->free[left * m->remainders + rest] : NULL;
    if (known && *known)
        return *known - 1;
    int32_t state = automaton_state(m->draft), at = state, next[11];
    if (left == m->places)
        at = automaton_text(m->draft, at, ".", 1);
    for (int digit = 0; digit < 10; digit++)
        next[digit] = draw_digits(m, begun * 10 + digit, left - 1);
    next[10] = -1;
    for (int digit = 0, run = 0; digit < 10; digit++)
        if (next[digit + 1] != next[run] || digit == 9) {
            if (next[run] >= 0)
                automaton_bytes(m->draft, at, next[run], '0' + run, '0' + digit);
            run = digit + 1;
        }
    if (known)
        *known = state + 1;
    return state;
}

/* Those from least to most, neither below 0, by their count of digits. */
static bool draw_lengths(struct multiples *m, int32_t from, int64_t least, int64_t most)
{
    bool any = false;
    for (int n = m->places + 1; n <= DIGITS; n++) {
        int64_t shortest = n == m->places + 1 ? 0 : TEN_TO[n - 1], longest = TEN_TO[n] - 1;
        m->least = least > shortest ? least : shortest;
        m->most = most < longest ? most : longest;
        int32_t state = draw_digits(m, 0, n);
        if (state >= 0)
            automaton_empty(m->draft, from, state);
        any |= state >= 0;
    }
    return any;
}

/* Numbers with so many places that are multiples of `of` of them. */
static bool draw_places(struct json_compiler *c, int64_t of, int places, const struct bounds *b,
                        int32_t from, int32_t to)
{
    struct multiples m = {
        .draft = &c->draft, .of = of, .remainders = of, .places = places, .to = to};
    int64_t least, most;
    while (m.remainders % 10 == 0)
        m.remainders /= 10;
    m.free = calloc((size_t)(m.remainders * (DIGITS + 1)), sizeof *m.free);
    if (!m.free) {
        json_out_of_memory(c);
        return false;
    }
    within(b, places, &least, &most);
    bool any = draw_lengths(&m, from, least > 0 ? least : 0, most);
    if (least < 0)
        any |=
            draw_lengths(&m, json_lexis_text(&c->lexis, "-", from), most < 0 ? -most : 1, -least);
    free(m.free);
    return any;
}

/* ---- the whole ---- */

/* With fewer places than it has, a number is a multiple where it is one of this many of them. */
static int64_t multiple_at(const struct decimal *multiple, int places)
{
    return multiple->digits / common(multiple->digits, TEN_TO[multiple->places - places]);
}

static void check_remainders(struct json_compiler *c, const struct decimal *multiple, int places)
{
    int64_t remainders = 0;
    for (int i = 0; i <= places; i++) {
        int64_t of = multiple_at(multiple, i);
        while (of % 10 == 0)
            of /= 10;
        remainders += of;
    }
    if (remainders > JSON_MULTIPLE_REMAINDERS)
        json_refuse(c, "multipleOf",
                    "it leaves %lld remainders to be told apart, but %d are supported",
                    (long long)remainders, JSON_MULTIPLE_REMAINDERS);
}

int32_t json_multiple_draw(struct json_compiler *c, const json_t *schema, bool whole, int32_t from)
{
    struct decimal multiple;
    struct bounds bounds;
    bool any = false;
    if (read_decimal(c, schema, "multipleOf", &multiple) && multiple.digits <= 0)
        json_refuse(c, "multipleOf", "it must be above 0");
    read_bounds(c, schema, &bounds);
    if (c->rc)
        return from;
    int places = whole ? 0 : multiple.places;
    check_remainders(c, &multiple, places);
    int32_t to = automaton_state(&c->draft);
    for (int i = 0; i <= places && !c->rc; i++)
        any |= draw_places(c, multiple_at(&multiple, i), i, &bounds, from, to);
    if (!any && !c->draft.full)
        json_refuse(c, NULL, "no multiple is within its bounds");
    return to;
}
