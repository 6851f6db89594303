/* Packed weights of every type, several in one matrix: half-precision scales, packing, rows' codes,
 * and products that are right to the last bit of what the codes say, the same on every kernel path,
 * for any number of lanes, and the same for a row in whatever company. */
#include "model/linear.h"
#include "tests/unit/matrices.h"
#include "tests/unit/unit.h"
#include "weights/f16.h"

static const char *const paths[] = {KERNELS_NAMES};
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

#define WIDTH 768 /* three blocks */
#define PAIRS (WIDTH / (2 * GROUP))

struct codes { /* of one row */
    struct quant_pair pairs[PAIRS];
    int row; /* in them */
};

/* Of the row split in numbers of 16 bits: as bytes, like everywhere else. */
static void join(struct codes *c, int pairs)
{
    static const int order[] = {0, 2, 1, 3};
    for (int p = 0; p < pairs; p++) {
        int16_t split[2 * GROUP];
        memcpy(split, c->pairs[p].split[c->row], sizeof split);
        for (int k = 0; k < 2 * GROUP; k++)
            c->pairs[p].codes[c->row][k] = (int8_t)split[k / 4 * 4 + order[k % 4]];
    }
}

static void quantize(enum weight_type type, const float *x, int inputs, int row, struct codes *c)
{
    static float rows[QUANT_BLOCK * WIDTH];
    memset(rows, 0, sizeof rows);
    memset(c, 0, sizeof *c);
    memset(c->pairs, 0xff, sizeof c->pairs);
    memcpy(rows + row * WIDTH, x, (size_t)inputs * sizeof *x);
    kernels.quantize(type, rows, WIDTH, row + 1, inputs, 0, 2 * quant_pairs(inputs), c->pairs,
                     PAIRS);
    c->row = row;
    if (type == WEIGHT_Q8 && (!strcmp(kernels.name, "avx2") || !strcmp(kernels.name, "avx512")))
        join(c, quant_pairs(inputs));
}

static int code_of(const struct codes *c, int k)
{
    return c->pairs[k / (2 * GROUP)].codes[c->row][k % (2 * GROUP)];
}

static double scale_of(enum weight_type type, const struct codes *c, int k)
{
    const struct quant_pair *pair = &c->pairs[k / (2 * GROUP)];
    return (double)(quant_is_block(type) ? pair->of[c->row].block_scale
                                         : pair->of[c->row].scale[k / GROUP % 2]);
}

static bool same_codes(const struct codes *a, const struct codes *b, int inputs)
{
    for (int p = 0; p < quant_pairs(inputs); p++) {
        const struct quant_pair *x = &a->pairs[p], *y = &b->pairs[p];
        if (memcmp(x->codes[a->row], y->codes[b->row], sizeof x->codes[0]) ||
            memcmp(&x->of[a->row], &y->of[b->row], sizeof x->of[0]))
            return false;
    }
    return true;
}

static void row_draw(struct draws *d, float *x, int inputs)
{
    if (draw_below(d, 2))
        draw_wild(d, x, (size_t)inputs);
    else
        draw_normals(d, 1, x, (size_t)inputs);
    if (draw_below(d, 4) == 0)
        memset(x, 0, (size_t)(inputs < BLOCK ? inputs : BLOCK) * sizeof *x);
}

/* The sums of codes that stand beside them are right. */
static void expect_sums(enum weight_type type, const struct codes *c, int inputs)
{
    for (int g = 0; g < 2 * quant_pairs(inputs); g++) {
        int sum[2] = {0};
        for (int k = 0; k < GROUP; k++)
            sum[k / 16] += code_of(c, g * GROUP + k);
        const struct quant_pair *pair = &c->pairs[g / 2];
        if (quant_is_block(type)) {
            assert_int_equal(pair->of[c->row].sums_16[g % 2 * 2], sum[0]);
            assert_int_equal(pair->of[c->row].sums_16[g % 2 * 2 + 1], sum[1]);
            assert_int_equal(pair->of[c->row].sums_32[g % 2], sum[0] + sum[1]);
        } else if (quant_has_minimum(type)) {
            assert_true(pair->of[c->row].sum[g % 2] ==
                        pair->of[c->row].scale[g % 2] * (float)(sum[0] + sum[1]));
        } else {
            assert_int_equal(pair->of[c->row].offset[g % 2], -quant_bias(type) * (sum[0] + sum[1]));
        }
    }
}

static enum weight_type draw_type(struct draws *d, enum weight_type first)
{
    return (enum weight_type)((int)first + draw_below(d, WEIGHT_TYPES - (int)first));
}

static int draw_inputs(struct draws *d, enum weight_type type)
{
    return quant_is_block(type) ? BLOCK * (1 + draw_below(d, WIDTH / BLOCK))
                                : 16 * (1 + draw_below(d, 13));
}

static void rows_have_the_nearest_codes(void **state)
{
    (void)state;
    static struct codes first, c;
    struct draws d = {2, 0};
    struct err err;
    for (int i = 0; i < 600; i++) {
        float x[WIDTH];
        enum weight_type type = draw_type(&d, WEIGHT_Q8);
        int inputs = draw_inputs(&d, type);
        row_draw(&d, x, inputs);
        for (size_t p = 0; p < PATHS; p++) {
            if (kernels_init(paths[p], &err))
                continue;
            quantize(type, x, inputs, draw_below(&d, QUANT_BLOCK), &c);
            if (p == 0)
                first = c;
            assert_true(same_codes(&first, &c, inputs));
        }
        for (int k = 0; k < quant_pairs(inputs) * 2 * GROUP; k++) {
            double value = k < inputs ? (double)x[k] : 0, scale = scale_of(type, &first, k);
            assert_true(fabs(value - code_of(&first, k) * scale) <= scale * 0.5001 + 1e-30);
        }
        expect_sums(type, &first, inputs);
    }
}

/* What serves several types must be what each of them would get. */
static void rows_of_one_form_are_the_same(void **state)
{
    (void)state;
    static struct codes a, b;
    struct draws d = {3, 0};
    struct err err;
    assert_ok(kernels_init("auto", &err), err);
    for (int i = 0; i < 200; i++) {
        float x[WIDTH];
        enum weight_type one = draw_type(&d, WEIGHT_Q8), other = draw_type(&d, WEIGHT_Q8);
        if (quant_form(one) != quant_form(other))
            continue;
        int inputs = draw_inputs(&d, one);
        row_draw(&d, x, inputs);
        quantize(one, x, inputs, 0, &a);
        quantize(other, x, inputs, 1, &b);
        assert_true(same_codes(&a, &b, inputs));
    }
}

static void what_is_no_number_stays_visible(void **state)
{
    (void)state;
    static struct codes c;
    struct err err;
    for (size_t p = 0; p < PATHS; p++) {
        if (kernels_init(paths[p], &err))
            continue;
        for (int i = 0; i < 9; i++) {
            static const enum weight_type types[] = {WEIGHT_Q8, WEIGHT_Q5_1, WEIGHT_Q6_K};
            float x[BLOCK] = {1, 2, 3};
            x[20] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -3e38f;
            quantize(types[i / 3], x, BLOCK, i, &c);
            assert_true(isnan(scale_of(types[i / 3], &c, 0)));
        }
    }
}

/* ---- products ---- */

#define ROWS_MOST 70 /* more than QUANT_ROWS, and than the tiles of any path */
#define STRIDE_MOST 144

struct product {
    struct linear l;
    struct region memory;
    struct drawn part[LINEAR_PARTS];
    int n, type; /* matrices, and what they are packed as */
    int rows, outputs, inputs;
    size_t y_stride;
    bool residual;
    double *w; /* (outputs, inputs) of the packed weights */
    float x[ROWS_MOST * WIDTH], r[ROWS_MOST * STRIDE_MOST], y[ROWS_MOST * STRIDE_MOST];
};

/* Up to three matrices of types of their own; all but the last have whole panels. */
static void parts_draw(struct product *p, struct draws *d)
{
    struct matrix matrices[LINEAR_PARTS];
    struct err err;
    bool own = draw_below(d, 6) == 0, blocks = !own && draw_below(d, 2);
    p->n = 1 + draw_below(d, LINEAR_PARTS);
    p->inputs = blocks ? BLOCK * (1 + draw_below(d, WIDTH / BLOCK))
                : own  ? 16 * (1 + draw_below(d, 13))
                       : GROUP * (1 + draw_below(d, 8));
    p->outputs = 0;
    for (int i = 0; i < p->n; i++) {
        int rows = i + 1 < p->n ? 16 * (1 + draw_below(d, 3)) : 1 + draw_below(d, 48);
        int half_split = rows % 16 || draw_below(d, 2) ? 0 : rows % 32 ? 16 : 32;
        enum weight_type type =
            own ? (enum weight_type)(WEIGHT_Q8 + draw_below(d, 2))
                : (enum weight_type)draw_below(d, blocks ? WEIGHT_TYPES : WEIGHT_Q2_K);
        if (i && draw_below(d, 3) == 0)
            type = p->part[i - 1].m.type;
        drawn_make(&p->part[i], d, type, (size_t)rows, (size_t)p->inputs, half_split, own);
        matrices[i] = p->part[i].m;
        p->outputs += rows;
    }
    static const int types[] = {WEIGHT_F32, WEIGHT_BF16, WEIGHT_Q8, WEIGHT_Q4};
    p->type = draw_below(d, 4) ? WEIGHT_STORED : types[draw_below(d, 4)];
    assert_ok(linear_pack(&p->l, p->type, matrices, p->n, &p->memory, NULL, &err), err);
}

static void product_draw(struct product *p, struct draws *d)
{
    parts_draw(p, d);
    p->rows = 1 + draw_below(d, draw_below(d, 4) ? 20 : ROWS_MOST);
    p->residual = draw_below(d, 2);
    draw_normals(d, 1, p->r, ROWS_MOST * STRIDE_MOST);
    for (int r = 0; r < ROWS_MOST; r++)
        draw_normals(d, 1, p->x + r * WIDTH, (size_t)p->inputs);
    p->y_stride = linear_stride(&p->l);
    p->w = malloc((size_t)p->outputs * (size_t)p->inputs * sizeof *p->w);
    assert_non_null(p->w);
    double *w = p->w;
    for (int i = 0; i < p->n; w += p->part[i].m.rows * (size_t)p->inputs, i++)
        drawn_convert(&p->part[i], p->type, w);
}

static void product_free(struct product *p)
{
    region_release(&p->memory);
    for (int i = 0; i < p->n; i++)
        drawn_free(&p->part[i]);
    free(p->w);
}

/* The type in which output o is packed. */
static enum weight_type type_of(const struct product *p, int o)
{
    int i = 0;
    for (; o >= (int)p->part[i].m.rows; i++)
        o -= (int)p->part[i].m.rows;
    return p->type == WEIGHT_STORED ? p->part[i].m.type : (enum weight_type)p->type;
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

static void parts_are_as_few_as_types_allow(void **state)
{
    (void)state;
    static struct product p;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct draws d = {seed, 0};
        int outputs = 0, n = 0;
        size_t bytes = 0;
        product_draw(&p, &d);
        for (int o = 0; o < p.outputs; o++)
            n += o == 0 || type_of(&p, o) != type_of(&p, o - 1);
        assert_int_equal(p.l.n_parts, n);
        for (int i = 0; i < n; i++) {
            assert_int_equal(p.l.parts[i].type, type_of(&p, outputs));
            outputs += p.l.parts[i].outputs;
            bytes += packed_bytes(p.l.parts[i].type, p.l.parts[i].outputs, p.inputs);
        }
        assert_int_equal(outputs, p.outputs);
        assert_int_equal(linear_bytes(&p.l), bytes);
        assert_int_equal(p.y_stride, (p.outputs + PANEL - 1) / PANEL * PANEL);
        product_free(&p);
    }
}

static void weights_have_the_nearest_codes(void **state)
{
    (void)state;
    double squares[2] = {0}, errors[2] = {0};
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct draws d = {seed, 0};
        struct drawn x;
        bool q4 = seed % 2;
        drawn_make(&x, &d, WEIGHT_F32, 20, 16 * (size_t)(1 + draw_below(&d, 13)), 0, false);
        size_t n = x.m.rows * x.m.inputs;
        double *w = malloc(n * sizeof *w);
        assert_non_null(w);
        drawn_convert(&x, q4 ? WEIGHT_Q4 : WEIGHT_Q8, w);
        for (size_t i = 0; i < n; i++) {
            squares[q4] += x.w[i] * x.w[i];
            errors[q4] += (w[i] - x.w[i]) * (w[i] - x.w[i]);
        }
        free(w);
        drawn_free(&x);
    }
    double q8 = sqrt(errors[0] / squares[0]), q4 = sqrt(errors[1] / squares[1]);
    print_message("rms error of normal weights: q8 %.4f, q4 %.4f\n", q8, q4);
    assert_true(q8 < 0.006 && q4 < 0.1);
}

/* How far a row's outputs are from what its codes say, in parts of the sum of magnitudes; and how
 * far from what its floats say, whose codes are off by half a scale at most. */
struct error {
    double rounding;       /* the largest */
    double seen, expected; /* squares of the 8-bit error, all and of what is to be expected */
};

static void expect_output(const struct product *p, int r, int o, const struct codes *c,
                          struct error *e)
{
    enum weight_type type = type_of(p, o);
    const double *w = p->w + (size_t)o * (size_t)p->inputs;
    const float *x = p->x + r * WIDTH;
    size_t at = (size_t)r * p->y_stride + (size_t)o;
    double sum = p->residual ? (double)p->r[at] : 0, exact = sum, size = fabs(sum), most = 0;
    for (int k = 0; k < p->inputs; k++) {
        double value = (double)x[k], scale = 0;
        if (type >= WEIGHT_Q8) {
            scale = scale_of(type, c, k);
            value = code_of(c, k) * scale;
        }
        sum += w[k] * value;
        exact += w[k] * (double)x[k];
        size += fabs(w[k] * value);
        most += fabs(w[k]) * scale * 0.5001;
        e->expected += w[k] * w[k] * scale * scale / 12;
    }
    double error = fabs((double)p->y[at] - sum) / size, far = (double)p->y[at] - exact;
    e->rounding = fmax(e->rounding, error);
    if (!(error < 1e-6) || !(fabs(far) <= most + 1e-6 * size))
        fail_msg("row %d, output %d of %s: %g, but should be %g, or about %g", r, o,
                 weight_type_name(type), (double)p->y[at], sum, exact);
    e->seen += type >= WEIGHT_Q8 ? far * far : 0;
}

static void expect_right(const struct product *p, struct error *e)
{
    static struct codes c;
    for (int r = 0; r < p->rows; r++)
        for (int o = 0; o < (int)p->y_stride; o++) {
            size_t at = (size_t)r * p->y_stride + (size_t)o;
            if (o >= p->outputs) { /* channels past the last have weights of 0 */
                assert_true(p->y[at] == (p->residual ? p->r[at] : 0));
                continue;
            }
            if (type_of(p, o) >= WEIGHT_Q8 && (o == 0 || type_of(p, o) != type_of(p, o - 1)))
                quantize(type_of(p, o), p->x + r * WIDTH, p->inputs, r % QUANT_BLOCK, &c);
            expect_output(p, r, o, &c, e);
        }
}

static void products_are_right_and_the_same_on_every_path(void **state)
{
    (void)state;
    static struct product p;
    static float first[ROWS_MOST * STRIDE_MOST];
    struct error e = {0};
    struct err err;
    for (uint64_t seed = 1; seed <= 300; seed++) {
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
                expect_right(&p, &e);
            }
            if (!same_bits(first, p.y, n))
                fail_msg("%s gives other bits than generic, seed %d", paths[path], (int)seed);
            for (size_t i = n; i < sizeof p.y / sizeof *p.y; i++) /* nothing is written behind */
                assert_true(isnan(p.y[i]));
        }
        product_free(&p);
    }
    double ratio = sqrt(e.seen / e.expected);
    print_message("rounding %.1e; the error of 8-bit rows is %.3f of what is to be expected\n",
                  e.rounding, ratio);
    assert_true(ratio > 0.95 && ratio < 1.05);
}

static void company_changes_nothing(void **state)
{
    (void)state;
    static struct product p;
    static float all[ROWS_MOST * STRIDE_MOST];
    struct err err;
    for (uint64_t seed = 1; seed <= 80; seed++) {
        struct draws d = {1000 + seed, 0};
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
            product_run(&p, 1 + draw_below(&d, 2));
            assert_true(same_bits(all, p.y, (size_t)p.rows * p.y_stride));
        }
        product_free(&p);
    }
}

/* A team packs what one thread packs. */
static void packing_lane_by_lane_is_the_same(void **state)
{
    (void)state;
    static struct product p;
    struct err err;
    struct team team;
    assert_ok(team_init(&team, 3, &err), err);
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct draws d = {2000 + seed, 0};
        struct matrix matrices[LINEAR_PARTS];
        struct linear shared;
        product_draw(&p, &d);
        for (int i = 0; i < p.n; i++)
            matrices[i] = p.part[i].m;
        assert_ok(linear_pack(&shared, p.type, matrices, p.n, &p.memory, &team, &err), err);
        assert_int_equal(shared.n_parts, p.l.n_parts);
        for (int i = 0; i < shared.n_parts; i++) {
            const struct packed *one = &p.l.parts[i], *other = &shared.parts[i];
            assert_memory_equal(one->data, other->data,
                                packed_bytes(one->type, one->outputs, p.inputs));
        }
        product_free(&p);
    }
    team_release(&team);
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
        cmocka_unit_test(rows_of_one_form_are_the_same),
        cmocka_unit_test(what_is_no_number_stays_visible),
        cmocka_unit_test(parts_are_as_few_as_types_allow),
        cmocka_unit_test(weights_have_the_nearest_codes),
        cmocka_unit_test(products_are_right_and_the_same_on_every_path),
        cmocka_unit_test(company_changes_nothing),
        cmocka_unit_test(packing_lane_by_lane_is_the_same),
    };
    return cmocka_run_group_tests_name("quant", tests, say_paths, NULL);
}
