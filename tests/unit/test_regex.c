/* Regular expressions become automata that accept what PCRE2 matches from end to end: on random
 * expressions and texts, with what lies between the expression and the text checked on the way:
 * every beginning of a match is one of some text. What is not supported is refused by name. */
#include "tests/unit/unit.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "tests/unit/random_regex.h"
#include "text/positions.h"
#include "text/regex.h"

/* Whether the automaton takes the text, and how many bytes of it can begin one that it takes. */
static bool accepts(struct positions *p, const char *text, size_t len, size_t *begun)
{
    int32_t at = positions_start(p);
    for (*begun = 0; *begun < len && at >= 0; ++*begun) {
        int32_t next = positions_step(p, at, (uint8_t)text[*begun]);
        if (next == POSITION_FULL) {
            assert_true(positions_collect(p, &at, 1));
            next = positions_step(p, at, (uint8_t)text[*begun]);
            assert_int_not_equal(next, POSITION_FULL);
        }
        at = next;
    }
    return positions_accepts(p, at);
}

/* ---- by hand ---- */

static bool matches(const char *expression, const char *text)
{
    struct automaton *a;
    struct positions p;
    struct err err;
    size_t begun;
    assert_ok(regex_compile(expression, strlen(expression), &a, &err), err);
    assert_ok(positions_init(&p, a, &err), err);
    automaton_release(a);
    bool found = accepts(&p, text, strlen(text), &begun);
    positions_release(&p);
    return found;
}

static void test_syntax(void **state)
{
    static const char *const yes[][2] = {
        {"", ""},
        {"abc", "abc"},
        {"^abc$", "abc"},
        {"a|b|", ""},
        {"[a-c\\d_-]+", "a0-_c"},
        {"[^a-c]", "\xc3\xa9"},
        {".", "\xf0\x9f\x98\x80"},
        {"\\u00e9\\x41\\u{1F600}\\ud83d\\ude00", "\xc3\xa9"
                                                 "A\xf0\x9f\x98\x80\xf0\x9f\x98\x80"},
        {"(?:ab){2,3}?", "ababab"},
        {"(?<year>\\d{4})-(?P<m>\\d\\d)", "2026-08"},
        {"\\(\\)\\[\\]\\{\\}\\.\\\\\\/", "()[]{}.\\/"},
        {"a{,2}", "a{,2}"},
        {"\\s\\S\\w\\W\\d\\D", " .a 1a"},
        {"(a*)*b", "aab"},
        {"((a|b)*c){2}", "abcc"},
        {"[\\u4e00-\\u9fff]{2}", "\xe4\xb8\xad\xe6\x96\x87"},
    };
    static const char *const no[][2] = {
        {"abc", "abcd"},     {".", "\xed\xa0\x80"}, {"[^a]", "\xed\xbf\xbf"}, {"a+", ""},
        {".", "\n"},         {"[^a]", "a"},         {"(ab){2}", "ab"},        {"a{2,3}", "aaaa"},
        {"\\w", "\xc3\xa9"}, {".", "\xc3"},         {"[\\d]", "a"},           {"[^\\W]", "-"}};
    (void)state;
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        if (!matches(yes[i][0], yes[i][1]))
            fail_msg("%s does not match %s", yes[i][0], yes[i][1]);
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        if (matches(no[i][0], no[i][1]))
            fail_msg("%s matches %s", no[i][0], no[i][1]);
}

static void test_refusals(void **state)
{
    static const char *const cases[][2] = {
        {"(a)\\1", "back-references"},
        {"(?<x>a)\\k<x>", "back-references"},
        {"a(?=b)", "lookaround"},
        {"(?<!b)a", "lookaround"},
        {"(?>a)", "atomic groups"},
        {"(?i)a", "inline flags"},
        {"a++", "possessive"},
        {"a{2}+", "possessive"},
        {"\\bword", "word boundaries"},
        {"\\p{L}", "Unicode properties"},
        {"[[:alpha:]]", "POSIX classes"},
        {"a(^b)", "^ and $"},
        {"a$b", "^ and $"},
        {"*a", "nothing to repeat"},
        {"a**", "nothing to repeat"},
        {"a{3,2}", "out of order"},
        {"[b-a]", "out of order"},
        {"(a", "not closed"},
        {"[a", "not closed"},
        {"a)", "not opened"},
        {"a\\", "at the end"},
        {"\\q", "not known"},
        {"\\x4", "hexadecimal"},
        {"a{99999}", "too often"},
        {"\xff", "UTF-8"},
        {"[^\\s\\S]", "no finite text"},
        {"((((((((((((((((((((((((((a))))))))))))))))))))))))))", "nested too deeply"},
        {"(a|b|cd){60000}(e|fg){60000}", "too large"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct automaton *a = NULL;
        struct err err = {{0}};
        int rc = regex_compile(cases[i][0], strlen(cases[i][0]), &a, &err);
        if (rc != ERR_INVALID || !strstr(err.text, cases[i][1]))
            fail_msg("%s: %d, %s", cases[i][0], rc, err.text);
        assert_null(a);
    }
}

/* Expressions that make others' work explode are compiled at once, or refused. */
static void test_hostile(void **state)
{
    static const char *const cases[] = {"(((a{1000}){1000}){1000}){1000}",
                                        "((((){60000}){60000}){60000}){60000}",
                                        "(((a*)*)*)*",
                                        "(a|a|a|a|a|a|a|a)*(b|b|b)*",
                                        "(.*a){40}",
                                        ".*a.{300}",
                                        "(a?){300}a{300}",
                                        "((a{0,9}){0,9}){0,9}",
                                        "((a{0,99}b?){0,99}c?){0,99}"};
    char text[2000];
    size_t begun;
    (void)state;
    memset(text, 'a', sizeof text);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct automaton *a;
        struct positions p;
        struct err err;
        if (regex_compile(cases[i], strlen(cases[i]), &a, &err))
            continue;
        assert_ok(positions_init(&p, a, &err), err);
        automaton_release(a);
        accepts(&p, text, 600, &begun);
        positions_release(&p);
    }
}

/* ---- against PCRE2 ---- */

static void put_text(struct text *t, struct dice *d)
{
    static const char *const pieces[] = {
        "a", "b",  "c",  "1",  "\xc3\xa9", "z", " ", "\xc3\xbf", "\xe4\xb8\xad", "\xf0\x9f\x98\x80",
        "a", "ab", "bc", "\n", "-"};
    for (int n = roll(d, 9); n > 0; n--)
        put(t, pieces[roll(d, 15)]);
}

/* A random walk along what may follow, which PCRE2 must match where it may end. */
static void walk(struct positions *p, struct dice *d, struct text *t)
{
    int32_t at = positions_start(p);
    while (at >= 0 && t->len < 60 && !(positions_accepts(p, at) && roll(d, 4) == 0)) {
        int byte = roll(d, 256), tries = 0;
        while (positions_step(p, at, (uint8_t)byte) < 0 && tries++ < 256)
            byte = (byte + 1) % 256;
        if (tries > 256) {
            assert_true(positions_accepts(p, at)); /* no dead ends */
            break;
        }
        at = positions_step(p, at, (uint8_t)byte);
        t->bytes[t->len++] = (char)byte;
    }
    if (!positions_accepts(p, at))
        t->len = 0;
}

static bool pcre_matches(const pcre2_code *code, pcre2_match_data *data, const struct text *t)
{
    int n = pcre2_match(code, (PCRE2_SPTR)t->bytes, t->len, 0, 0, data, NULL);
    assert_true(n >= 0 || n == PCRE2_ERROR_NOMATCH);
    return n >= 0;
}

/* PCRE2's \s knows no other spaces than ASCII's. */
static bool has_odd_space(const struct text *t)
{
    static const char *const spaces[] = {"\xc2\xa0", "\xe1\x9a\x80", "\xe2\x80",
                                         "\xe2\x81", "\xe3\x80\x80", "\xef\xbb\xbf"};
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++)
        if (memmem(t->bytes, t->len, spaces[i], strlen(spaces[i])))
            return true;
    return false;
}

static void test_random(void **state)
{
    struct dice d = {12, 0};
    int taken = 0, refused = 0, walked = 0;
    (void)state;
    for (int i = 0; i < 3000; i++) {
        struct text expression = {.len = 0};
        struct automaton *a;
        struct positions p;
        struct err err;
        int number;
        size_t at, begun;
        put_choice(&expression, &d, 3, false);
        pcre2_code *code =
            pcre2_compile((PCRE2_SPTR)expression.bytes, expression.len,
                          PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_DOLLAR_ENDONLY,
                          &number, &at, NULL);
        assert_non_null(code);
        pcre2_match_data *data = pcre2_match_data_create_from_pattern(code, NULL);
        assert_ok(regex_compile(expression.bytes, expression.len, &a, &err), err);
        assert_ok(positions_init(&p, a, &err), err);
        automaton_release(a);
        for (int k = 0; k < 20; k++) {
            struct text t = {.len = 0};
            put_text(&t, &d);
            bool want = pcre_matches(code, data, &t);
            if (accepts(&p, t.bytes, t.len, &begun) != want)
                fail_msg("%s and '%.*s': PCRE2 says %d", expression.bytes, (int)t.len, t.bytes,
                         want);
            taken += want;
            refused += !want;
        }
        for (int k = 0; k < 5; k++) {
            struct text t = {.len = 0};
            walk(&p, &d, &t);
            if (t.len && !has_odd_space(&t) && !pcre_matches(code, data, &t))
                fail_msg("%s takes '%.*s', which PCRE2 does not", expression.bytes, (int)t.len,
                         t.bytes);
            walked += t.len > 0;
        }
        positions_release(&p);
        pcre2_match_data_free(data);
        pcre2_code_free(code);
    }
    printf("%d matches, %d others, %d walks\n", taken, refused, walked);
    assert_true(taken > 3000 && refused > 3000 && walked > 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_syntax),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
