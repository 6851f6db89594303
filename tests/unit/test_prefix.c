/* The prefix cache against a plain record of what was ever added to it, by random texts that begin
 * alike, and its rules one by one. */
#include "tests/unit/unit.h"

#include "base/hash.h"
#include "engine/prefix.h"

#define PAGES 12
#define TEXT_PAGES 5

static struct kv_pool pool;
static struct prefix prefix;

static void make(int kept)
{
    struct err err;
    struct config config = {.n_kv_heads = 1, .head_dim = 16};
    assert_ok(kv_pool_init(&pool, &config, 1, PAGES, WEIGHT_F32, &err), err);
    assert_ok(prefix_init(&prefix, &pool, (size_t)kept * pool.page_bytes, &err), err);
}

static void let_go(void)
{
    prefix_release(&prefix);
    kv_pool_release(&pool);
}

/* A text as the scheduler holds it. */
struct text {
    struct kv kv;
    int32_t tokens[TEXT_PAGES * KV_PAGE];
    int n_known;
};

static void text_make(struct text *t)
{
    struct err err;
    memset(t, 0, sizeof *t);
    assert_ok(kv_init(&t->kv, &pool, TEXT_PAGES * KV_PAGE, &err), err);
}

/* Pages of one token each: the name of a page says what it holds. */
static void text_name(struct text *t, const char *names)
{
    for (int i = 0; i < (int)strlen(names) * KV_PAGE; i++)
        t->tokens[i] = names[i / KV_PAGE];
}

static void text_grow(struct text *t, int pages, int heads)
{
    prefix_free(&prefix, pages - t->kv.n_pages);
    assert_true(kv_reserve(&t->kv, pages * KV_PAGE));
    for (; t->n_known < pages; t->n_known++)
        prefix_add(&prefix, &t->kv, t->n_known, 0, heads, t->tokens + t->n_known * KV_PAGE);
}

static void text_end(struct text *t)
{
    prefix_touch(&prefix, &t->kv, t->n_known);
    kv_truncate(&t->kv, 0);
    prefix_trim(&prefix);
    t->n_known = 0;
}

/* A text that was there once, from beginning to end. */
static void said(const char *names, int heads)
{
    struct text t;
    text_make(&t);
    text_name(&t, names);
    text_grow(&t, (int)strlen(names), heads);
    text_end(&t);
    kv_release(&t.kv);
}

static int found(const char *names, uint64_t salt, int heads)
{
    struct text t = {0};
    text_name(&t, names);
    return prefix_find(&prefix, salt, heads, t.tokens, (int)strlen(names) * KV_PAGE).n;
}

/* ---- rules ---- */

static void ended_texts_are_found(void **state)
{
    (void)state;
    make(PAGES);
    said("abc", 0);
    said("abd", 0);
    assert_int_equal(pool.n_idle, 4);
    assert_int_equal(found("abcd", 0, 0), 3);
    assert_int_equal(found("abd", 0, 0), 3);
    assert_int_equal(found("ac", 0, 0), 1);
    assert_int_equal(found("bc", 0, 0), 0); /* a page is what stands before it, too */
    struct text t;
    text_make(&t);
    text_name(&t, "abd");
    /* Only whole pages. */
    assert_int_equal(prefix_find(&prefix, 0, 0, t.tokens, 3 * KV_PAGE - 1).n, 2);
    prefix_begin(&prefix, &t.kv, prefix_find(&prefix, 0, 0, t.tokens, 3 * KV_PAGE));
    assert_int_equal(t.kv.n_pages, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(prefix.pages[kv_number(&t.kv, i)].tokens[0], "abd"[i]);
    assert_int_equal(pool.n_idle, 1);
    kv_release(&t.kv);
    let_go();
}

static void salts_share_nothing(void **state)
{
    (void)state;
    make(PAGES);
    said("ab", 0);
    assert_int_equal(found("ab", 0, 0), 2);
    assert_int_equal(found("ab", 1, 0), 0);
    let_go();
}

/* Two pages with one hash, which whoever wants to will find: what stands behind them is told
 * apart. */
static void equal_hashes_are_no_equal_texts(void **state)
{
    struct text a, b;
    /* The hash times its prime shifts the lowest byte up by 40 bits; 151 in the fourth byte of a
     * word makes up for that. */
    uint32_t low = (uint32_t)HASH_BEGIN, word = low & 0xffffff;
    int32_t one[2] = {(int32_t)(low ^ word), 7};
    int32_t two[2] = {(int32_t)(low ^ (word + (151u << 24) - 1)), 0};
    (void)state;
    make(PAGES);
    two[1] =
        (int32_t)(uint32_t)(hash_words(HASH_BEGIN, one, 1) ^ hash_words(HASH_BEGIN, two, 1) ^ 7);
    assert_true(hash_words(HASH_BEGIN, one, 2) == hash_words(HASH_BEGIN, two, 2));
    text_make(&a);
    text_make(&b);
    text_name(&a, "xy");
    text_name(&b, "xy");
    memcpy(a.tokens, one, sizeof one);
    memcpy(b.tokens, two, sizeof two);
    text_grow(&a, 2, 0);
    text_grow(&b, 1, 0);
    assert_true(prefix.pages[kv_number(&a.kv, 0)].hash == prefix.pages[kv_number(&b.kv, 0)].hash);
    assert_int_equal(prefix_find(&prefix, 0, 0, a.tokens, 2 * KV_PAGE).n, 2);
    assert_int_equal(prefix_find(&prefix, 0, 0, b.tokens, 2 * KV_PAGE).n, 1);
    kv_release(&a.kv);
    kv_release(&b.kv);
    let_go();
}

static void heads_must_have_seen_it(void **state)
{
    struct text few;
    (void)state;
    make(PAGES);
    text_make(&few);
    text_name(&few, "ab");
    text_grow(&few, 2, 1);
    kv_put_key(&few.kv, 0, 0, 3, (float[16]){1});
    assert_int_equal(found("ab", 0, 1), 2);
    assert_int_equal(found("ab", 0, 2), 0);
    struct text more;
    text_make(&more);
    text_name(&more, "ab");
    assert_true(kv_reserve(&more.kv, KV_PAGE));
    kv_put_key(&more.kv, 0, 0, 3, (float[16]){2});
    text_grow(&more, 1, 3);
    /* What the heads wrote is there for both. */
    assert_ptr_equal(more.kv.pages[0], few.kv.pages[0]);
    assert_true(*(float *)(void *)(few.kv.pages[0] + 3 * sizeof(float)) == 2);
    assert_int_equal(found("ab", 0, 3), 1);
    assert_int_equal(found("ab", 0, 1), 2);
    kv_release(&few.kv);
    kv_release(&more.kv);
    let_go();
}

static void the_oldest_go_first(void **state)
{
    (void)state;
    make(4);
    said("ab", 0);
    said("cd", 0);
    said("a", 0); /* used again, but not what stands behind it */
    said("ef", 0);
    assert_int_equal(pool.n_idle, 4);
    assert_int_equal(found("ab", 0, 0), 1);
    assert_int_equal(found("cd", 0, 0), 1);
    assert_int_equal(found("ef", 0, 0), 2);
    prefix_free(&prefix, PAGES);
    assert_int_equal(pool.n_free, PAGES);
    let_go();
    make(0);
    said("ab", 0);
    assert_int_equal(pool.n_free, PAGES);
    let_go();
}

/* ---- everything together ---- */

static void assert_sound(struct text *texts, int n)
{
    int idle = 0, free = 0;
    for (int i = 0; i < PAGES; i++) {
        int held = prefix.pages[i].known;
        for (int j = 0; j < n; j++)
            for (int k = 0; k < texts[j].kv.n_pages; k++)
                held += kv_number(&texts[j].kv, k) == i;
        assert_int_equal(pool.refs[i], held);
        idle += prefix.pages[i].known && held == 1;
        free += held == 0;
    }
    assert_int_equal(pool.n_idle, idle);
    assert_int_equal(pool.n_free, free);
    /* Known pages of a text are a chain that says what the text says. */
    for (int j = 0; j < n; j++)
        for (int k = 0; k < texts[j].n_known; k++) {
            const struct prefix_page *p = &prefix.pages[kv_number(&texts[j].kv, k)];
            assert_true(p->known);
            assert_int_equal(p->parent, k ? kv_number(&texts[j].kv, k - 1) : -1);
            assert_memory_equal(p->tokens, texts[j].tokens + k * KV_PAGE, sizeof p->tokens);
        }
}

static void texts_come_and_go(void **state)
{
    struct text texts[3];
    uint64_t shared = 0, given_up = 0;
    (void)state;
    make(6);
    srand(5);
    for (int i = 0; i < 3; i++)
        text_make(&texts[i]);
    for (int round = 0; round < 20000; round++) {
        struct text *t = &texts[rand() % 3];
        int what = rand() % 4;
        if (what == 0) {
            text_end(t);
        } else if (what == 1 && !t->kv.n_pages) {
            for (int i = 0; i < TEXT_PAGES; i++)
                for (int j = 0, name = rand() % 2; j < KV_PAGE; j++)
                    t->tokens[i * KV_PAGE + j] = name;
            struct prefix_chain chain =
                prefix_find(&prefix, 0, 0, t->tokens, (1 + rand() % TEXT_PAGES) * KV_PAGE);
            prefix_begin(&prefix, &t->kv, chain);
            t->n_known = chain.n;
            shared += (uint64_t)chain.n;
        } else if (what > 1 && t->n_known < TEXT_PAGES && pool.n_free + pool.n_idle > 0) {
            int before = pool.n_free;
            text_grow(t, t->n_known + 1, rand() % 3);
            given_up += pool.n_free == before;
        }
        assert_sound(texts, 3);
    }
    assert_true(shared > 1000 && given_up > 100);
    for (int i = 0; i < 3; i++)
        kv_release(&texts[i].kv);
    let_go();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ended_texts_are_found),
        cmocka_unit_test(salts_share_nothing),
        cmocka_unit_test(equal_hashes_are_no_equal_texts),
        cmocka_unit_test(heads_must_have_seen_it),
        cmocka_unit_test(the_oldest_go_first),
        cmocka_unit_test(texts_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
