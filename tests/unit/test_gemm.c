/* The trainer's products. On small whole numbers every order of additions gives the same, and bf16
 * holds them: both kinds must then be exactly right, whatever the shape. */
#include "model/gemm.h"
#include "tests/unit/numbers.h"
#include "tests/unit/unit.h"

/* op(A) (m, k), op(B) (k, n), C (m, n), with columns of rubbish behind each row. */
struct product {
    bool ta, tb, accumulate;
    int m, n, k;
    size_t lda, ldb, ldc, na, nb, nc;
    float *a, *b, *before, *c, *right;
};

static float *draw_whole(struct draws *d, size_t n, size_t width, size_t ld)
{
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = i % ld < width ? (float)(draw_below(d, 17) - 8) : NAN;
    return x;
}

static void product_draw(struct product *p, struct draws *d, int m, int n, int k)
{
    *p = (struct product){.ta = draw_below(d, 2), .tb = draw_below(d, 2), .m = m, .n = n, .k = k};
    p->accumulate = draw_below(d, 2);
    size_t a_width = (size_t)(p->ta ? m : k), b_width = (size_t)(p->tb ? k : n);
    p->lda = a_width + (size_t)draw_below(d, 4);
    p->ldb = b_width + (size_t)draw_below(d, 4);
    p->ldc = (size_t)(n + draw_below(d, 4));
    p->na = (size_t)(p->ta ? k : m) * p->lda;
    p->nb = (size_t)(p->tb ? n : k) * p->ldb;
    p->nc = (size_t)m * p->ldc;
    p->a = draw_whole(d, p->na, a_width, p->lda);
    p->b = draw_whole(d, p->nb, b_width, p->ldb);
    p->before = draw_whole(d, p->nc, (size_t)n, p->ldc);
    p->c = malloc(p->nc * sizeof *p->c);
    p->right = malloc(p->nc * sizeof *p->right);
    assert_true(p->c && p->right);
}

static void product_free(struct product *p)
{
    free(p->a);
    free(p->b);
    free(p->before);
    free(p->c);
    free(p->right);
}

static void product_right(struct product *p)
{
    memcpy(p->right, p->before, p->nc * sizeof *p->right);
    for (size_t i = 0; i < (size_t)p->m; i++)
        for (size_t j = 0; j < (size_t)p->n; j++) {
            float sum = p->accumulate ? p->before[i * p->ldc + j] : 0;
            for (size_t l = 0; l < (size_t)p->k; l++)
                sum += p->a[p->ta ? l * p->lda + i : i * p->lda + l] *
                       p->b[p->tb ? j * p->ldb + l : l * p->ldb + j];
            p->right[i * p->ldc + j] = sum;
        }
}

typedef void gemm_fn(struct lane *lane, bool ta, bool tb, int m, int n, int k, const float *a,
                     size_t lda, const float *b, size_t ldb, bool accumulate, float *c, size_t ldc);

static void gemm_vectors(struct lane *lane, bool ta, bool tb, int m, int n, int k, const float *a,
                         size_t lda, const float *b, size_t ldb, bool accumulate, float *c,
                         size_t ldc)
{
    gemm_bf16(lane, GEMM_VECTORS, ta, tb, m, n, k, a, lda, b, ldb, accumulate, c, ldc);
}

static void gemm_tiles(struct lane *lane, bool ta, bool tb, int m, int n, int k, const float *a,
                       size_t lda, const float *b, size_t ldb, bool accumulate, float *c,
                       size_t ldc)
{
    gemm_bf16(lane, GEMM_TILES, ta, tb, m, n, k, a, lda, b, ldb, accumulate, c, ldc);
}

static void expect_right(struct product *p, struct lane *lane, gemm_fn *product)
{
    memcpy(p->c, p->before, p->nc * sizeof *p->c);
    product(lane, p->ta, p->tb, p->m, p->n, p->k, p->a, p->lda, p->b, p->ldb, p->accumulate, p->c,
            p->ldc);
    if (!same_bits(p->c, p->right, p->nc))
        fail_msg("wrong: m %d n %d k %d, ta %d tb %d, accumulate %d", p->m, p->n, p->k, p->ta,
                 p->tb, p->accumulate);
}

static void expect_both_right(struct draws *d, struct lane *lane, int m, int n, int k)
{
    struct product p;
    product_draw(&p, d, m, n, k);
    product_right(&p);
    expect_right(&p, lane, gemm); /* f32: chosen in main */
    if (gemm_bf16_available(GEMM_VECTORS))
        expect_right(&p, lane, gemm_vectors);
    if (gemm_bf16_available(GEMM_TILES))
        expect_right(&p, lane, gemm_tiles);
    product_free(&p);
}

static void products_of_whole_numbers_are_exact(void **state)
{
    (void)state;
    struct err err;
    struct team team;
    struct draws d = {1, 0};
    assert_ok(team_init(&team, 1, &err), err);
    for (int i = 0; i < 1500; i++)
        expect_both_right(&d, &team.lanes[0], 1 + draw_below(&d, 70), 1 + draw_below(&d, 70),
                          1 + draw_below(&d, 70));
    /* Past the blocks of gemm_bf16.c: 1024 of k, 512 of n. */
    for (int i = 0; i < 6; i++)
        expect_both_right(&d, &team.lanes[0], 1 + draw_below(&d, 40), 1 + draw_below(&d, 40),
                          1000 + draw_below(&d, 1200));
    for (int i = 0; i < 6; i++)
        expect_both_right(&d, &team.lanes[0], 1 + draw_below(&d, 40), 490 + draw_below(&d, 600),
                          1 + draw_below(&d, 40));
    expect_both_right(&d, &team.lanes[0], 33, 600, 2100);
    team_release(&team);
}

static void an_empty_product_touches_nothing(void **state)
{
    (void)state;
    struct err err;
    struct team team;
    float c[4] = {1, 2, 3, 4}, a[4] = {1, 1, 1, 1};
    assert_ok(team_init(&team, 1, &err), err);
    gemm(&team.lanes[0], false, false, 0, 2, 2, a, 2, a, 2, false, c, 2);
    gemm(&team.lanes[0], false, false, 2, 0, 2, a, 2, a, 2, false, c, 2);
    team_release(&team);
    assert_true(c[0] == 1 && c[1] == 2 && c[2] == 3 && c[3] == 4);
}

/* Rounding to bf16 moves each factor by at most 2^-9 of itself (and a little). */
static void bf16_errs_as_its_rounding_does(void **state)
{
    (void)state;
    enum { M = 50, N = 40, K = 300 };
    struct err err;
    struct team team;
    struct draws d = {2, 0};
    static float a[M * K], b[K * N], c[M * N];
    if (!gemm_bf16_available(GEMM_VECTORS))
        skip();
    draw_normals(&d, 1, a, M * K);
    draw_normals(&d, 1, b, K * N);
    assert_ok(team_init(&team, 1, &err), err);
    for (int unit = GEMM_VECTORS; unit <= GEMM_TILES && gemm_bf16_available(unit); unit++) {
        gemm_bf16(&team.lanes[0], unit, false, false, M, N, K, a, K, b, N, false, c, N);
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++) {
                double right = 0, size = 0;
                for (int k = 0; k < K; k++) {
                    right += (double)a[i * K + k] * b[k * N + j];
                    size += fabs((double)a[i * K + k] * b[k * N + j]);
                }
                assert_true(fabs(c[i * N + j] - right) < size * 2.02 / 512);
            }
    }
    team_release(&team);
}

/* ---- the lanes' shares of a linear layer's products ---- */

enum { ROWS = 200, INPUTS = 96, OUTPUTS = 150 };

struct layer {
    struct linear l;
    float w[OUTPUTS * INPUTS], dw[OUTPUTS * INPUTS], x[ROWS * INPUTS], residual[ROWS * OUTPUTS];
    float y[ROWS * OUTPUTS], dx[ROWS * INPUTS];
    int rows;
};

static void layer_lane(struct lane *lane, void *arg)
{
    struct layer *l = arg;
    linear_forward(lane, &l->l, l->x, INPUTS, l->rows, l->residual, l->y, OUTPUTS);
    lane_barrier(lane);
    linear_backward_input(lane, &l->l, l->y, OUTPUTS, l->rows, true, l->dx, INPUTS);
    linear_backward_weight(lane, &l->l, l->x, INPUTS, l->y, OUTPUTS, l->rows);
}

static void layer_run(struct layer *l, int lanes, int rows, bool wide)
{
    struct err err;
    struct team team;
    struct draws d = {3, 0};
    memset(l, 0, sizeof *l);
    draw_normals(&d, 1, l->w, OUTPUTS * INPUTS);
    draw_normals(&d, 1, l->dw, OUTPUTS * INPUTS);
    draw_normals(&d, 1, l->x, ROWS * INPUTS);
    draw_normals(&d, 1, l->residual, ROWS * OUTPUTS);
    draw_normals(&d, 1, l->dx, ROWS * INPUTS);
    l->rows = rows;
    l->l = (struct linear){.inputs = INPUTS, .dense = l->w, .dense_grad = l->dw};
    l->l.outputs = wide ? OUTPUTS : 50; /* the wider side is the one that lanes share */
    assert_ok(team_init(&team, lanes, &err), err);
    team_run(&team, layer_lane, l);
    team_release(&team);
    l->l = (struct linear){0};
}

static void lanes_change_nothing(const char *precision)
{
    static struct layer alone, together;
    struct err err;
    int different = 0;
    assert_ok(gemm_init(precision, &err), err);
    for (int rows = 1; rows <= ROWS; rows += 13)
        for (int lanes = 2; lanes <= 4; lanes++)
            for (int wide = 0; wide < 2; wide++) {
                layer_run(&alone, 1, rows, wide);
                layer_run(&together, lanes, rows, wide);
                different += !same_bits(alone.y, together.y, ROWS * OUTPUTS);
                different += !same_bits(alone.dx, together.dx, ROWS * INPUTS);
                different += !same_bits(alone.dw, together.dw, OUTPUTS * INPUTS);
            }
    assert_ok(gemm_init("f32", &err), err);
    assert_int_equal(different, 0);
}

static void lanes_change_nothing_in_f32(void **state)
{
    (void)state;
    lanes_change_nothing("f32");
}

static void lanes_change_nothing_in_bf16(void **state)
{
    (void)state;
    if (!gemm_bf16_available(GEMM_VECTORS))
        skip();
    lanes_change_nothing("bf16");
}

static void init_refuses_what_it_does_not_know(void **state)
{
    (void)state;
    struct err err;
    assert_int_equal(gemm_init("f16", &err), ERR_INVALID);
    assert_says(err, "'f16'");
    if (!gemm_bf16_available(GEMM_VECTORS)) {
        assert_int_equal(gemm_init("bf16", &err), ERR_INVALID);
        assert_says(err, "--precision f32");
    }
}

static int choose(void **state)
{
    (void)state;
    struct err err;
    return gemm_init("f32", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_whole_numbers_are_exact),
        cmocka_unit_test(an_empty_product_touches_nothing),
        cmocka_unit_test(bf16_errs_as_its_rounding_does),
        cmocka_unit_test(lanes_change_nothing_in_f32),
        cmocka_unit_test(lanes_change_nothing_in_bf16),
        cmocka_unit_test(init_refuses_what_it_does_not_know),
    };
    return cmocka_run_group_tests_name("gemm", tests, choose, NULL);
}
