/* Pages of keys and values: who holds which, what stands where after writing, moving and copying.
 */
#include "model/kv.h"
#include "base/rng.h"
#include "tests/unit/unit.h"

#define BLOCKS 3
#define GROUPS 2

static int roll(uint64_t *count, int n)
{
    return (int)rng_below(5, 0, (*count)++, (uint64_t)n);
}

static void pool_make(struct kv_pool *pool, int head_dim, int pages, enum weight_type type)
{
    struct config config = {.n_kv_heads = GROUPS, .head_dim = head_dim};
    struct err err;
    assert_ok(kv_pool_init(pool, &config, BLOCKS, pages, type, &err), err);
}

/* ---- who holds which page ---- */

static void pages_come_and_go(void **state)
{
    struct kv_pool pool;
    struct kv a, b;
    struct err err;
    (void)state;
    pool_make(&pool, 16, 5, WEIGHT_BF16);
    assert_ok(kv_init(&a, &pool, 4 * KV_PAGE, &err), err);
    assert_ok(kv_init(&b, &pool, 4 * KV_PAGE, &err), err);
    assert_true(kv_reserve(&a, 1));
    assert_int_equal(a.n_pages, 1);
    assert_true(kv_reserve(&a, KV_PAGE));
    assert_int_equal(a.n_pages, 1);
    assert_true(kv_reserve(&a, KV_PAGE + 1));
    assert_int_equal(a.n_pages, 2);
    assert_true(kv_reserve(&b, 3 * KV_PAGE));
    assert_int_equal(pool.n_free, 0);
    assert_false(kv_reserve(&a, 2 * KV_PAGE + 1)); /* takes nothing */
    assert_int_equal(a.n_pages, 2);
    kv_truncate(&b, KV_PAGE + 1);
    assert_int_equal(b.n_pages, 2);
    assert_int_equal(pool.n_free, 1);
    assert_false(kv_reserve(&a, 4 * KV_PAGE)); /* one is not enough: takes nothing */
    assert_int_equal(a.n_pages, 2);
    assert_int_equal(pool.n_free, 1);
    kv_release(&a);
    kv_release(&b);
    assert_int_equal(pool.n_free, 5);
    kv_pool_release(&pool);
}

static void shared_pages_live_as_long_as_anybody_holds_them(void **state)
{
    struct kv_pool pool;
    struct kv a, b;
    struct err err;
    (void)state;
    pool_make(&pool, 16, 4, WEIGHT_F32);
    assert_ok(kv_init(&a, &pool, 4 * KV_PAGE, &err), err);
    assert_ok(kv_init(&b, &pool, 4 * KV_PAGE, &err), err);
    assert_true(kv_reserve(&a, 3 * KV_PAGE));
    for (int i = 0; i < 2; i++)
        kv_share(&b, kv_number(&a, i));
    assert_ptr_equal(a.pages[1], b.pages[1]);
    assert_int_equal(pool.n_free, 1);
    kv_truncate(&a, 0);
    assert_int_equal(pool.n_free, 2); /* b holds the other two */
    assert_true(kv_reserve(&a, 2 * KV_PAGE));
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            assert_ptr_not_equal(a.pages[i], b.pages[j]);
    kv_truncate(&b, 0);
    assert_int_equal(pool.n_free, 2);
    kv_release(&a);
    kv_release(&b);
    assert_int_equal(pool.n_free, 4);
    kv_pool_release(&pool);
}

/* ---- what stands where ---- */

/* Keys and values that say where they belong. */
static void put(const struct kv *kv, int slot, int name)
{
    float row[HEAD_DIM_MAX];
    for (int b = 0; b < BLOCKS; b++)
        for (int g = 0; g < GROUPS; g++) {
            for (int d = 0; d < kv->pool->head_dim; d++)
                row[d] = (float)(name % 97 + 128 * (b * GROUPS + g)) + (float)d / 1024;
            kv_put_key(kv, b, g, slot, row);
            for (int d = 0; d < kv->pool->head_dim; d++)
                row[d] = -row[d];
            kv_put_value(kv, b, g, slot, row);
        }
}

/* The chunks of `have` hold for n positions what those of `want` do, in all heads. */
static void assert_chunks_equal(const char *have, const char *want, const struct kv_pool *pool,
                                int n)
{
    size_t size = pool->type == WEIGHT_F32 ? 4 : 2, k = (size_t)pool->head_dim;
    size_t value = attention_value_stride(pool->head_dim) * size;
    for (size_t i = 0; i < (size_t)n; i++) {
        for (size_t d = 0; d < k; d++) {
            size_t first = i / 16 * k * 16;
            size_t at =
                size == 4 ? first + d * 16 + i % 16 : first + (d / 2 * 16 + i % 16) * 2 + d % 2;
            assert_memory_equal(have + at * size, want + at * size, size);
        }
        assert_memory_equal(have + pool->values + i * value, want + pool->values + i * value,
                            value);
    }
}

/* A path whose end is scattered over the slots, copied and moved, is what it would be had it been
 * written in place. */
static void paths_are_as_if_in_place(void **state)
{
    static const int dims[] = {16, 48, 64, 80, 256};
    uint64_t count = 0;
    (void)state;
    for (int round = 0; round < 200; round++) {
        struct kv_pool pool;
        struct kv in_place, tree;
        struct err err;
        int slots[2 * KV_PAGE], committed = 1 + roll(&count, 3 * KV_PAGE - 20);
        int depth = 1 + roll(&count, 12), first = committed / KV_PAGE * KV_PAGE;
        pool_make(&pool, dims[round % 5], 12, round % 2 ? WEIGHT_F32 : WEIGHT_BF16);
        assert_ok(kv_init(&in_place, &pool, 4 * KV_PAGE, &err), err);
        assert_ok(kv_init(&tree, &pool, 5 * KV_PAGE, &err), err);
        assert_true(kv_reserve(&in_place, 4 * KV_PAGE) && kv_reserve(&tree, 5 * KV_PAGE));
        for (int i = 0; i < committed + depth; i++)
            put(&in_place, i, i);
        for (int i = 0; i < committed; i++)
            put(&tree, i, i);
        for (int i = 0; i < 2 * KV_PAGE; i++)
            slots[i] = first + i;
        for (int i = committed, at = committed; i < committed + depth; i++) {
            at += 1 + roll(&count, 3); /* others stand between */
            put(&tree, at, i);
            slots[i - first] = at;
        }
        char *chunk = calloc(1, pool.head_bytes);
        for (int from = first; from < committed + depth; from += KV_PAGE)
            for (int b = 0; b < BLOCKS; b++)
                for (int g = 0; g < GROUPS; g++) {
                    int n = committed + depth - from < KV_PAGE ? committed + depth - from : KV_PAGE;
                    kv_copy_chunk(&tree, b, g, slots + (from - first), n, chunk);
                    assert_chunks_equal(
                        chunk, in_place.pages[from / KV_PAGE] + kv_head(&pool, b, g), &pool, n);
                }
        for (int i = committed; i < committed + depth; i++)
            kv_move(&tree, BLOCKS, slots[i - first], i);
        for (int from = 0; from < committed + depth; from += KV_PAGE)
            for (int b = 0; b < BLOCKS; b++)
                for (int g = 0; g < GROUPS; g++) {
                    int n = committed + depth - from < KV_PAGE ? committed + depth - from : KV_PAGE;
                    assert_chunks_equal(tree.pages[from / KV_PAGE] + kv_head(&pool, b, g),
                                        in_place.pages[from / KV_PAGE] + kv_head(&pool, b, g),
                                        &pool, n);
                }
        free(chunk);
        kv_release(&in_place);
        kv_release(&tree);
        kv_pool_release(&pool);
    }
}

static void types_have_names(void **state)
{
    enum weight_type type;
    struct err err;
    (void)state;
    assert_ok(kv_type_parse(NULL, &type, &err), err);
    assert_int_equal(type, WEIGHT_BF16);
    assert_ok(kv_type_parse("f32", &type, &err), err);
    assert_int_equal(type, WEIGHT_F32);
    assert_int_equal(kv_type_parse("q8", &type, &err), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_come_and_go),
        cmocka_unit_test(shared_pages_live_as_long_as_anybody_holds_them),
        cmocka_unit_test(paths_are_as_if_in_place),
        cmocka_unit_test(types_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
