/* Random numbers: functions of their key alone, within their range, evenly spread. */
#include "base/rng.h"
#include "tests/unit/unit.h"

enum { DRAWS = 100000 };

static void uniform_is_open_and_even(void **state)
{
    (void)state;
    int counts[10] = {0};
    for (uint64_t i = 0; i < DRAWS; i++) {
        double u = rng_uniform(3, 4, i);
        assert_true(u > 0 && u < 1);
        counts[(int)(u * 10)]++;
    }
    for (int k = 0; k < 10; k++) /* five standard deviations of a binomial */
        assert_in_range(counts[k], DRAWS / 10 - 475, DRAWS / 10 + 475);
}

static void below_stays_below(void **state)
{
    (void)state;
    for (uint64_t n = 1; n < 200; n++) {
        uint64_t most = 0;
        for (uint64_t i = 0; i < 20 * n; i++) {
            uint64_t x = rng_below(5, n, i, n);
            assert_true(x < n);
            most = x > most ? x : most;
        }
        assert_true(most + 1 >= n - n / 4);
    }
}

static void keys_matter(void **state)
{
    (void)state;
    int same = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t bits = rng_bits(1, 1, i);
        assert_true(bits == rng_bits(1, 1, i));
        same +=
            bits == rng_bits(2, 1, i) || bits == rng_bits(1, 2, i) || bits == rng_bits(1, 1, i + 1);
    }
    assert_int_equal(same, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uniform_is_open_and_even),
        cmocka_unit_test(below_stays_below),
        cmocka_unit_test(keys_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
