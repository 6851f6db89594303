/* Muon's step against the formula in doubles, for tall, wide and square matrices; that its singular
 * values are near 1; that lanes change no bit. */
#include <math.h>

#include "model/gemm.h"
#include "model/kernels/grad.h"
#include "tests/unit/numbers.h"
#include "tests/unit/unit.h"
#include "train/muon.h"

enum { MOST = 96 * 160 };

struct matrices {
    struct muon muon;
    struct muon_work work;
    int rows, cols;
    float value[MOST], grad[MOST], momentum[MOST];
};

static void fill(struct matrices *s, int rows, int cols)
{
    struct draws d = {(uint64_t)rows, 0};
    s->rows = rows;
    s->cols = cols;
    s->muon = (struct muon){.rate = 0.02f, .momentum = 0.9f, .decay = 0.001f, .clip = 0.5f};
    draw_normals(&d, 1, s->value, MOST);
    draw_normals(&d, 1, s->grad, MOST);
    draw_normals(&d, 1, s->momentum, MOST);
    for (int i = 0; i < MOST; i++) /* one direction far larger than the others */
        s->grad[i] += 3 * sinf((float)(i / cols)) * cosf((float)(i % cols));
}

static void step_lane(struct lane *lane, void *arg)
{
    struct matrices *s = arg;
    muon_step(lane, &s->muon, &s->work, s->rows, s->cols, s->value, s->grad, s->momentum);
}

static void step(struct matrices *s, int lanes)
{
    struct team team;
    struct err err;
    static float room[4][MOST];
    s->work = (struct muon_work){room[0], room[1], room[2], room[3]};
    assert_ok(team_init(&team, lanes, &err), err);
    team_run(&team, step_lane, s);
    team_release(&team);
}

/* x (m, n) = a x + b (x x^T) x + c (x x^T)^2 x */
static void iterate(double *x, int m, int n)
{
    static double g[160 * 160], gx[MOST], ggx[MOST];
    for (int i = 0; i < m; i++)
        for (int j = 0; j < m; j++) {
            g[i * m + j] = 0;
            for (int k = 0; k < n; k++)
                g[i * m + j] += x[i * n + k] * x[j * n + k];
        }
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++) {
                double sum = 0;
                for (int k = 0; k < m; k++)
                    sum += g[i * m + k] * (round ? gx : x)[k * n + j];
                (round ? ggx : gx)[i * n + j] = sum;
            }
    for (int i = 0; i < m * n; i++)
        x[i] = 3.4445 * x[i] - 4.7750 * gx[i] + 2.0315 * ggx[i];
}

static void check(int rows, int cols)
{
    static struct matrices s, before;
    static double x[MOST];
    int count = rows * cols, wide = rows > cols ? rows : cols;
    double size = 0, worst = 0, squares = 0;
    fill(&before, rows, cols);
    s = before;
    step(&s, 2);
    for (int i = 0; i < count; i++) {
        double g = 0.5 * before.grad[i], m = 0.9 * before.momentum[i] + g;
        assert_true(fabs(m - s.momentum[i]) < 1e-5);
        x[i] = g + 0.9 * m;
        size += x[i] * x[i];
        assert_true(s.grad[i] == 0);
    }
    for (int i = 0; i < count; i++)
        x[i] /= sqrt(size);
    for (int i = 0; i < 5; i++)
        iterate(x, rows, cols);
    for (int i = 0; i < count; i++) {
        double right = before.value[i] * (1 - 0.001) - 0.02 * 0.2 * sqrt(wide) * x[i];
        worst = fmax(worst, fabs(right - s.value[i]));
        squares += x[i] * x[i];
    }
    print_message("%d x %d: off by %.1e\n", rows, cols, worst);
    assert_true(worst < 2e-5);
    /* The sum of squared singular values, as many as the shorter side has, each about 0.7..1.2. */
    double mean = squares / (rows < cols ? rows : cols);
    assert_true(mean > 0.5 && mean < 1.45);
}

static void test_formula(void **state)
{
    (void)state;
    check(48, 96);
    check(96, 48);
    check(64, 64);
    check(16, 160);
}

static void test_lanes(void **state)
{
    static struct matrices alone, together;
    struct err err;
    (void)state;
    for (int p = 0; p < 2; p++) {
        if (p && !gemm_bf16_available(GEMM_VECTORS))
            continue;
        assert_ok(gemm_init(p ? "bf16" : "f32", &err), err);
        for (int lanes = 2; lanes <= 4; lanes++)
            for (int tall = 0; tall < 2; tall++) {
                fill(&alone, tall ? 150 : 80, tall ? 80 : 150);
                together = alone;
                step(&alone, 1);
                step(&together, lanes);
                assert_true(same_bits(alone.value, together.value, MOST));
                assert_true(same_bits(alone.momentum, together.momentum, MOST));
            }
    }
}

static int begin(void **state)
{
    struct err err;
    (void)state;
    assert_ok(kernels_init("auto", &err), err);
    assert_ok(gemm_init("f32", &err), err);
    grad_kernels_init();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formula),
                                       cmocka_unit_test(test_lanes)};
    return cmocka_run_group_tests_name("muon", tests, begin, NULL);
}
