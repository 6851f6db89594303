/* The kernels: the same bits on every path, rows that know nothing of each other, and the right
 * numbers (against double precision). */
#include <limits.h>
#include "model/kernels/kernels.h"
#include "model/kv.h"
#include "tests/unit/numbers.h"
#include "tests/unit/paths.h"
#include "tests/unit/unit.h"
#include "weights/bf16.h"

static float *floats(size_t n)
{
    float *x = calloc(n, sizeof *x);
    assert_non_null(x);
    return x;
}

/* ---- linear ---- */

struct product {
    enum weight_type type;
    int rows, inputs, panels, first, last;
    size_t x_stride, y_stride;
    float *x, *residual, *before; /* (rows, x_stride), (rows, y_stride), what y holds before */
    void *w;
    size_t size; /* floats of y */
};

static void product_draw(struct product *p, struct draws *d, enum weight_type type, int rows)
{
    p->type = type;
    p->rows = rows;
    p->inputs = 2 + 2 * draw_below(d, 75);
    p->panels = 1 + draw_below(d, 20);
    p->first = draw_below(d, p->panels);
    p->last = p->first + draw_below(d, p->panels - p->first + 1);
    p->x_stride = (size_t)(p->inputs + draw_below(d, 4));
    p->y_stride = (size_t)(p->panels * PANEL + draw_below(d, 4));
    p->size = (size_t)rows * p->y_stride;
    size_t n = (size_t)p->inputs * (size_t)p->panels * PANEL;
    float *w = floats(n);
    p->x = floats((size_t)rows * p->x_stride);
    p->residual = floats(p->size);
    p->before = floats(p->size);
    draw_wild(d, w, n);
    draw_wild(d, p->x, (size_t)rows * p->x_stride);
    draw_wild(d, p->residual, p->size);
    draw_wild(d, p->before, p->size);
    p->w = w;
    if (type == WEIGHT_BF16) {
        uint16_t *bits = malloc(n * sizeof *bits);
        assert_non_null(bits);
        for (size_t i = 0; i < n; i++)
            bits[i] = bf16_from_float(w[i]);
        free(w);
        p->w = bits;
    }
}

static void product_free(struct product *p)
{
    free(p->x);
    free(p->residual);
    free(p->before);
    free(p->w);
}

enum residual { NONE, APART, IN_PLACE, RESIDUALS };

/* Rows from..from+rows-1 of the product into y, which is filled with what was there before. */
static void product_run(const struct product *p, const struct path *path, enum residual residual,
                        int from, int rows, float *y)
{
    size_t at = (size_t)from * p->y_stride;
    const float *source = residual == APART ? p->residual + at : residual == IN_PLACE ? y : NULL;
    memcpy(y, p->before + at, (size_t)rows * p->y_stride * sizeof *y);
    path->k.linear[p->type](p->x + (size_t)from * p->x_stride, p->x_stride, rows, p->inputs, p->w,
                            p->first, p->last, source, y, p->y_stride);
}

static void linear_is_the_same_on_every_path(void **state)
{
    (void)state;
    struct draws d = {1, 0};
    for (int i = 0; i < 400; i++) {
        struct product p;
        product_draw(&p, &d, i % 2, 1 + i / 2 % 20);
        float *y = floats(p.size), *other = floats(p.size);
        for (enum residual residual = NONE; residual < RESIDUALS; residual++) {
            product_run(&p, &paths[0], residual, 0, p.rows, y);
            for (int path = 1; path < n_paths; path++) {
                product_run(&p, &paths[path], residual, 0, p.rows, other);
                assert_true(same_bits(y, other, p.size));
            }
        }
        free(y);
        free(other);
        product_free(&p);
    }
}

/* Also shows that nothing is written outside the panels asked for. */
static void linear_is_one_fma_after_another(void **state)
{
    (void)state;
    struct draws d = {2, 0};
    for (int i = 0; i < 40; i++) {
        struct product p;
        product_draw(&p, &d, i % 2, 1 + i / 2 % 20);
        float *y = floats(p.size);
        for (enum residual residual = NONE; residual < RESIDUALS; residual++) {
            product_run(&p, &paths[n_paths - 1], residual, 0, p.rows, y);
            for (size_t at = 0; at < p.size; at++) {
                size_t r = at / p.y_stride, o = at % p.y_stride;
                float right = p.before[at], sum = 0;
                if (o >= (size_t)p.first * PANEL && o < (size_t)p.last * PANEL) {
                    for (size_t k = 0; k < (size_t)p.inputs; k++) {
                        size_t panel = o / PANEL * (size_t)p.inputs * PANEL;
                        size_t w = p.type == WEIGHT_F32
                                       ? panel + k * PANEL + o % PANEL
                                       : panel + (k / 2 * PANEL + o % PANEL) * 2 + k % 2;
                        sum = fmaf(p.x[r * p.x_stride + k],
                                   p.type == WEIGHT_F32 ? ((float *)p.w)[w]
                                                        : bf16_to_float(((uint16_t *)p.w)[w]),
                                   sum);
                    }
                    right = residual == APART      ? p.residual[at] + sum
                            : residual == IN_PLACE ? p.before[at] + sum
                                                   : sum;
                }
                assert_true(same_bits(&right, &y[at], 1));
            }
        }
        free(y);
        product_free(&p);
    }
}

/* A row's bits are the same alone as in any batch and at any place in it. */
static void linear_rows_know_nothing_of_each_other(void **state)
{
    (void)state;
    struct draws d = {3, 0};
    for (int i = 0; i < 60; i++) {
        struct product p;
        product_draw(&p, &d, i % 2, 20);
        float *all = floats(p.size), *some = floats(p.size);
        for (int path = 0; path < n_paths; path++) {
            product_run(&p, &paths[path], APART, 0, p.rows, all);
            for (int rows = 1; rows <= p.rows; rows++) {
                int from = draw_below(&d, p.rows - rows + 1);
                product_run(&p, &paths[path], APART, from, rows, some);
                assert_true(
                    same_bits(some, all + (size_t)from * p.y_stride, (size_t)rows * p.y_stride));
            }
        }
        free(all);
        free(some);
        product_free(&p);
    }
}

/* ---- row kernels: each fills `out` from `in`, so that one test serves all ---- */

#define WIDTH_MOST 320

struct rows_in {
    int width, heads; /* heads of width / heads */
    float x[WIDTH_MOST], y[WIDTH_MOST], cos[WIDTH_MOST], sin[WIDTH_MOST];
};

typedef void row_fn(const struct path *path, const struct rows_in *in, float *out);

static void run_rmsnorm(const struct path *path, const struct rows_in *in, float *out)
{
    out[in->width] = path->k.rmsnorm(in->x, in->y, in->width, 1e-5f, out);
}

static void run_rope(const struct path *path, const struct rows_in *in, float *out)
{
    memcpy(out, in->x, (size_t)in->width * sizeof *out);
    path->k.rope(out, in->cos, in->sin, in->heads, in->width / in->heads);
}

static void run_swiglu(const struct path *path, const struct rows_in *in, float *out)
{
    path->k.swiglu(in->x, in->y, in->width, out);
}

/* Any width: also one that is no multiple of 16. */
static void run_logsumexp(const struct path *path, const struct rows_in *in, float *out)
{
    for (int i = 0; i < 16; i++)
        out[i] = path->k.logsumexp(in->x, in->width - i);
}

static row_fn *const row_kernels[] = {run_rmsnorm, run_rope, run_swiglu, run_logsumexp};
#define ROW_KERNELS (sizeof row_kernels / sizeof *row_kernels)

static void rows_draw(struct rows_in *in, struct draws *d, bool wild)
{
    in->heads = 1 + draw_below(d, 4);
    in->width = in->heads * 16 * (1 + draw_below(d, 5));
    float *const fields[] = {in->x, in->y, in->cos, in->sin};
    for (int i = 0; i < 4; i++) {
        if (wild)
            draw_wild(d, fields[i], WIDTH_MOST);
        else
            draw_normals(d, 2, fields[i], WIDTH_MOST);
    }
}

static void row_kernels_are_the_same_on_every_path(void **state)
{
    (void)state;
    struct draws d = {4, 0};
    for (int i = 0; i < 1000; i++) {
        struct rows_in in;
        rows_draw(&in, &d, i % 2);
        for (size_t k = 0; k < ROW_KERNELS; k++) {
            float right[WIDTH_MOST + 16] = {0}, out[WIDTH_MOST + 16] = {0};
            row_kernels[k](&paths[0], &in, right);
            for (int path = 1; path < n_paths; path++) {
                row_kernels[k](&paths[path], &in, out);
                assert_true(same_bits(right, out, WIDTH_MOST + 16));
            }
        }
    }
}

/* ---- the right numbers: a few roundings of 6e-8 each ---- */

static void rmsnorm_is_right(void **state)
{
    (void)state;
    struct draws d = {5, 0};
    for (int i = 0; i < 200; i++) {
        struct rows_in in;
        double right[WIDTH_MOST], squares = 0;
        float out[WIDTH_MOST + 16];
        rows_draw(&in, &d, false);
        for (int j = 0; j < in.width; j++)
            squares += (double)in.x[j] * in.x[j];
        double scale = 1 / sqrt(squares / in.width + 1e-5f);
        for (int j = 0; j < in.width; j++)
            right[j] = in.x[j] * scale * in.y[j];
        run_rmsnorm(&paths[n_paths - 1], &in, out);
        assert_true(relative_difference(out, right, (size_t)in.width) < 1e-6);
        assert_true(fabs(out[in.width] / scale - 1) < 1e-6);
    }
}

static void rope_turns_adjacent_pairs(void **state)
{
    (void)state;
    struct draws d = {6, 0};
    for (int i = 0; i < 200; i++) {
        struct rows_in in;
        double right[WIDTH_MOST];
        float out[WIDTH_MOST];
        rows_draw(&in, &d, false);
        int size = in.width / in.heads;
        for (int j = 0; j < size; j += 2) {
            double angle = 3 * draw_normal(&d);
            in.cos[j] = in.cos[j + 1] = (float)cos(angle);
            in.sin[j] = (float)-sin(angle);
            in.sin[j + 1] = (float)sin(angle);
            for (int h = 0; h < in.heads; h++) {
                double a = in.x[h * size + j], b = in.x[h * size + j + 1];
                right[h * size + j] = a * cos(angle) - b * sin(angle);
                right[h * size + j + 1] = a * sin(angle) + b * cos(angle);
            }
        }
        run_rope(&paths[n_paths - 1], &in, out);
        assert_true(relative_difference(out, right, (size_t)in.width) < 4e-7);
    }
}

static void swiglu_is_right(void **state)
{
    (void)state;
    struct draws d = {7, 0};
    for (int i = 0; i < 200; i++) {
        struct rows_in in;
        float out[WIDTH_MOST];
        rows_draw(&in, &d, false);
        for (int j = 0; j < in.width; j++)
            in.x[j] *= i % 2 ? 1 : 10;
        run_swiglu(&paths[n_paths - 1], &in, out);
        for (int j = 0; j < in.width; j++) {
            double right = in.x[j] / (1 + exp(-(double)in.x[j])) * in.y[j];
            assert_true(fabs(out[j] - right) <= 6e-7 * fabs(right));
        }
    }
}

static void logsumexp_is_right(void **state)
{
    (void)state;
    struct draws d = {8, 0};
    for (int i = 0; i < 500; i++) {
        float x[400];
        int n = 1 + draw_below(&d, 400);
        double top = -INFINITY, sum = 0, shift = i % 3 ? 0 : 1000 * draw_normal(&d);
        for (int j = 0; j < n; j++) {
            x[j] = (float)(shift + (i % 2 ? 1 : 20) * draw_normal(&d));
            top = fmax(top, x[j]);
        }
        for (int j = 0; j < n; j++)
            sum += exp(x[j] - top);
        double right = top + log(sum), out = paths[n_paths - 1].k.logsumexp(x, n);
        assert_true(fabs(out - right) < 4e-7 * fmax(1, fabs(right)));
    }
}

/* ---- v16_exp ---- */

/* What softmax_again makes of scale 1 and a sum whose logarithm is 0. */
static void exponentials(const struct path *path, float *x, int n)
{
    path->g.softmax_again(x, 1, 0, n, n);
}

static void exp_errs_less_than_2_ulp(void **state)
{
    (void)state;
    enum { BATCH = 1024, BATCHES = 1000 };
    float x[BATCH], y[BATCH], other[BATCH];
    double worst = 0;
    for (int b = 0; b < BATCHES; b++) {
        for (int i = 0; i < BATCH; i++)
            x[i] = (float)(-87 + 175.0 * (b * BATCH + i) / (BATCH * BATCHES));
        memcpy(y, x, sizeof y);
        exponentials(&paths[0], y, BATCH);
        for (int i = 0; i < BATCH; i++) {
            double right = exp(x[i]);
            worst = fmax(worst, fabs(y[i] - right) / ldexp(1, ilogb(right) - 23));
        }
        for (int path = 1; path < n_paths; path++) {
            memcpy(other, x, sizeof other);
            exponentials(&paths[path], other, BATCH);
            assert_true(same_bits(y, other, BATCH));
        }
    }
    print_message("exp: %.2f ulp\n", worst);
    assert_true(worst < 2);
}

static void exp_is_clamped_to_normal_numbers(void **state)
{
    (void)state;
    for (int path = 0; path < n_paths; path++) {
        float x[16] = {-INFINITY, -1e30f, -88,  -87.5f, -87,      0,    -0.0f, 1e-40f,
                       88,        88.5f,  89.0, 1e30f,  INFINITY, -103, 100,   -87};
        exponentials(&paths[path], x, 16);
        for (int i = 0; i < 16; i++)
            assert_true(isnormal(x[i]));
        assert_true(x[0] == x[4] && x[1] == x[4] && x[2] == x[4] && x[3] == x[4]);
        assert_true(x[4] < 1.7e-38f);
        assert_true(x[5] == 1 && x[6] == 1 && x[7] == 1);
        assert_true(x[9] == x[8] && x[10] == x[8] && x[11] == x[8] && x[12] == x[8]);
    }
}

/* ---- attention ---- */

#define QUERIES_MOST 11
#define OUT_MOST (QUERIES_MOST * 256)

struct attention {
    int n, size, queries, fewer; /* positions seen, head_dim, queries */
    float scale;
    float *q, *k, *v; /* k and v as the cache holds them: (n, size) */
    struct kv_pool pool;
    struct kv kv;
};

/* The cache of n positions as the kernels want it, and what it then holds back in k and v. */
static void cache_fill(struct attention *a, enum weight_type type, size_t room)
{
    struct err err;
    struct config config = {.n_kv_heads = 1, .head_dim = a->size};
    size_t size = (size_t)a->size;
    assert_ok(kv_pool_init(&a->pool, &config, 1, kv_pages(a->n), type, &err), err);
    assert_ok(kv_init(&a->kv, &a->pool, a->n, &err), err);
    assert_true(kv_reserve(&a->kv, a->n));
    for (size_t pos = 0; pos < room / size; pos++) {
        kv_put_key(&a->kv, 0, 0, (int)pos, a->k + pos * size);
        kv_put_value(&a->kv, 0, 0, (int)pos, a->v + pos * size);
    }
    for (size_t i = 0; type == WEIGHT_BF16 && i < room; i++) {
        a->k[i] = bf16_to_float(bf16_from_float(a->k[i]));
        a->v[i] = bf16_to_float(bf16_from_float(a->v[i]));
    }
}

static void cache_attend(const struct attention *a, const struct path *path,
                         const struct attention_query *queries, int n)
{
    struct attention_cache cache = {
        .pages = a->kv.pages, .values = a->pool.values, .tail_chunk = INT_MAX};
    path->k.attention[a->pool.type](queries, n, &cache, a->size, a->scale,
                                    &(struct prefetch){NULL, NULL});
}

/* Over n positions. Those of the last block that the row must not see hold rubbish: keys that would
 * win, and no numbers at all. */
static void attention_draw(struct attention *a, struct draws *d, int n, bool wild)
{
    static const int sizes[] = {16, 32, 48, 64, 80, 128, 256};
    a->n = n;
    a->size = sizes[draw_below(d, 7)];
    a->queries = 1 + draw_below(d, QUERIES_MOST);
    a->fewer = draw_below(d, 2) ? 0 : draw_below(d, 40);
    a->scale = 1 / sqrtf((float)a->size);
    size_t size = (size_t)a->size, room = ((size_t)a->n + 15) / 16 * 16 * size;
    size_t nq = (size_t)a->queries * size;
    a->q = floats(nq);
    a->k = floats(room);
    a->v = floats(room);
    if (wild) {
        draw_wild(d, a->q, nq);
        draw_wild(d, a->k, room);
        draw_wild(d, a->v, room);
    } else {
        draw_normals(d, 2, a->q, nq);
        draw_normals(d, 1, a->k, room);
        draw_normals(d, 1, a->v, room);
    }
    for (size_t pos = (size_t)a->n; pos < room / size; pos++)
        for (size_t i = 0; i < size; i++) {
            a->k[pos * size + i] = pos % 2 ? 100 * a->q[i] : NAN;
            a->v[pos * size + i] = NAN;
        }
    cache_fill(a, draw_below(d, 2) ? WEIGHT_BF16 : WEIGHT_F32, room);
}

static void attention_free(struct attention *a)
{
    free(a->q);
    free(a->k);
    free(a->v);
    kv_release(&a->kv);
    kv_pool_release(&a->pool);
}

static int attention_seen(const struct attention *a, int query)
{
    int seen = a->n - query * a->fewer;
    return seen > 1 ? seen : 1;
}

/* Queries first..first+n-1. Query i sees fewer positions than the one before, by `fewer`. */
static void attention_run(const struct attention *a, const struct path *path, int first, int n,
                          float *out)
{
    struct attention_query queries[QUERIES_MOST];
    for (int i = 0; i < n; i++)
        queries[i] = (struct attention_query){a->q + (first + i) * a->size, out + i * a->size,
                                              attention_seen(a, first + i)};
    cache_attend(a, path, queries, n);
}

/* Whatever heads stand beside it, a head's result is the same, on every path. */
static void attention_is_the_same_on_every_path(void **state)
{
    (void)state;
    struct draws d = {9, 0};
    for (int i = 0; i < 200; i++) {
        struct attention a;
        float right[OUT_MOST], out[OUT_MOST];
        attention_draw(&a, &d, 1 + draw_below(&d, 300), i % 2);
        for (int q = 0; q < a.queries; q++)
            attention_run(&a, &paths[0], q, 1, right + q * a.size);
        for (int path = 0; path < n_paths; path++) {
            int first = draw_below(&d, a.queries), n = 1 + draw_below(&d, a.queries - first);
            attention_run(&a, &paths[path], first, n, out);
            assert_true(same_bits(right + first * a.size, out, (size_t)(n * a.size)));
        }
        attention_free(&a);
    }
}

/* softmax(scale q k) v over positions 0..n-1, in double precision. */
static void attention_right(const struct attention *a, const float *q, int n, double *out)
{
    double *p = calloc((size_t)n, sizeof *p), top = -INFINITY, sum = 0;
    assert_non_null(p);
    size_t size = (size_t)a->size;
    for (int j = 0; j < n; j++) {
        for (size_t i = 0; i < size; i++)
            p[j] += (double)q[i] * a->k[(size_t)j * size + i];
        p[j] *= a->scale;
        top = fmax(top, p[j]);
    }
    memset(out, 0, size * sizeof *out);
    for (int j = 0; j < n; j++) {
        double e = exp(p[j] - top);
        sum += e;
        for (size_t i = 0; i < size; i++)
            out[i] += e * a->v[(size_t)j * size + i];
    }
    for (size_t i = 0; i < size; i++)
        out[i] /= sum;
    free(p);
}

/* The largest difference over all queries, each measured by its own result. */
static double attention_error(const struct attention *a, const struct path *path)
{
    float out[OUT_MOST];
    double right[256], worst = 0;
    attention_run(a, path, 0, a->queries, out);
    for (int q = 0; q < a->queries; q++) {
        attention_right(a, a->q + q * a->size, attention_seen(a, q), right);
        double off = relative_difference(out + q * a->size, right, (size_t)a->size);
        worst = off > worst || isnan(off) ? off : worst;
    }
    return worst;
}

/* A score of about 5 has an error of some 1e-6, and so has its exponential. */
static void attention_is_right(void **state)
{
    (void)state;
    struct draws d = {10, 0};
    double worst = 0;
    for (int i = 0; i < 200; i++) {
        struct attention a;
        attention_draw(&a, &d, 1 + draw_below(&d, 300), false);
        double off = attention_error(&a, &paths[n_paths - 1]);
        worst = off > worst || isnan(off) ? off : worst;
        attention_free(&a);
    }
    print_message("attention: %.1e\n", worst);
    assert_true(worst < 5e-6);
}

/* Long texts, on every path: the error does not grow with them, and what stands far away counts. */
static void attention_is_right_far_back(void **state)
{
    (void)state;
    static const int lengths[] = {199,  200,  201,  256,  257,  511, 512,
                                  1000, 1023, 1024, 1025, 1300, 1500};
    struct draws d = {11, 0};
    double worst = 0;
    int of_type[WEIGHT_TYPES] = {0};
    for (int i = 0; i < 39; i++) {
        struct attention a;
        attention_draw(&a, &d, lengths[i % 13], false);
        of_type[a.pool.type]++;
        for (int path = 0; path < n_paths; path++) {
            double off = attention_error(&a, &paths[path]);
            worst = off > worst || isnan(off) ? off : worst;
        }
        attention_free(&a);
    }
    print_message("attention over up to 1500 positions, f32 %d times, bf16 %d times, on",
                  of_type[WEIGHT_F32], of_type[WEIGHT_BF16]);
    for (int path = 0; path < n_paths; path++)
        print_message(" %s", paths[path].k.name);
    print_message(": %.1e\n", worst);
    assert_true(of_type[WEIGHT_F32] > 5 && of_type[WEIGHT_BF16] > 5);
    assert_true(worst < 5e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_is_the_same_on_every_path),
        cmocka_unit_test(linear_is_one_fma_after_another),
        cmocka_unit_test(linear_rows_know_nothing_of_each_other),
        cmocka_unit_test(row_kernels_are_the_same_on_every_path),
        cmocka_unit_test(rmsnorm_is_right),
        cmocka_unit_test(rope_turns_adjacent_pairs),
        cmocka_unit_test(swiglu_is_right),
        cmocka_unit_test(logsumexp_is_right),
        cmocka_unit_test(exp_errs_less_than_2_ulp),
        cmocka_unit_test(exp_is_clamped_to_normal_numbers),
        cmocka_unit_test(attention_is_the_same_on_every_path),
        cmocka_unit_test(attention_is_right),
        cmocka_unit_test(attention_is_right_far_back),
    };
    return cmocka_run_group_tests_name("kernels", tests, find_paths, NULL);
}
