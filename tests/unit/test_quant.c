/* Quantised weights: half-precision scales, packing, rows' codes, and products that are right to
 * the last bit of what the codes say, the same on every kernel path, for any number of lanes, and
 * the same for a row in whatever company. */
#include "model/linear.h"
#include "tests/unit/numbers.h"
#include "tests/unit/unit.h"
#include "weights/f16.h"

static const char *const paths[] = {"generic", "avx2", "avx512", "vnni", "amx"};
#define PATHS (sizeof paths / sizeof *paths)

/* ---- half precision ---- */

static void f16_goes_there_and_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = f16_to_float((uint16_t)h);
        bool nan = (h & 0x7fff) > 0x7c00;
        assert_true(nan ? isnan(f) : f16_from_float(f) == h);
        if (!nan && (h & 0x7fff) < 0x7c00) { /* against the definition */
            int exponent = (int)(h >> 10 & 31);
            double right =
                exponent ? ldexp(1024 + (h & 1023), exponent - 25) : ldexp(h & 1023, -24);
            assert_true(f == (h & 0x8000 ? -right : right));
        }
    }
}

static void f16_rounds_to_the_nearest(void **state)
{
    (void)state;
    struct draws d = {1, 0};
    for (int i = 0; i < 200000; i++) {
        float f = (float)(draw_normal(&d) * pow(2, draw_below(&d, 44) - 28));
        uint16_t h = f16_from_float(f);
        double error = fabs((double)f16_to_float(h) - f);
        if ((h & 0x7fff) == 0x7c00) {
            assert_true(fabsf(f) >= 65520);
            continue;
        }
        for (int side = -1; side <= 1; side += 2) { /* no neighbour is nearer; ties go to even */
            uint16_t other = (uint16_t)(h + side);
            if (((h & 0x7fff) == 0 && side < 0) || (other & 0x7fff) >= 0x7c00)
                continue;
            double theirs = fabs((double)f16_to_float(other) - f);
            assert_true(error < theirs || (error == theirs && !(h & 1)));
        }
    }
}

/* ---- rows ---- */

#define WIDTH 208
#define PAIRS 4

struct codes { /* of one row */
    int8_t code[PAIRS * 2 * GROUP];
    float scale[PAIRS * 2];
    int32_t offset[PAIRS * 2];
};

static void quantize(const float *x, int inputs, int bias, int row, struct codes *c)
{
    struct quant_pair pairs[PAIRS];
    float rows[QUANT_BLOCK * WIDTH] = {0};
    memset(pairs, 0xff, sizeof pairs);
    memset(c, 0, sizeof *c);
    memcpy(rows + row * WIDTH, x, (size_t)inputs * sizeof *x);
    kernels.quantize(rows, WIDTH, row + 1, inputs, bias, 0, 2 * quant_pairs(inputs), pairs, PAIRS);
    for (int i = 0; i < quant_pairs(inputs); i++) {
        memcpy(c->code + i * 2 * GROUP, pairs[i].codes[row], 2 * GROUP);
        memcpy(c->scale + i * 2, pairs[i].of[row].scale, sizeof pairs[i].of[row].scale);
        memcpy(c->offset + i * 2, pairs[i].of[row].offset, sizeof pairs[i].of[row].offset);
    }
}

static void row_draw(struct draws *d, float *x, int inputs)
{
    if (draw_below(d, 2))
        draw_wild(d, x, (size_t)inputs);
    else
        draw_normals(d, 1, x, (size_t)inputs);
    if (draw_below(d, 4) == 0)
        memset(x, 0, (size_t)(inputs < GROUP ? inputs : GROUP) * sizeof *x);
}

static void rows_have_the_nearest_codes(void **state)
{
    (void)state;
    struct draws d = {2, 0};
    struct err err;
    for (int i = 0; i < 500; i++) {
        float x[WIDTH];
        int inputs = 16 * (1 + draw_below(&d, WIDTH / 16)), bias = draw_below(&d, 2) ? 128 : 8;
        struct codes first;
        row_draw(&d, x, inputs);
        for (size_t p = 0; p < PATHS; p++) {
            struct codes c;
            if (kernels_init(paths[p], &err))
                continue;
            quantize(x, inputs, bias, draw_below(&d, QUANT_BLOCK), &c);
            if (p == 0)
                first = c;
            assert_memory_equal(&first, &c, sizeof c);
        }
        for (int g = 0; g < 2 * quant_pairs(inputs); g++) {
            int sum = 0;
            for (int k = 0; k < GROUP; k++) {
                int at = g * GROUP + k;
                double value = at < inputs ? x[at] : 0, scale = first.scale[g];
                assert_true(fabs(value - first.code[at] * scale) <= scale * 0.5001 + 1e-30);
                sum += first.code[at];
            }
            assert_int_equal(first.offset[g], -bias * sum);
        }
    }
}

static void what_is_no_number_stays_visible(void **state)
{
    (void)state;
    struct err err;
    for (size_t p = 0; p < PATHS; p++) {
        if (kernels_init(paths[p], &err))
            continue;
        for (int i = 0; i < 3; i++) {
            float x[32] = {1, 2, 3};
            struct codes c;
            x[20] = i == 0 ? NAN : i == 1 ? INFINITY : -3e38f;
            quantize(x, 32, 128, i, &c);
            assert_true(isnan(c.scale[0]) || i == 2);
        }
    }
}

/* ---- products ---- */

#define ROWS_MOST 70 /* more than QUANT_ROWS, and than the tiles of any path */
#define STRIDE_MOST 112

struct product {
    struct linear l;
    float *w; /* (outputs, inputs) */
    int rows, outputs, inputs;
    size_t y_stride;
    bool residual;
    float x[ROWS_MOST * WIDTH], r[ROWS_MOST * STRIDE_MOST], y[ROWS_MOST * STRIDE_MOST];
};

static void product_draw(struct product *p, struct draws *d)
{
    struct err err;
    p->inputs = 16 * (1 + draw_below(d, WIDTH / 16));
    p->outputs = 1 + draw_below(d, 100);
    p->rows = 1 + draw_below(d, draw_below(d, 4) ? 20 : ROWS_MOST);
    p->residual = draw_below(d, 2);
    size_t count = (size_t)p->outputs * (size_t)p->inputs;
    p->w = malloc(count * sizeof *p->w);
    assert_non_null(p->w);
    draw_normals(d, 0.05, p->w, count);
    draw_normals(d, 1, p->r, ROWS_MOST * STRIDE_MOST);
    for (int r = 0; r < ROWS_MOST; r++)
        draw_normals(d, 1, p->x + r * WIDTH, (size_t)p->inputs);
    struct tensor tensor = {.name = "w",
                            .dtype = DTYPE_F32,
                            .n_dims = 2,
                            .shape = {(size_t)p->outputs, (size_t)p->inputs},
                            .size = count * 4,
                            .data = p->w};
    struct matrix matrix = {.data = &tensor,
                            .type = WEIGHT_F32,
                            .rows = (size_t)p->outputs,
                            .inputs = (size_t)p->inputs};
    enum weight_type type = draw_below(d, 2) ? WEIGHT_Q8 : WEIGHT_Q4;
    assert_ok(linear_pack(&p->l, type, &matrix, 1, &err), err);
    p->y_stride = linear_stride(&p->l);
}

static void product_free(struct product *p)
{
    linear_release(&p->l);
    free(p->w);
}

static void product_lane(struct lane *lane, void *arg)
{
    struct product *p = arg;
    linear_forward(lane, &p->l, p->x, WIDTH, p->rows, p->residual ? p->r : NULL, p->y, p->y_stride);
}

static void product_run(struct product *p, int lanes)
{
    struct err err;
    struct team team;
    assert_ok(team_init(&team, lanes, &err), err);
    assert_ok(team_reserve(&team, linear_scratch_bytes(p->inputs), &err), err);
    team_run(&team, product_lane, p);
    team_release(&team);
}

/* The weight that stands in the panels, as kernels.h lays it out. */
static double packed_weight(const struct product *p, int o, int k)
{
    bool q8 = p->l.type == WEIGHT_Q8;
    size_t g = (size_t)(k / GROUP), group_bytes = q8 ? 512 : 256;
    const uint8_t *panel = (const uint8_t *)p->l.packed +
                           (size_t)(o / PANEL) * quant_panel_bytes(p->l.type, p->inputs);
    const uint8_t *pair = panel + g / 2 * (2 * group_bytes + 64);
    const uint16_t *scales = (const uint16_t *)(pair + 2 * group_bytes);
    const uint8_t *codes = pair + g % 2 * group_bytes;
    int i = k % GROUP / 4 * 64 + o % PANEL * 4 + k % 4, code;
    if (q8)
        code = codes[i] - Q8_BIAS;
    else
        code = (i < 256 ? codes[i] & 15 : codes[i - 256] >> 4) - Q4_BIAS;
    return code * (double)f16_to_float(scales[g % 2 * PANEL + (size_t)(o % PANEL)]);
}

static void weights_have_the_nearest_codes(void **state)
{
    (void)state;
    static struct product p;
    struct err err;
    assert_ok(kernels_init("auto", &err), err);
    double squares[2] = {0}, errors[2] = {0};
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct draws d = {seed, 0};
        product_draw(&p, &d);
        bool q4 = p.l.type == WEIGHT_Q4;
        for (int o = 0; o < p.outputs; o++)
            for (int k = 0; k < p.inputs; k++) {
                double w = p.w[o * p.inputs + k], error = packed_weight(&p, o, k) - w;
                squares[q4] += w * w;
                errors[q4] += error * error;
            }
        product_free(&p);
    }
    double q8 = sqrt(errors[0] / squares[0]), q4 = sqrt(errors[1] / squares[1]);
    print_message("rms error of normal weights: q8 %.4f, q4 %.4f\n", q8, q4);
    assert_true(q8 < 0.006 && q4 < 0.1);
}

static void expect_right(const struct product *p)
{
    for (int r = 0; r < p->rows; r++) {
        struct codes c;
        quantize(p->x + r * WIDTH, p->inputs, 0, r % QUANT_BLOCK, &c);
        double right[STRIDE_MOST];
        for (int o = 0; o < p->outputs; o++) {
            right[o] = p->residual ? p->r[(size_t)r * p->y_stride + (size_t)o] : 0;
            for (int k = 0; k < p->inputs; k++)
                right[o] += packed_weight(p, o, k) * c.code[k] * (double)c.scale[k / GROUP];
        }
        assert_true(relative_difference(p->y + (size_t)r * p->y_stride, right, (size_t)p->outputs) <
                    2e-6);
    }
}

static void products_are_right_and_the_same_on_every_path(void **state)
{
    (void)state;
    static struct product p;
    static float first[ROWS_MOST * STRIDE_MOST];
    struct err err;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct draws d = {seed, 0};
        size_t n;
        product_draw(&p, &d);
        n = (size_t)p.rows * p.y_stride;
        for (size_t path = 0; path < PATHS; path++) {
            if (kernels_init(paths[path], &err))
                continue;
            memset(p.y, 0xff, sizeof p.y);
            product_run(&p, 1 + draw_below(&d, 3));
            if (path == 0) {
                memcpy(first, p.y, sizeof first);
                expect_right(&p);
            }
            assert_true(same_bits(first, p.y, n));
            for (size_t i = n; i < sizeof p.y / sizeof *p.y; i++) /* nothing is written behind */
                assert_true(isnan(p.y[i]));
        }
        product_free(&p);
    }
}

static void company_changes_nothing(void **state)
{
    (void)state;
    static struct product p;
    static float all[ROWS_MOST * STRIDE_MOST];
    struct err err;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct draws d = {seed, 0};
        product_draw(&p, &d);
        if (kernels_init(paths[seed % PATHS], &err))
            assert_ok(kernels_init("auto", &err), err);
        product_run(&p, 1);
        memcpy(all, p.y, sizeof all);
        for (int rows = p.rows; rows > 0; rows -= 1 + draw_below(&d, 3)) {
            int skip = draw_below(&d, rows); /* the same rows in other places */
            p.rows = rows - skip;
            memmove(p.x, p.x + skip * WIDTH, (size_t)p.rows * WIDTH * sizeof *p.x);
            memmove(p.r, p.r + (size_t)skip * p.y_stride,
                    (size_t)p.rows * p.y_stride * sizeof *p.r);
            memmove(all, all + (size_t)skip * p.y_stride,
                    (size_t)p.rows * p.y_stride * sizeof *all);
            rows -= skip;
            product_run(&p, 1);
            assert_true(same_bits(all, p.y, (size_t)p.rows * p.y_stride));
        }
        product_free(&p);
    }
}

static int say_paths(void **state)
{
    (void)state;
    struct err err;
    for (size_t path = 0; path < PATHS; path++)
        if (!kernels_init(paths[path], &err))
            print_message("%s%s", path ? ", " : "on the paths ", paths[path]);
    print_message("\n");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16_goes_there_and_back),
        cmocka_unit_test(f16_rounds_to_the_nearest),
        cmocka_unit_test(rows_have_the_nearest_codes),
        cmocka_unit_test(what_is_no_number_stays_visible),
        cmocka_unit_test(weights_have_the_nearest_codes),
        cmocka_unit_test(products_are_right_and_the_same_on_every_path),
        cmocka_unit_test(company_changes_nothing),
    };
    return cmocka_run_group_tests_name("quant", tests, say_paths, NULL);
}
