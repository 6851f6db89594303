/* Trees of drafts: merging, order, cuts. */
#include "tests/unit/unit.h"

#include "engine/proposal.h"

static void test_merge(void **state)
{
    (void)state;
    struct proposal p = {0};
    int a = proposal_add(&p, -1, 7, 1, 0, 0.6f);
    int b = proposal_add(&p, -1, 8, 1, 1, 0.2f);
    assert_int_equal(proposal_add(&p, -1, 7, 0, 0, 0.9f), a); /* both get credit */
    assert_int_equal(p.head[a], 1);
    assert_int_equal(p.rank[a], 0);
    assert_true(p.lookup[a] && !p.lookup[b]);
    assert_true(p.chance[a] == 0.9f);
    int c = proposal_add(&p, b, 7, 0, 0, 0.1f); /* the same token elsewhere is another node */
    assert_int_equal(proposal_add(&p, b, 7, 2, 3, 0.05f), c);
    assert_true(p.lookup[c] && p.head[c] == 2 && p.rank[c] == 3 && p.depth[c] == 2);
    assert_true(p.chance[c] == 0.1f);
    assert_int_equal(p.n, 3);
    assert_int_equal(proposal_child(&p, -1, 8), b);
    assert_int_equal(proposal_child(&p, b, 7), c);
    assert_int_equal(proposal_child(&p, a, 7), -1);
    for (int i = 0; i < 28; i++)
        assert_int_equal(proposal_add(&p, a, 100 + i, 2, 0, 0), 3 + i);
    assert_int_equal(proposal_add(&p, a, 99, 2, 0, 0), -1);
    assert_int_equal(proposal_add(&p, a, 100, 0, 0, 0), 3);
}

static void test_order(void **state)
{
    (void)state;
    struct proposal p = {0};
    int side = proposal_add(&p, -1, 1, 1, 1, 0.2f);
    int best = proposal_add(&p, -1, 2, 1, 0, 0.7f);
    proposal_add(&p, side, 3, 2, 0, 0.1f);
    int next = proposal_add(&p, best, 4, 2, 1, 0.1f);
    proposal_add(&p, best, 5, 2, 0, 0.5f);
    proposal_add(&p, next, 6, 3, 0, 0.05f);
    proposal_order(&p);
    int32_t token[] = {2, 5, 4, 6, 1, 3};
    int8_t parent[] = {-1, 0, 0, 2, -1, 4}, depth[] = {1, 2, 2, 3, 1, 2};
    assert_int_equal(p.n, 6);
    assert_memory_equal(p.token, token, sizeof token);
    assert_memory_equal(p.parent, parent, sizeof parent);
    assert_memory_equal(p.depth, depth, sizeof depth);
    proposal_cut(&p, 2, 3); /* 6 is too deep, 3 and then 4 the least likely */
    int32_t left[] = {2, 5, 1};
    int8_t above[] = {-1, 0, -1};
    assert_int_equal(p.n, 3);
    assert_memory_equal(p.token, left, sizeof left);
    assert_memory_equal(p.parent, above, sizeof above);
    proposal_cut(&p, 0, 9);
    assert_int_equal(p.n, 0);
    proposal_order(&p);
    assert_int_equal(p.n, 0);
}

static void test_build(void **state)
{
    (void)state;
    struct shape shape = {.n = 5, .heads = 2};
    struct candidates c = {
        .heads = 2, .n = {2, 1}, .token = {{10, 11}, {20}}, .n_lookup = 2, .lookup = {10, 21}};
    /* look-up 1, look-up 2, head 1 rank 0, head 2 behind it, head 1 rank 2 (not kept) */
    int8_t parent[] = {-1, 0, -1, 2, -1}, depth[] = {1, 2, 1, 2, 1}, head[] = {0, 0, 1, 2, 1};
    memcpy(shape.parent, parent, sizeof parent);
    memcpy(shape.depth, depth, sizeof depth);
    memcpy(shape.head, head, sizeof head);
    shape.rank[4] = 2;
    float chance[] = {0.5f, 0.4f, 0.6f, 0.3f, 0.1f};
    memcpy(shape.chance, chance, sizeof chance);
    struct proposal p;
    proposal_build(&p, &shape, &c);
    int32_t token[] = {10, 21, 20};
    int8_t above[] = {-1, 0, 0};
    assert_int_equal(p.n, 3);
    assert_memory_equal(p.token, token, sizeof token);
    assert_memory_equal(p.parent, above, sizeof above);
    assert_true(p.lookup[0] && p.head[0] == 1 && p.lookup[1] && !p.head[1] && !p.lookup[2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_build),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
