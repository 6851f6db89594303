/* Buffers against a plain array that does the same things. */
#include "base/buf.h"
#include "base/rng.h"
#include "tests/unit/unit.h"

static void same_as_an_array(void **state)
{
    (void)state;
    static char model[1 << 20];
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct buf buf = {0};
        size_t len = 0;
        for (uint64_t i = 0; i < 1000; i++) {
            size_t n = rng_below(seed, 1, i, 100);
            char bytes[100];
            memset(bytes, (int)rng_below(seed, 2, i, 256), sizeof bytes);
            switch (rng_below(seed, 0, i, 5)) {
            case 0:
            case 1:
                buf_append(&buf, bytes, n);
                memcpy(model + len, bytes, n);
                len += n;
                break;
            case 2:
                buf_printf(&buf, "%zu-%s", n, "tail");
                len += (size_t)sprintf(model + len, "%zu-%s", n, "tail");
                break;
            case 3:
                buf_reserve(&buf, n);
                assert_true(buf.cap - buf.len > n);
                break;
            case 4:
                n = n < len ? n : len;
                buf_consume(&buf, n);
                len -= n;
                memmove(model, model + n, len);
                break;
            }
            assert_false(buf.failed);
            assert_int_equal(buf.len, len);
            assert_true(!len || !memcmp(buf.data, model, len));
            assert_true(!buf.data || buf.data[len] == 0);
        }
        buf_release(&buf);
        assert_null(buf.data);
    }
}

static void reserve_saves_allocations(void **state)
{
    (void)state;
    struct buf buf = {0};
    buf_reserve(&buf, 1000);
    const char *data = buf.data;
    for (int i = 0; i < 1000; i++)
        buf_append(&buf, "x", 1);
    assert_ptr_equal(data, buf.data);
    buf_release(&buf);
}

static void failure_is_remembered(void **state)
{
    (void)state;
    struct buf buf = {0};
    buf_puts(&buf, "kept");
    buf_reserve(&buf, SIZE_MAX);
    assert_true(buf.failed);
    buf_puts(&buf, "lost");
    buf_printf(&buf, "%d", 1);
    assert_string_equal(buf.data, "kept");
    buf_release(&buf);
    assert_false(buf.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_an_array),
        cmocka_unit_test(reserve_saves_allocations),
        cmocka_unit_test(failure_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
