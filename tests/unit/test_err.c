/* Error sentences: codes come back, text is cut and never overruns. */
#include "tests/unit/unit.h"

static void returns_the_code(void **state)
{
    (void)state;
    struct err err;
    assert_int_equal(err_set(&err, ERR_IO, "file %s has %d bytes", "a", 3), ERR_IO);
    assert_string_equal(err.text, "file a has 3 bytes");
    assert_int_equal(err_prefix(&err, ERR_BUSY, "model %d", 7), ERR_BUSY);
    assert_string_equal(err.text, "model 7: file a has 3 bytes");
}

static void allows_null(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_MEMORY, "x"), ERR_MEMORY);
    assert_int_equal(err_prefix(NULL, ERR_INVALID, "x"), ERR_INVALID);
}

static void cuts_long_text(void **state)
{
    (void)state;
    char text[2000];
    struct {
        struct err err;
        char guard[16];
    } s;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    for (size_t n = 0; n < sizeof text; n += 37) {
        memset(&s, 'g', sizeof s);
        err_set(&s.err, ERR_IO, "%.*s", (int)n, text);
        assert_int_equal(strlen(s.err.text), n < sizeof s.err.text ? n : sizeof s.err.text - 1);
        err_prefix(&s.err, ERR_IO, "%.*s", (int)n, text);
        assert_true(strlen(s.err.text) < sizeof s.err.text);
        assert_int_equal(s.guard[0], 'g');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(returns_the_code),
        cmocka_unit_test(allows_null),
        cmocka_unit_test(cuts_long_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
