/* Expressions for PCRE2, and the pieces that they cut. */
#include "base/buf.h"
#include "tests/unit/unit.h"
#include "text/expression.h"
#include "text/pretokenizer.h"

static int join(void *context, const char *piece, size_t len, struct err *err)
{
    struct buf *out = context;
    (void)err;
    buf_puts(out, out->len ? "|" : "");
    buf_append(out, piece, len);
    return 0;
}

/* `expressions` as vocab_rules has them. */
static void cuts(const char *expressions, const char *text, const char *expected)
{
    struct pretokenizer p;
    struct err err = {0};
    struct buf out = {0};
    assert_ok(pretokenizer_init(&p, expressions, &err), err);
    assert_ok(pretokenizer_split(&p, text, strlen(text), join, &out, &err), err);
    assert_string_equal(out.data ? out.data : "", expected);
    buf_release(&out);
    pretokenizer_release(&p);
}

static void what_is_kept(void **state)
{
    (void)state;
    cuts("", "abc", "abc");
    cuts("ib\0", "abcbb", "a|b|c|b|b");
    cuts("mb\0", "abcbb", "b|b|b");
    cuts("gb\0", "abcbb", "a|c");
    cuts("ib\0i[ac]\0", "aabcc", "a|a|b|c|c");
    cuts("i(?=b)\0", "abcb", "a|bc|b"); /* cuts where nothing matched */
    cuts("ix*\0", "aé", "a|é");
}

static void means_the_same(void **state)
{
    (void)state;
    cuts("i\\s\0",
         "a\xe1\xa0\x8e\xe2\x80\x83"
         "b",
         "a\xe1\xa0\x8e|\xe2\x80\x83|b");
    cuts("i\\S+\0", "a\xe1\xa0\x8e b", "a\xe1\xa0\x8e| |b");
    cuts("i[^\\S\n]+\0", "a \t\nb", "a| \t|\nb");
    cuts("i[\\s-]\0", "a-b c.d", "a|-|b| |c.d");
    cuts("i\\p{Han}+\0", "a中。b", "a|中|。b"); /* the script, not what is used with it */
    cuts("i\\d+\0", "a1٣²", "a|1٣|²");
    cuts("i\\w+\0", "aé_.e\xcc\x81²", "aé_|.|e\xcc\x81|²");
    cuts("i\\W+\0", "a.-b", "a|.-|b");
    cuts("i^b$\0", "a\nb\nc", "a\n|b|\nc"); /* of lines */
    cuts("i\\x41|\\u0042|\\x{43}\0", "xAxBxC", "x|A|x|B|x|C");
    cuts("i(?i:'s)\0", "a's'S'\xc5\xbf", "a|'s|'S|'\xc5\xbf");
    cuts("ia{,2}\\v\0", "aa\x0b", "aa\x0b");
    cuts("i\\p{L}+\0", "-\xf0\xb1\x8d\x90-", "-|\xf0\xb1\x8d\x90|-"); /* U+31350 */
    cuts("i[^\\p{L}-]\0", "-\xf0\xb1\x8d\x90.", "-\xf0\xb1\x8d\x90|.");
    cuts("i\\p{^L}\0", "a.b", "a|.|b");
    cuts("i{\0", "a{b", "a|{|b");
}

static void refuses(const char *expression, const char *says)
{
    struct pretokenizer p;
    struct err err = {0};
    char list[256] = "i";
    strcpy(list + 1, expression);
    list[strlen(list) + 1] = 0;
    if (!pretokenizer_init(&p, list, &err))
        fail_msg("'%s' is not refused", expression);
    pretokenizer_release(&p);
    assert_says(err, says);
}

static void refuses_by_name(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"(*UTF8)a", "a verb"},
        {"(?R)", "kind of group"},
        {"(?<n>a)", "kind of group"},
        {"(?C1)", "kind of group"},
        {"(a)\\1", "behind a backslash"},
        {"\\h", "behind a backslash"},
        {"\\b", "behind a backslash"},
        {"\\K", "behind a backslash"},
        {"a\\", "behind a backslash"},
        {"[a[b]]", "a class inside a class"},
        {"[a&&b]", "an intersection"},
        {"[a", "without an end"},
        {"[]a]", "begins with a bracket"},
        {"\\pL", "written \\p{Name}"},
        {"\\p{L", "written \\p{Name}"},
        {"\\xff", "in this form"},
        {"\\x{110000}", "code point"},
        {"a{2}+", "behind an interval"},
        {"(", "parenthes"},
        {"\\p{Nonsense}", "unknown"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuses(cases[i][0], cases[i][1]);
}

/* An expression made to be slow gives up instead. */
static void gives_up(void **state)
{
    (void)state;
    struct pretokenizer p;
    struct err err = {0};
    struct buf out = {0};
    char text[65];
    memset(text, 'a', 64);
    text[64] = 0;
    assert_ok(pretokenizer_init(&p, "i(a+)+[bc]\0", &err), err);
    assert_int_equal(pretokenizer_split(&p, text, 64, join, &out, &err), ERR_INVALID);
    assert_says(err, "gave up");
    buf_release(&out);
    pretokenizer_release(&p);
}

static void names(void **state)
{
    (void)state;
    struct err err;
    const struct pretokenizer_known *known = pretokenizer_find("llama3", 6);
    assert_true(known && known->add_bos && known->ignore_merges && !known->nfc);
    known = pretokenizer_find("qwen2 and more", 5);
    assert_true(known && known->nfc && !known->add_bos);
    assert_null(pretokenizer_find("qwen", 4));
    assert_int_equal(pretokenizer_refuse("qwen", 4, &err), ERR_INVALID);
    assert_says(err, "'qwen' is not known; known are");
    assert_says(err, "deepseek-v3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_kept),    cmocka_unit_test(means_the_same),
        cmocka_unit_test(refuses_by_name), cmocka_unit_test(gives_up),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
