/* Text for the reader: the same characters and the same end however the bytes were cut into tokens,
 * always valid UTF-8, and never a byte of what turns out to be a stop string. */
#include "engine/text.h"

#include "base/rng.h"
#include "tests/unit/unit.h"

#define BYTES_MAX 64
#define STOPS_MAX 4
#define REPLACEMENT "\xef\xbf\xbd"

/* ---- a plain reference ---- */

/* Bit b of prefix[n]: the n bytes b begin some character's encoding; of whole[n]: they are one.
 * Filled by encoding every code point, so that nothing here knows the table in text.c. */
static unsigned char prefix[5][1 << 21], whole[5][1 << 21];

static size_t encode(uint32_t point, unsigned char *to)
{
    static const unsigned char lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t n = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, point >>= 6)
        to[i] = (unsigned char)(0x80 | (point & 0x3f));
    to[0] = (unsigned char)(lead[n] | point);
    return n;
}

/* Where n <= 3 bytes stand in the bit fields. */
static uint32_t key(const unsigned char *s, size_t n)
{
    uint32_t k = 0;
    for (size_t i = 0; i < n; i++)
        k = k << 8 | s[i];
    return k;
}

static void mark(unsigned char *field, uint32_t k)
{
    field[k >> 3] |= (unsigned char)(1 << (k & 7));
}

static bool marked(const unsigned char *field, uint32_t k)
{
    return field[k >> 3] >> (k & 7) & 1;
}

static int fill_tables(void **state)
{
    (void)state;
    for (uint32_t point = 0; point <= 0x10ffff; point++) {
        unsigned char s[4];
        if (point >= 0xd800 && point < 0xe000)
            continue;
        size_t n = encode(point, s);
        for (size_t i = 1; i < n; i++)
            mark(prefix[i], key(s, i));
        if (n < 4)
            mark(whole[n], key(s, n));
    }
    return 0;
}

/* Length of the character at s, 0 for none. A fourth byte may be any continuation byte. */
static size_t character(const unsigned char *s, size_t n)
{
    for (size_t len = 1; len <= 3 && len <= n; len++)
        if (marked(whole[len], key(s, len)))
            return len;
    return n >= 4 && marked(prefix[3], key(s, 3)) && s[3] >= 0x80 && s[3] < 0xc0 ? 4 : 0;
}

/* How many bytes at s could begin a character: 0..3. */
static size_t begun(const unsigned char *s, size_t n)
{
    size_t len = 0;
    while (len < 3 && len < n && marked(prefix[len + 1], key(s, len + 1)))
        len++;
    return len;
}

/* Replaces every longest piece that begins a character but is none, and every other stray byte.
 * With `open`, a piece that the end cuts off is left out; returns how many bytes were used. */
static size_t repair(const char *bytes, size_t n, bool open, struct buf *out)
{
    const unsigned char *s = (const unsigned char *)bytes;
    size_t i = 0;
    while (i < n) {
        size_t len = character(s + i, n - i), part = begun(s + i, n - i);
        if (!len && open && part == n - i)
            return i;
        if (len)
            buf_append(out, s + i, len);
        else
            buf_puts(out, REPLACEMENT);
        i += len ? len : part ? part : 1;
    }
    return i;
}

struct stops {
    const char *at[STOPS_MAX];
    size_t len[STOPS_MAX];
    int n;
};

/* Bytes arrive one by one; the first byte that completes a stop string ends the text, before the
 * longest one that it completes. */
static bool find_stop(const char *bytes, size_t n, const struct stops *stops, size_t *start)
{
    for (size_t end = 1; end <= n; end++) {
        size_t longest = 0;
        for (int i = 0; i < stops->n; i++)
            if (stops->len[i] <= end && stops->len[i] > longest &&
                !memcmp(bytes + end - stops->len[i], stops->at[i], stops->len[i]))
                longest = stops->len[i];
        if (longest) {
            *start = end - longest;
            return true;
        }
    }
    return false;
}

/* ---- random streams ---- */

struct dice {
    uint64_t seed, n;
};

static size_t roll(struct dice *d, size_t sides)
{
    return (size_t)rng_below(d->seed, 7, d->n++, sides);
}

/* A few characters that share bytes, so that stop strings match often and cut through them. */
static size_t random_bytes(struct dice *d, char *to, size_t most)
{
    static const char *const pieces[] = {"a",
                                         "b",
                                         "ab",
                                         "\xc3\xa9",
                                         "\xe2\x82\xac",
                                         "\xe2\x82\xa9",
                                         "\xf0\x9f\x98\x80",
                                         "\xc3",
                                         "\x82",
                                         "\xac",
                                         "\xe2\x82",
                                         "\xf0\x9f",
                                         "\xf0\x9f\x98",
                                         "\xed\xa0\x80",
                                         "\xc0\xaf",
                                         "\xf4\x90\x80\x80",
                                         "\xff",
                                         "\xe0\x80",
                                         "\xf0\x8f",
                                         "\xf5"};
    size_t n = 0, want = roll(d, most + 1), kinds = roll(d, 2) ? 7 : sizeof pieces / sizeof *pieces;
    while (n < want) {
        const char *piece = pieces[roll(d, kinds)];
        char any = (char)roll(d, 256);
        size_t len = strlen(piece);
        if (kinds > 7 && roll(d, 8) == 0) {
            piece = &any;
            len = 1;
        }
        if (n + len > want)
            break;
        memcpy(to + n, piece, len);
        n += len;
    }
    return n;
}

/* Pieces of the stream, pieces of each other, and strangers. */
static void random_stops(struct dice *d, const char *bytes, size_t n, char store[][BYTES_MAX],
                         struct stops *stops)
{
    stops->n = (int)roll(d, STOPS_MAX + 1);
    for (int i = 0; i < stops->n; i++) {
        const char *from = bytes;
        size_t size = n;
        if (i && roll(d, 3) == 0) {
            from = stops->at[i - 1];
            size = stops->len[i - 1];
        }
        size_t len = size ? 1 + roll(d, size < 9 ? size : 9) : 0;
        size_t at = len ? roll(d, size - len + 1) : 0;
        memcpy(store[i], from + at, len);
        if (!len || roll(d, 5) == 0)
            len += random_bytes(d, store[i] + len, 6);
        if (!len)
            store[i][len++] = 'b';
        stops->at[i] = store[i];
        stops->len[i] = len;
    }
}

/* ---- what comes out ---- */

struct shown {
    struct buf out;
    bool stopped;
};

/* Cuts the bytes into tokens of up to `most` bytes (0 = one of them all), some of them empty. After
 * each token what was shown must be the beginning of `expected`, and all of it that is certain.
 * Stops are ignored in the first `ignored` bytes, at which a token ends. */
static struct shown feed(struct dice *d, const char *bytes, size_t n, const struct stops *stops,
                         size_t most, size_t ignored, const struct buf *expected)
{
    struct shown s = {0};
    struct text text = {.stops = stops->at, .stop_lens = stops->len, .n_stops = stops->n};
    for (size_t at = 0; at < n && !s.stopped;) {
        size_t end = at < ignored ? ignored : n, len = end - at;
        if (most && len > most)
            len = most > 1 ? roll(d, most + 1) : 1;
        s.stopped = text_add(&text, bytes + at, len, at < ignored, &s.out);
        at += len;
        assert_true(s.out.len <= expected->len);
        assert_memory_equal(s.out.len ? s.out.data : "", expected->len ? expected->data : "",
                            s.out.len);
    }
    if (!s.stopped)
        text_end(&text, &s.out);
    assert_int_equal(text.held.len, 0);
    text_release(&text);
    return s;
}

static void check_same(const struct shown *s, bool stopped, const struct buf *expected)
{
    assert_int_equal(s->stopped, stopped);
    assert_int_equal(s->out.len, expected->len);
    if (expected->len)
        assert_memory_equal(s->out.data, expected->data, expected->len);
}

static void check_utf8(const struct buf *b)
{
    for (size_t i = 0, len; i < b->len; i += len) {
        len = character((const unsigned char *)b->data + i, b->len - i);
        assert_true(len > 0);
    }
}

static void cuts_do_not_matter(void **state)
{
    (void)state;
    int stops_seen = 0;
    for (uint64_t round = 0; round < 20000; round++) {
        struct dice d = {round, 0};
        char bytes[BYTES_MAX], store[STOPS_MAX][BYTES_MAX];
        struct stops stops;
        struct buf expected = {0};
        size_t n = random_bytes(&d, bytes, 40), end = n;
        random_stops(&d, bytes, n, store, &stops);
        bool stopped = find_stop(bytes, n, &stops, &end);
        repair(bytes, end, false, &expected);
        check_utf8(&expected);
        stops_seen += stopped;
        for (size_t most = 0; most <= 6; most++) {
            struct shown s = feed(&d, bytes, n, &stops, most, 0, &expected);
            check_same(&s, stopped, &expected);
            buf_release(&s.out);
        }
        buf_release(&expected);
    }
    assert_in_range(stops_seen, 8000, 18000); /* both endings are common */
}

/* Before min_tokens nothing stops the text and nothing but half characters is held back; a stop
 * string that began in what was shown is none. */
static void ignoring_ends_at_a_token(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 10000; round++) {
        struct dice d = {1000000 + round, 0};
        char bytes[BYTES_MAX], store[STOPS_MAX][BYTES_MAX];
        struct stops stops;
        struct buf expected = {0};
        size_t n = random_bytes(&d, bytes, 40);
        if (!n)
            continue;
        random_stops(&d, bytes, n, store, &stops);
        size_t ignored = roll(&d, n), used = repair(bytes, ignored, true, &expected), end;
        bool stopped = find_stop(bytes + used, n - used, &stops, &end);
        repair(bytes + used, stopped ? end : n - used, false, &expected);
        for (size_t most = 0; most <= 4; most++) {
            struct shown s = feed(&d, bytes, n, &stops, most, ignored, &expected);
            check_same(&s, stopped, &expected);
            buf_release(&s.out);
        }
        buf_release(&expected);
    }
}

/* What is certain is shown at once: a reader of a stream waits for nothing but a character's rest
 * and what could be a stop string. */
static void nothing_is_held_in_vain(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 5000; round++) {
        struct dice d = {2000000 + round, 0};
        char bytes[BYTES_MAX], store[STOPS_MAX][BYTES_MAX];
        struct stops stops;
        struct buf out = {0}, expected = {0};
        size_t n = random_bytes(&d, bytes, 40), end, could = 0;
        random_stops(&d, bytes, n, store, &stops);
        if (find_stop(bytes, n, &stops, &end))
            continue;
        for (int i = 0; i < stops.n; i++)
            for (size_t len = 1; len < stops.len[i] && len <= n; len++)
                if (len > could && !memcmp(bytes + n - len, stops.at[i], len))
                    could = len;
        struct text text = {.stops = stops.at, .stop_lens = stops.len, .n_stops = stops.n};
        assert_false(text_add(&text, bytes, n, false, &out));
        repair(bytes, n - could, true, &expected);
        assert_int_equal(out.len, expected.len);
        assert_memory_equal(out.len ? out.data : "", out.len ? expected.data : "", out.len);
        text_release(&text);
        buf_release(&out);
        buf_release(&expected);
    }
}

/* ---- by hand ---- */

static void check_stop(const char *tokens[], const char *const *stops, int n, bool stopped,
                       const char *expected)
{
    size_t lens[STOPS_MAX];
    struct buf out = {0};
    for (int i = 0; i < n; i++)
        lens[i] = strlen(stops[i]);
    struct text text = {.stops = stops, .stop_lens = lens, .n_stops = n};
    bool end = false;
    for (int i = 0; tokens[i] && !end; i++)
        end = text_add(&text, tokens[i], strlen(tokens[i]), false, &out);
    assert_int_equal(end, stopped);
    if (!end)
        text_end(&text, &out);
    assert_string_equal(out.data ? out.data : "", expected);
    text_release(&text);
    buf_release(&out);
}

static void stop_strings_inside_each_other(void **state)
{
    (void)state;
    static const char *const inner[] = {"abcd", "bc"}, *const tail[] = {"c", "abc"};
    check_stop((const char *[]){"xabcd", NULL}, inner, 2, true, "xa");
    check_stop((const char *[]){"x", "a", "b", "c", "d", NULL}, inner, 2, true, "xa");
    check_stop((const char *[]){"xab", "", "cd", NULL}, inner, 2, true, "xa");
    check_stop((const char *[]){"xabc", NULL}, tail, 2, true, "x");
    check_stop((const char *[]){"x", "ab", "c", NULL}, tail, 2, true, "x");
    check_stop((const char *[]){"xab", "d", "ab", NULL}, tail, 2, false, "xabdab");
}

static void characters_stay_whole(void **state)
{
    (void)state;
    static const char *const euro[] = {"\xe2\x82\xac!"}, *const middle[] = {"\x82"};
    check_stop((const char *[]){"1\xe2", "\x82", "\xac", "2", NULL}, euro, 1, false,
               "1\xe2\x82\xac"
               "2");
    check_stop((const char *[]){"1\xe2", "\x82", "\xac", "!", NULL}, euro, 1, true, "1");
    check_stop((const char *[]){"1\xe2\x82\xac", NULL}, middle, 1, true, "1" REPLACEMENT);
    check_stop((const char *[]){"1\xe2", "\x82", NULL}, middle, 1, true, "1" REPLACEMENT);
    check_stop((const char *[]){"1\xe2\x82", NULL}, middle, 0, false, "1" REPLACEMENT);
    check_stop((const char *[]){"\xe2\x82x\xff", NULL}, middle, 0, false,
               REPLACEMENT "x" REPLACEMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_do_not_matter),      cmocka_unit_test(ignoring_ends_at_a_token),
        cmocka_unit_test(nothing_is_held_in_vain), cmocka_unit_test(stop_strings_inside_each_other),
        cmocka_unit_test(characters_stay_whole),
    };
    return cmocka_run_group_tests(tests, fill_tables, NULL);
}
