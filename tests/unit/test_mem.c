/* Checked sizes against 128-bit arithmetic, aligned zeroed blocks, regions, arenas in two passes.
 */
#include "base/mem.h"
#include "base/rng.h"
#include "tests/unit/unit.h"

static void sizes_match_wide_arithmetic(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 100000; i++) {
        /* shifted, so that small and large numbers and the edge of overflow all occur */
        size_t a = rng_bits(1, 0, i) >> rng_below(1, 1, i, 64);
        size_t b = rng_bits(1, 2, i) >> rng_below(1, 3, i, 64);
        __uint128_t product = (__uint128_t)a * b, sum = (__uint128_t)a + b;
        size_t x;
        bool fits = size_mul(a, b, &x);
        assert_int_equal(fits, product <= SIZE_MAX);
        assert_true(!fits || x == (size_t)product);
        fits = size_add(a, b, &x);
        assert_int_equal(fits, sum <= SIZE_MAX);
        assert_true(!fits || x == (size_t)sum);
    }
}

static void blocks_are_aligned_and_zero(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 63, 64, 65, 4096, 1 << 20, (8 << 20) + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *block = mem_alloc(sizes[i]);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % MEM_ALIGN, 0);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(block[k], 0);
        free(block);
    }
    assert_null(mem_alloc(0));
}

static void region_blocks_do_not_touch(void **state)
{
    (void)state;
    enum { BLOCKS = 200 };
    static unsigned char *blocks[BLOCKS];
    static size_t sizes[BLOCKS];
    struct region region = {0};
    for (uint64_t i = 0; i < BLOCKS; i++) {
        sizes[i] = 1 + rng_below(3, 0, i, i % 40 ? 1 << 19 : 40 << 20);
        blocks[i] = region_take(&region, sizes[i]);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % MEM_ALIGN, 0);
        for (size_t k = 0; k < sizes[i]; k++)
            if (blocks[i][k])
                fail();
        memset(blocks[i], (int)i + 1, sizes[i]);
    }
    for (int i = 0; i < BLOCKS; i++)
        for (size_t k = 0; k < sizes[i]; k++)
            if (blocks[i][k] != (unsigned char)(i + 1))
                fail();
    assert_null(region_take(&region, SIZE_MAX - 3));
    region_release(&region);
    assert_null(region.last);
    region_release(&region);
}

static void arena_pieces_do_not_touch(void **state)
{
    (void)state;
    enum { PIECES = 50 };
    unsigned char *pieces[PIECES];
    size_t sizes[PIECES];
    struct arena arena = {0};
    struct err err;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < PIECES; i++) {
            size_t count = rng_below(2, 0, i, 300), size = 1 + rng_below(2, 1, i, 8);
            sizes[i] = count * size;
            pieces[i] = arena_take(&arena, count, size);
            assert_int_equal(pieces[i] == NULL, pass == 0);
        }
        if (pass == 0)
            assert_ok(arena_init(&arena, &err), err);
    }
    assert_int_equal(arena.used, arena.size);
    for (int i = 0; i < PIECES; i++) {
        assert_int_equal((uintptr_t)pieces[i] % MEM_ALIGN, 0);
        memset(pieces[i], i, sizes[i]);
    }
    for (int i = 0; i < PIECES; i++)
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(pieces[i][k], i);
    arena_release(&arena);
    assert_null(arena.base);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_match_wide_arithmetic),
        cmocka_unit_test(blocks_are_aligned_and_zero),
        cmocka_unit_test(region_blocks_do_not_touch),
        cmocka_unit_test(arena_pieces_do_not_touch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
