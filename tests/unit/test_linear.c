/* Weight matrices: packing of stacked tensors of float types, and products that are right, the same
 * for any number of lanes, and the same for a row in whatever company. */
#include "model/linear.h"
#include "model/gemm.h"
#include "tests/unit/matrices.h"
#include "tests/unit/unit.h"

/* ---- matrices as a file has them: at any address, all of one type ---- */

struct stack {
    int n, inputs, outputs, type; /* what they are packed as */
    struct drawn drawn[3];
    struct matrix list[3];
    double *w; /* (outputs, inputs) as packed */
    float *plain;
};

/* Only float types: quantised ones are in test_quant.c. */
static void stack_draw(struct stack *s, struct draws *d)
{
    enum weight_type from = (enum weight_type)draw_below(d, 3);
    *s = (struct stack){.n = 1 + draw_below(d, 3), .inputs = 2 + 2 * draw_below(d, 60)};
    s->type = draw_below(d, 2) ? WEIGHT_STORED : draw_below(d, 2);
    for (int i = 0; i < s->n; i++) {
        int rows = 1 + draw_below(d, 50), half_split = rows % 4 || draw_below(d, 2) ? 0 : 4;
        s->outputs += rows;
        drawn_make(&s->drawn[i], d, from, (size_t)rows, (size_t)s->inputs, half_split, false);
        s->list[i] = s->drawn[i].m;
    }
    size_t inputs = (size_t)s->inputs, count = (size_t)s->outputs * inputs;
    s->w = malloc(count * sizeof *s->w);
    s->plain = malloc(count * sizeof *s->plain);
    assert_true(s->w && s->plain);
    double *w = s->w;
    for (int i = 0; i < s->n; w += s->drawn[i].m.rows * inputs, i++)
        drawn_convert(&s->drawn[i], s->type, w);
    for (size_t i = 0; i < count; i++)
        s->plain[i] = (float)s->w[i];
}

static void stack_free(struct stack *s)
{
    for (int i = 0; i < s->n; i++)
        drawn_free(&s->drawn[i]);
    free(s->w);
    free(s->plain);
}

/* ---- products ---- */

#define ROWS_MOST 24
#define INPUTS_MOST 124
#define STRIDE_MOST 168 /* 150 outputs in whole panels, and more */

struct product {
    struct linear l;
    struct region memory;
    int rows;
    size_t x_stride, y_stride;
    enum { NONE, APART, IN_PLACE } residual;
    float x[ROWS_MOST * INPUTS_MOST], r[ROWS_MOST * STRIDE_MOST], y[ROWS_MOST * STRIDE_MOST];
};

static void product_draw(struct product *p, struct draws *d, int inputs)
{
    p->rows = 1 + draw_below(d, ROWS_MOST);
    p->x_stride = (size_t)(inputs + draw_below(d, INPUTS_MOST - inputs + 1));
    p->y_stride = linear_stride(&p->l) + (size_t)draw_below(d, 8);
    p->residual = draw_below(d, 3);
    draw_normals(d, 1, p->x, ROWS_MOST * INPUTS_MOST);
    draw_normals(d, 1, p->r, ROWS_MOST * STRIDE_MOST);
}

static void product_lane(struct lane *lane, void *arg)
{
    struct product *p = arg;
    const float *residual = p->residual == NONE ? NULL : p->residual == APART ? p->r : p->y;
    linear_forward(lane, &p->l, p->x, p->x_stride, p->rows, residual, p->y, p->y_stride);
}

static void product_run(struct product *p, int lanes)
{
    struct err err;
    struct team team;
    memcpy(p->y, p->r, sizeof p->y);
    assert_ok(team_init(&team, lanes, &err), err);
    team_run(&team, product_lane, p);
    team_release(&team);
}

/* The row in double precision. */
static void row_right(const struct product *p, const struct stack *s, size_t r, double *right)
{
    for (size_t o = 0; o < (size_t)s->outputs; o++) {
        double sum = p->residual == NONE ? 0 : p->r[r * p->y_stride + o];
        for (size_t k = 0; k < (size_t)s->inputs; k++)
            sum += s->w[o * (size_t)s->inputs + k] * (double)p->x[r * p->x_stride + k];
        right[o] = sum;
    }
}

static void expect_right(const struct product *p, const struct stack *s)
{
    double right[STRIDE_MOST];
    for (size_t r = 0; r < (size_t)p->rows; r++) {
        row_right(p, s, r, right);
        const float *y = p->y + r * p->y_stride;
        assert_true(relative_difference(y, right, (size_t)s->outputs) < 3e-6);
    }
}

static void packed_products_are_right(void **state)
{
    (void)state;
    static struct product p;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct draws d = {seed, 0};
        struct stack s;
        struct err err;
        stack_draw(&s, &d);
        assert_ok(linear_pack(&p.l, s.type, s.list, s.n, &p.memory, NULL, &err), err);
        assert_int_equal(p.l.outputs, s.outputs);
        assert_int_equal(p.l.n_parts, 1);
        assert_int_equal(linear_stride(&p.l), (s.outputs + 15) / 16 * 16);
        product_draw(&p, &d, s.inputs);
        product_run(&p, 1);
        expect_right(&p, &s);
        for (size_t r = 0; r < (size_t)p.rows; r++) /* channels past the last have weights of 0 */
            for (size_t o = (size_t)s.outputs; o < linear_stride(&p.l); o++)
                assert_true(p.y[r * p.y_stride + o] ==
                            (p.residual == NONE ? 0 : p.r[r * p.y_stride + o]));
        region_release(&p.memory);
        stack_free(&s);
    }
}

static void lanes_and_company_change_nothing(void **state)
{
    (void)state;
    static struct product p;
    static float alone[ROWS_MOST * STRIDE_MOST];
    for (uint64_t seed = 1; seed <= 15; seed++) {
        struct draws d = {seed, 0};
        struct stack s;
        struct err err;
        stack_draw(&s, &d);
        assert_ok(linear_pack(&p.l, s.type, s.list, s.n, &p.memory, NULL, &err), err);
        product_draw(&p, &d, s.inputs);
        product_run(&p, 1);
        memcpy(alone, p.y, sizeof alone);
        for (int lanes = 2; lanes <= 4; lanes++) {
            product_run(&p, lanes);
            assert_true(same_bits(alone, p.y, ROWS_MOST * STRIDE_MOST));
        }
        for (int rows = p.rows; rows > 0; rows--) { /* fewer and fewer */
            p.rows = rows;
            product_run(&p, 1);
            assert_true(same_bits(alone, p.y, (size_t)rows * p.y_stride));
        }
        region_release(&p.memory);
        stack_free(&s);
    }
}

/* The trainer's plain matrices: the same numbers by another way. */
static void plain_products_are_right(void **state)
{
    (void)state;
    static struct product p;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct draws d = {seed, 0};
        struct stack s;
        stack_draw(&s, &d);
        p.l = (struct linear){.inputs = s.inputs, .outputs = s.outputs, .dense = s.plain};
        product_draw(&p, &d, s.inputs);
        product_run(&p, 1 + (int)(seed % 3));
        expect_right(&p, &s);
        stack_free(&s);
    }
}

/* Rows with a single 1 in them bring the weights of one input each to light. */
static void random_weights_have_their_deviation(void **state)
{
    enum { INPUTS = 128, OUTPUTS = 512, ROWS = 32 };
    static float x[ROWS * INPUTS], y[ROWS * OUTPUTS];
    (void)state;
    struct err err;
    struct linear l;
    struct region memory = {0};
    struct team team;
    for (int r = 0; r < ROWS; r++)
        x[r * INPUTS + r * 4 + r % 4] = 1;
    assert_ok(team_init(&team, 1, &err), err);
    assert_ok(team_reserve(&team, linear_scratch_bytes(INPUTS), &err), err);
    static const enum weight_type types[] = {WEIGHT_F32, WEIGHT_BF16, WEIGHT_Q8, WEIGHT_Q4};
    for (int i = 0; i < 4; i++) {
        double sum = 0, squares = 0, n = ROWS * OUTPUTS;
        assert_ok(linear_random(&l, types[i], OUTPUTS, INPUTS, 2, 1, &memory, &err), err);
        linear_forward(&team.lanes[0], &l, x, INPUTS, ROWS, NULL, y, OUTPUTS);
        for (int i = 0; i < ROWS * OUTPUTS; i++) {
            sum += y[i];
            squares += (double)y[i] * y[i];
        }
        assert_true(fabs(sum / n * sqrt(INPUTS)) < 0.03); /* four deviations */
        assert_true(fabs(sqrt(squares / n * INPUTS) - 1) < 0.03);
    }
    region_release(&memory);
    team_release(&team);
}

/* Norm weights and biases of heads that stand in the order of half-split rotation. */
static void vectors_come_in_the_order_of_rows(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct draws d = {seed, 0};
        int size = 16 * (1 + draw_below(&d, 16)), heads = 1 + draw_below(&d, 4);
        struct drawn x;
        float row[4 * 256], file[4 * 256];
        drawn_make(&x, &d, (enum weight_type)draw_below(&d, 3), 1, (size_t)(size * heads), 0,
                   false);
        matrix_row(&x.m, 0, row);
        for (int i = 0; i < size * heads; i++)
            assert_true((double)row[i] == x.w[i]);
        memcpy(file, row, sizeof file);
        x.m.half_split = size;
        matrix_row(&x.m, 0, row);
        for (int i = 0; i < size * heads; i++)
            assert_true(row[adjacent((size_t)i, (size_t)size)] == file[i]);
        drawn_free(&x);
    }
}

/* What is asked for ahead is the beginning of what the lane will read, and no more. */
static void prefetch_stays_within_the_weights(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct draws d = {seed, 0};
        struct linear l;
        struct region memory = {0};
        struct drawn x[3];
        struct matrix m[3];
        struct err err;
        int n = 1 + draw_below(&d, 3), lanes = 1 + draw_below(&d, 5);
        for (int i = 0; i < n; i++) {
            drawn_make(&x[i], &d, (enum weight_type)draw_below(&d, WEIGHT_Q2_K),
                       16 * (size_t)(1 + draw_below(&d, 4)), 32, 0, false);
            m[i] = x[i].m;
        }
        assert_ok(linear_pack(&l, WEIGHT_STORED, m, n, &memory, NULL, &err), err);
        for (int i = 0; i < lanes; i++) {
            struct lane lane = {.id = i, .n = lanes};
            size_t most = (size_t)draw_below(&d, 5000);
            struct prefetch p = linear_prefetch(&lane, &l, most);
            int begin, end, part = 0;
            lane_share(&lane, l.outputs / PANEL, 1, &begin, &end);
            if (begin == end) {
                assert_ptr_equal(p.at, p.end);
                continue;
            }
            for (; begin >= l.parts[part].outputs / PANEL; part++)
                begin -= l.parts[part].outputs / PANEL;
            const char *data = l.parts[part].data;
            assert_ptr_equal(p.at, data + (size_t)begin * l.parts[part].panel_bytes);
            assert_true(p.end >= p.at && (size_t)(p.end - p.at) <= most);
            assert_true(p.end <=
                        data + (size_t)(l.parts[part].outputs / PANEL) * l.parts[part].panel_bytes);
        }
        region_release(&memory);
        for (int i = 0; i < n; i++)
            drawn_free(&x[i]);
    }
}

static int choose(void **state)
{
    (void)state;
    struct err err;
    int rc = kernels_init("auto", &err);
    return rc ? rc : gemm_init("f32", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_products_are_right),
        cmocka_unit_test(lanes_and_company_change_nothing),
        cmocka_unit_test(plain_products_are_right),
        cmocka_unit_test(random_weights_have_their_deviation),
        cmocka_unit_test(prefetch_stays_within_the_weights),
        cmocka_unit_test(vectors_come_in_the_order_of_rows),
    };
    return cmocka_run_group_tests_name("linear", tests, choose, NULL);
}
