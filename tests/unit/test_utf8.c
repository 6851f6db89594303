/* UTF-8 against a decoder by the definition, and NFC against known forms. */
#include "base/buf.h"
#include "tests/unit/unit.h"
#include "text/nfc.h"
#include "text/utf8.h"

/* Every sequence of two bytes, and every code point. */
static void decodes_what_is_well_formed(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x110000; code++) {
        char s[4];
        uint32_t back = 0;
        if (code >= 0xd800 && code < 0xe000)
            continue;
        int n = utf8_encode(code, s);
        assert_int_equal(n, code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4);
        assert_int_equal(utf8_decode(s, 4, &back), n);
        assert_int_equal(back, code);
        for (int k = 1; k < n; k++)
            assert_int_equal(utf8_decode(s, (size_t)k, NULL), 0);
    }
    static const struct {
        const char *s;
        int expected;
    } wrong[] = {{"\x80", -1},         {"\xc0\x80", -1},
                 {"\xc1\xbf", -1},     {"\xe0\x9f\xbf", -1},
                 {"\xed\xa0\x80", -1}, {"\xf0\x8f\xbf\xbf", -1},
                 {"\xf4\x90\x80", -1}, {"\xf5\x80\x80\x80", -1},
                 {"\xe4\xb8\x41", -2}, {"\xf0\x9f\x98\x41", -3}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(utf8_decode(wrong[i].s, strlen(wrong[i].s), NULL), wrong[i].expected);
}

static void finds_where_it_ends(void **state)
{
    (void)state;
    assert_int_equal(utf8_valid("ab\xc3\xa9\xff", 5), 4);
    assert_int_equal(utf8_valid("ab\xc3", 3), 2);
    assert_int_equal(utf8_valid("", 0), 0);
    assert_int_equal(utf8_invalid("\xff\x80\xe4\xb8", 4), 4);
    assert_int_equal(utf8_invalid("\xff\xc3\xa9", 3), 1);
    assert_int_equal(utf8_invalid("a", 1), 0);
}

static void knows_kinds(void **state)
{
    (void)state;
    int spaces = 0;
    for (uint32_t code = 0; code < 0x110000; code++)
        spaces += utf8_is_space(code);
    assert_int_equal(spaces, 25); /* PropList.txt */
    assert_true(!utf8_is_space(0x180e) && utf8_is_space(0x3000) && !utf8_is_space(0x200b));
    assert_true(utf8_is_word('a') && utf8_is_word('_') && utf8_is_word(0x301) && utf8_is_word('7'));
    assert_true(!utf8_is_word('-') && !utf8_is_word(0xb2) && utf8_is_word(0x24d0));
    assert_true(utf8_is_word(0x31350) && utf8_is_word(0x16124)); /* of Unicode 15 and 16 */
}

static void normal(const char *text, const char *expected)
{
    struct buf out = {0};
    nfc_append(text, strlen(text), &out);
    assert_string_equal(out.data ? out.data : "", expected);
    assert_true(!strcmp(text, expected) || nfc_may_change(text, strlen(text)));
    buf_release(&out);
}

static void normal_forms(void **state)
{
    (void)state;
    normal("", "");
    normal("plain", "plain");
    normal("\xc3\xa9", "\xc3\xa9");
    normal("e\xcc\x81", "\xc3\xa9");
    normal("ae\xcc\x81"
           "b",
           "a\xc3\xa9"
           "b");
    normal("e\xcc\x81"
           "bcd",
           "\xc3\xa9"
           "bcd");
    normal("\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81"); /* Hangul */
    normal("a\xcc\x81\xcc\xa3", "\xe1\xba\xa1\xcc\x81");            /* order of marks */
    normal("\xe2\x84\xab", "\xc3\x85");                             /* the angstrom sign */
    normal("\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc");             /* excluded from composing */
    normal("\xff"
           "e\xcc\x81\xcc",
           "\xff\xc3\xa9\xcc");                               /* what is no UTF-8 stays */
    normal("a\xe0\xa3\x8f\xcc\x81", "a\xe0\xa3\x8f\xcc\x81"); /* U+08CF is of Unicode 14 */
}

/* Marks sorted by their classes, equals in order, for few of them and for many. */
static void orders_marks(void **state)
{
    (void)state;
    for (int n = 1; n < 100; n++) {
        struct buf text = {0}, out = {0};
        buf_puts(&text, "\xe4\xb8\xad");
        for (int i = 0; i < n; i++)
            buf_puts(&text, i % 2 ? "\xcc\xa3" : "\xcd\x86"); /* classes 220, 230 */
        nfc_append(text.data, text.len, &out);
        assert_int_equal(out.len, text.len);
        for (int i = 0; i < n; i++)
            assert_memory_equal(out.data + 3 + 2 * i, i < n / 2 ? "\xcc\xa3" : "\xcd\x86", 2);
        buf_release(&text);
        buf_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_what_is_well_formed),
        cmocka_unit_test(finds_where_it_ends),
        cmocka_unit_test(knows_kinds),
        cmocka_unit_test(normal_forms),
        cmocka_unit_test(orders_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
