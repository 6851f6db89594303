/* The trainer's row kernels. Adjoints are checked in two steps: a twin of the forward kernel in
 * double precision must give the kernel's own result, and the adjoint must be the twin's gradient,
 * taken by central differences. In double precision these err by less than 1e-8, so that what
 * remains are the kernels' own roundings: a few times 6e-8 of the largest element. */
#include "tests/unit/numbers.h"
#include "tests/unit/paths.h"
#include "tests/unit/unit.h"

#define WIDTH_MOST 128
#define TOLERANCE 2e-6

static const struct path *best(void)
{
    return &paths[n_paths - 1];
}

static int draw_width(struct draws *d)
{
    return 16 * (1 + draw_below(d, WIDTH_MOST / 16));
}

static void widen(const float *x, int n, double *y)
{
    for (int i = 0; i < n; i++)
        y[i] = x[i];
}

typedef double objective_fn(const double *x, const void *arg);

/* Adds the gradient of f at x to d. */
static void add_differences(objective_fn *f, const void *arg, double *x, int n, double *d)
{
    for (int i = 0; i < n; i++) {
        double at = x[i], h = 1e-5 * fmax(1, fabs(at));
        x[i] = at + h;
        double above = f(x, arg);
        x[i] = at - h;
        d[i] += (above - f(x, arg)) / (2 * h);
        x[i] = at;
    }
}

/* What one kernel reads; a twin takes its variables from x and the rest from here. */
struct in {
    int width;
    float x[WIDTH_MOST], up[WIDTH_MOST], norm_weight[WIDTH_MOST], dy[WIDTH_MOST];
    float cos[WIDTH_MOST], sin[WIDTH_MOST];
    float scale;
    int n, target, heads; /* softmax: keys seen; loss: target */
};

static void in_draw(struct in *in, struct draws *d)
{
    in->width = draw_width(d);
    float *const fields[] = {in->x, in->up, in->norm_weight, in->dy, in->cos, in->sin};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        draw_normals(d, 1.5, fields[i], WIDTH_MOST);
    in->scale = (float)(0.2 + fabs(draw_normal(d)));
    in->n = 1 + draw_below(d, in->width);
    in->target = draw_below(d, in->n);
}

/* ---- rmsnorm ---- */

#define EPS 1e-3f

static double rmsnorm_scale(const double *x, int width)
{
    double squares = 0;
    for (int i = 0; i < width; i++)
        squares += x[i] * x[i];
    return 1 / sqrt(squares / width + EPS);
}

static double rmsnorm_twin(const double *x, const void *arg)
{
    const struct in *in = arg;
    double sum = 0, scale = rmsnorm_scale(x, in->width);
    for (int i = 0; i < in->width; i++)
        sum += in->dy[i] * x[i] * scale * in->norm_weight[i];
    return sum;
}

static void rmsnorm_gives_its_gradient(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct draws d = {seed, 0};
        struct in in;
        float y[WIDTH_MOST], dx[WIDTH_MOST];
        double x[WIDTH_MOST], right[WIDTH_MOST];
        in_draw(&in, &d);
        draw_normals(&d, 1, dx, WIDTH_MOST); /* the kernel adds to it */
        widen(in.x, in.width, x);
        widen(dx, in.width, right);
        float scale = best()->k.rmsnorm(in.x, in.norm_weight, in.width, EPS, y);
        assert_true(fabs(scale / rmsnorm_scale(x, in.width) - 1) < TOLERANCE);
        add_differences(rmsnorm_twin, &in, x, in.width, right);
        best()->g.rmsnorm(in.dy, in.x, in.norm_weight, scale, in.width, dx);
        assert_true(relative_difference(dx, right, (size_t)in.width) < TOLERANCE);
    }
}

/* ---- norm_weight ---- */

#define ROWS_MOST 20

struct rows {
    int rows, width;
    size_t stride;
    float x[ROWS_MOST * WIDTH_MOST], dy[ROWS_MOST * WIDTH_MOST], scale[ROWS_MOST];
};

static double gain_twin(const double *norm_weight, const void *arg)
{
    const struct rows *in = arg;
    double sum = 0;
    for (int r = 0; r < in->rows; r++)
        for (int i = 0; i < in->width; i++) {
            size_t at = (size_t)r * in->stride + (size_t)i;
            sum += (double)in->dy[at] * in->x[at] * in->scale[r] * norm_weight[i];
        }
    return sum;
}

static void gain_gives_its_gradient(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct draws d = {seed, 0};
        struct rows in;
        double norm_weight[WIDTH_MOST], right[WIDTH_MOST];
        float dgain[WIDTH_MOST];
        in.width = draw_width(&d);
        in.rows = 1 + draw_below(&d, ROWS_MOST);
        in.stride = (size_t)(in.width + draw_below(&d, WIDTH_MOST - in.width + 1));
        draw_normals(&d, 1, in.x, ROWS_MOST * WIDTH_MOST);
        draw_normals(&d, 1, in.dy, ROWS_MOST * WIDTH_MOST);
        draw_normals(&d, 1, in.scale, ROWS_MOST);
        draw_normals(&d, 1, dgain, WIDTH_MOST);
        widen(dgain, in.width, right);
        memset(norm_weight, 0, sizeof norm_weight);
        add_differences(gain_twin, &in, norm_weight, in.width, right);
        best()->g.norm_weight(in.dy, in.x, in.scale, in.rows, in.stride, in.width, dgain);
        assert_true(relative_difference(dgain, right, (size_t)in.width) < TOLERANCE);
    }
}

/* ---- swiglu: x holds the gates, then the others ---- */

static double swiglu_twin(const double *x, const void *arg)
{
    const struct in *in = arg;
    double sum = 0;
    for (int i = 0; i < in->width; i++)
        sum += in->dy[i] * x[i] / (1 + exp(-x[i])) * x[in->width + i];
    return sum;
}

static void swiglu_gives_its_gradients(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct draws d = {seed, 0};
        struct in in;
        double x[2 * WIDTH_MOST], right[2 * WIDTH_MOST] = {0};
        float y[WIDTH_MOST], dgate[WIDTH_MOST], dup[WIDTH_MOST];
        in_draw(&in, &d);
        for (int i = 0; i < in.width; i++)
            in.x[i] *= seed % 2 ? 1 : 5;
        widen(in.x, in.width, x);
        widen(in.up, in.width, x + in.width);
        add_differences(swiglu_twin, &in, x, 2 * in.width, right);
        best()->k.swiglu(in.x, in.up, in.width, y);
        double sum = 0, size = 0;
        for (int i = 0; i < in.width; i++) {
            sum += (double)in.dy[i] * y[i];
            size += fabs((double)in.dy[i] * y[i]);
        }
        assert_true(fabs(sum - swiglu_twin(x, &in)) < TOLERANCE * size);
        best()->g.swiglu(in.x, in.up, in.dy, in.width, dgate, dup);
        assert_true(relative_difference(dgate, right, (size_t)in.width) < TOLERANCE);
        assert_true(relative_difference(dup, right + in.width, (size_t)in.width) < TOLERANCE);
    }
}

/* ---- rope ---- */

static double rope_twin(const double *x, const void *arg)
{
    const struct in *in = arg;
    double sum = 0;
    for (int i = 0; i < in->width; i += 2) {
        double c = in->cos[i % (in->width / in->heads)];
        double s = in->sin[i % (in->width / in->heads) + 1];
        sum += in->dy[i] * (x[i] * c - x[i + 1] * s) + in->dy[i + 1] * (x[i] * s + x[i + 1] * c);
    }
    return sum;
}

static void rope_gives_its_gradient(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct draws d = {seed, 0};
        struct in in;
        double x[WIDTH_MOST], right[WIDTH_MOST] = {0};
        in_draw(&in, &d);
        in.heads = in.width % 32 ? 1 : 2;
        for (int i = 0; i < in.width; i += 2) {
            double angle = 3 * draw_normal(&d);
            in.cos[i] = in.cos[i + 1] = (float)cos(angle);
            in.sin[i + 1] = (float)sin(angle);
            in.sin[i] = -in.sin[i + 1];
        }
        widen(in.x, in.width, x);
        add_differences(rope_twin, &in, x, in.width, right);
        double twin = rope_twin(x, &in), sum = 0, size = 0;
        best()->k.rope(in.x, in.cos, in.sin, in.heads, in.width / in.heads);
        for (int i = 0; i < in.width; i++) {
            sum += (double)in.dy[i] * in.x[i];
            size += fabs((double)in.dy[i] * in.x[i]);
        }
        assert_true(fabs(sum - twin) < TOLERANCE * size);
        best()->g.rope(in.dy, in.cos, in.sin, in.heads, in.width / in.heads);
        assert_true(relative_difference(in.dy, right, (size_t)in.width) < TOLERANCE);
    }
}

/* ---- softmax of n keys in a row of `width` ---- */

static double softmax_sum(const double *x, const struct in *in)
{
    double sum = 0;
    for (int i = 0; i < in->n; i++)
        sum += exp(in->scale * x[i]);
    return sum;
}

static double softmax_twin(const double *x, const void *arg)
{
    const struct in *in = arg;
    double sum = 0;
    for (int i = 0; i < in->n; i++)
        sum += in->dy[i] * exp(in->scale * x[i]);
    return sum / softmax_sum(x, in);
}

static void softmax_is_right_both_times(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct draws d = {seed, 0};
        struct in in;
        double x[WIDTH_MOST], right[WIDTH_MOST] = {0};
        float once[WIDTH_MOST], again[WIDTH_MOST];
        in_draw(&in, &d);
        for (int i = in.n; i < in.width; i++)
            in.x[i] = NAN; /* left by another row */
        widen(in.x, in.width, x);
        for (int i = 0; i < in.n; i++)
            right[i] = exp(in.scale * x[i]) / softmax_sum(x, &in);
        memcpy(once, in.x, sizeof once);
        memcpy(again, in.x, sizeof again);
        float lse = best()->g.softmax(once, in.scale, in.n, in.width);
        best()->g.softmax_again(again, in.scale, lse, in.n, in.width);
        assert_true(fabs(lse - log(softmax_sum(x, &in))) < TOLERANCE);
        assert_true(relative_difference(once, right, (size_t)in.width) < TOLERANCE);
        assert_true(relative_difference(again, right, (size_t)in.width) < TOLERANCE);
        for (int i = in.n; i < in.width; i++)
            assert_true(once[i] == 0 && again[i] == 0);
    }
}

static void softmax_back_gives_the_gradient(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct draws d = {seed, 0};
        struct in in;
        double x[WIDTH_MOST], right[WIDTH_MOST] = {0};
        float p[WIDTH_MOST];
        in_draw(&in, &d);
        widen(in.x, in.width, x);
        add_differences(softmax_twin, &in, x, in.n, right);
        memcpy(p, in.x, sizeof p);
        best()->g.softmax(p, in.scale, in.n, in.width);
        float delta = best()->g.dot(p, in.dy, in.width);
        best()->g.softmax_back(p, in.dy, delta, in.scale, in.width);
        /* One key has no gradient: the difference of equal numbers. */
        double size = in.n > 1 ? 0 : in.scale;
        for (int i = 0; i < in.n; i++)
            size = fmax(size, fabs(right[i]));
        for (int i = 0; i < in.width; i++)
            assert_true(fabs(in.dy[i] - right[i]) < 2 * TOLERANCE * fmax(size, 0.1));
    }
}

/* ---- cross entropy over n of `width` ---- */

#define FACTOR 0.25f

static double loss_twin(const double *x, const void *arg)
{
    const struct in *in = arg;
    double sum = 0;
    for (int i = 0; i < in->n; i++)
        sum += exp(x[i]);
    return FACTOR * (log(sum) - x[in->target]);
}

static void cross_entropy_gives_the_gradient(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct draws d = {seed, 0};
        struct in in;
        double x[WIDTH_MOST], right[WIDTH_MOST] = {0};
        in_draw(&in, &d);
        in.n = in.n > 1 ? in.n : 2; /* with one there is nothing to learn */
        int padded = (in.n + 15) / 16 * 16;
        widen(in.x, in.n, x);
        add_differences(loss_twin, &in, x, in.n, right);
        float lse = best()->k.logsumexp(in.x, in.n), behind = in.x[padded % WIDTH_MOST];
        assert_true(fabs(FACTOR * (lse - in.x[in.target]) - loss_twin(x, &in)) < TOLERANCE);
        best()->g.cross_entropy(in.x, lse, in.target, FACTOR, in.n);
        for (int i = 0; i < padded; i++) /* an element may be near 1 - 1: measured by FACTOR */
            assert_true(fabs(in.x[i] - right[i]) < TOLERANCE * FACTOR);
        for (int i = in.n; i < padded; i++)
            assert_true(in.x[i] == 0);
        assert_true(padded == WIDTH_MOST || in.x[padded] == behind);
    }
}

/* With soft targets that are certain it is the hard one; with others it is linear in them. */
static void soft_cross_entropy_gives_the_gradient(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct draws d = {seed, 0};
        struct in in;
        float p[WIDTH_MOST] = {0}, hard[2][WIDTH_MOST], soft[WIDTH_MOST];
        in_draw(&in, &d);
        int padded = (in.n + 15) / 16 * 16, other = draw_below(&d, in.n);
        float lse = best()->k.logsumexp(in.x, in.n);
        p[in.target] = 0.75f;
        p[other] += 0.25f;
        memcpy(hard[0], in.x, sizeof in.x);
        memcpy(hard[1], in.x, sizeof in.x);
        memcpy(soft, in.x, sizeof in.x);
        best()->g.cross_entropy(hard[0], lse, in.target, FACTOR, in.n);
        best()->g.cross_entropy(hard[1], lse, other, FACTOR, in.n);
        best()->g.soft_cross_entropy(soft, lse, p, FACTOR, in.n);
        for (int i = 0; i < padded; i++)
            assert_true(fabsf(soft[i] - (0.75f * hard[0][i] + 0.25f * hard[1][i])) < 1e-6f);
        for (int i = in.n; i < padded; i++)
            assert_true(soft[i] == 0);
        assert_true(padded == WIDTH_MOST || soft[padded] == in.x[padded]);
    }
}

/* ---- sums ---- */

static void sums_are_right(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct draws d = {seed, 0};
        struct in in;
        in_draw(&in, &d);
        int any = draw_below(&d, WIDTH_MOST + 1); /* add and squares take any width, even 0 */
        double dot = 0, size = 0, squares = 0, right[WIDTH_MOST];
        for (int i = 0; i < in.width; i++) {
            dot += (double)in.x[i] * in.dy[i];
            size += fabs((double)in.x[i] * in.dy[i]);
        }
        for (int i = 0; i < any; i++)
            squares += (double)in.x[i] * in.x[i];
        for (int i = 0; i < WIDTH_MOST; i++)
            right[i] = (double)in.up[i] + (i < any ? in.x[i] : 0);
        assert_true(fabs(best()->g.dot(in.x, in.dy, in.width) - dot) < 5e-7 * size);
        assert_true(fabs(best()->g.squares(in.x, (size_t)any) - squares) <= 5e-7 * squares);
        best()->g.add(in.x, (size_t)any, in.up);
        assert_true(relative_difference(in.up, right, WIDTH_MOST) < 1e-7);
    }
}

/* A whole piece of the gradient, as the trainer sums it. */
static void squares_of_many_are_right(void **state)
{
    (void)state;
    enum { MANY = 65536 };
    struct draws d = {1, 0};
    double right = 0;
    float *x = malloc(MANY * sizeof *x);
    assert_non_null(x);
    draw_normals(&d, 1e-3, x, MANY);
    for (int i = 0; i < MANY; i++)
        right += (double)x[i] * x[i];
    double squares = best()->g.squares(x, MANY);
    free(x);
    assert_true(fabs(squares / right - 1) < 1e-5);
}

/* ---- AdamW (Loshchilov, Hutter 2019, algorithm 2), ten steps in double precision ---- */

struct adam {
    double value, m, v;
};

static void adam_step(struct adam *a, double g, int step, double rate, double decay)
{
    double beta1 = 0.9f, beta2 = 0.95f;
    a->m = beta1 * a->m + (1 - beta1) * g;
    a->v = beta2 * a->v + (1 - beta2) * g * g;
    double m = a->m / (1 - pow(beta1, step)), v = a->v / (1 - pow(beta2, step));
    a->value -= rate * (m / (sqrt(v) + 1e-8f) + decay * a->value);
}

static void adamw_is_right(void **state)
{
    (void)state;
    enum { N = 64 };
    const double rate = 0.01, decay = 0.1, clip = 0.3;
    struct draws d = {1, 0};
    float value[N], g[N], m[N] = {0}, v[N] = {0};
    double right[N], moment[N], second[N];
    struct adam twin[N];
    draw_normals(&d, 1, value, N);
    for (int i = 0; i < N; i++)
        twin[i] = (struct adam){value[i], 0, 0};
    for (int step = 1; step <= 10; step++) {
        struct adamw s = {.rate = (float)rate,
                          .beta1 = 0.9f,
                          .beta2 = 0.95f,
                          .eps = 1e-8f,
                          .decay = (float)(decay * rate),
                          .correct1 = (float)(1 / (1 - pow(0.9f, step))),
                          .correct2 = (float)(1 / (1 - pow(0.95f, step))),
                          .clip = (float)clip};
        draw_normals(&d, step, g, N);
        for (int i = 0; i < N; i++) {
            g[i] = i % 7 ? g[i] : 0;
            adam_step(&twin[i], clip * g[i], step, rate, decay);
            right[i] = twin[i].value;
            moment[i] = twin[i].m;
            second[i] = twin[i].v;
        }
        best()->g.adamw(&s, N, value, g, m, v);
        /* 1 - beta is a difference in float: 1e-6 of itself. */
        assert_true(relative_difference(value, right, N) < TOLERANCE);
        assert_true(relative_difference(m, moment, N) < TOLERANCE);
        assert_true(relative_difference(v, second, N) < TOLERANCE);
        for (int i = 0; i < N; i++)
            assert_true(g[i] == 0);
    }
}

/* ---- the same bits on every path ---- */

struct out {
    float values[4 * WIDTH_MOST];
    double number;
};

static void out_start(struct out *out, const struct in *in)
{
    memset(out, 0, sizeof *out);
    memcpy(out->values, in->x, sizeof in->x);
    memcpy(out->values + WIDTH_MOST, in->up, sizeof in->up);
    memcpy(out->values + 2 * WIDTH_MOST, in->norm_weight, sizeof in->norm_weight);
    memcpy(out->values + 3 * WIDTH_MOST, in->dy, sizeof in->dy);
}

typedef void kernel_fn(const struct grad_kernels *g, const struct in *in, struct out *out);

static void run_rmsnorm(const struct grad_kernels *g, const struct in *in, struct out *out)
{
    g->rmsnorm(in->dy, in->x, in->norm_weight, in->scale, in->width, out->values);
}

static void run_gain(const struct grad_kernels *g, const struct in *in, struct out *out)
{
    g->norm_weight(in->dy, in->x, in->norm_weight, 3, 16, 16, out->values);
}

static void run_swiglu(const struct grad_kernels *g, const struct in *in, struct out *out)
{
    g->swiglu(in->x, in->up, in->dy, in->width, out->values, out->values + WIDTH_MOST);
}

static void run_rope(const struct grad_kernels *g, const struct in *in, struct out *out)
{
    g->rope(out->values, in->cos, in->sin, 1, in->width);
}

static void run_softmax(const struct grad_kernels *g, const struct in *in, struct out *out)
{
    float *again = out->values + WIDTH_MOST, lse;
    out->number = lse = g->softmax(out->values, in->scale, in->n, in->width);
    g->softmax_again(again, in->scale, lse, in->n, in->width);
    g->softmax_back(again, out->values + 2 * WIDTH_MOST, in->scale, in->scale, in->width);
}

static void run_sums(const struct grad_kernels *g, const struct in *in, struct out *out)
{
    out->number = g->dot(in->x, in->dy, in->width) + g->squares(in->x, (size_t)in->n);
    g->add(in->x, (size_t)in->n, out->values);
}

static void run_cross_entropy(const struct grad_kernels *g, const struct in *in, struct out *out)
{
    g->cross_entropy(out->values, in->scale, in->target, in->scale, in->n);
}

static void run_soft_cross_entropy(const struct grad_kernels *g, const struct in *in,
                                   struct out *out)
{
    g->soft_cross_entropy(out->values, in->scale, in->up, in->scale, in->n);
}

static void run_adamw(const struct grad_kernels *g, const struct in *in, struct out *out)
{
    struct adamw s = {0.01f, 0.9f, 0.95f, 1e-8f, 0.001f, 1.3f, 1.7f, in->scale};
    float *v = out->values + 3 * WIDTH_MOST;
    for (int i = 0; i < in->width; i++)
        v[i] = fabsf(v[i]);
    g->adamw(&s, (size_t)in->width, out->values, out->values + WIDTH_MOST,
             out->values + 2 * WIDTH_MOST, v);
}

static void every_path_gives_the_same_bits(void **state)
{
    (void)state;
    static kernel_fn *const runs[] = {
        run_rmsnorm, run_gain, run_swiglu,        run_rope,
        run_softmax, run_sums, run_cross_entropy, run_soft_cross_entropy,
        run_adamw};
    for (uint64_t seed = 1; seed <= 500; seed++) {
        struct draws d = {seed, 0};
        struct in in;
        in_draw(&in, &d);
        if (seed % 2) {
            draw_wild(&d, in.x, WIDTH_MOST);
            draw_wild(&d, in.up, WIDTH_MOST);
            draw_wild(&d, in.dy, WIDTH_MOST);
        }
        for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
            struct out right, out;
            out_start(&right, &in);
            runs[k](&paths[0].g, &in, &right);
            for (int path = 1; path < n_paths; path++) {
                out_start(&out, &in);
                runs[k](&paths[path].g, &in, &out);
                assert_memory_equal(&right, &out, sizeof out);
            }
        }
    }
}

/* Slow gradients give the same bits, so nothing else would show them. */
static void every_path_has_gradients_of_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < n_paths; i++)
        assert_int_equal(paths[i].g.softmax == grad_generic.softmax, i == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rmsnorm_gives_its_gradient),
        cmocka_unit_test(gain_gives_its_gradient),
        cmocka_unit_test(every_path_has_gradients_of_its_own),
        cmocka_unit_test(swiglu_gives_its_gradients),
        cmocka_unit_test(rope_gives_its_gradient),
        cmocka_unit_test(softmax_is_right_both_times),
        cmocka_unit_test(softmax_back_gives_the_gradient),
        cmocka_unit_test(cross_entropy_gives_the_gradient),
        cmocka_unit_test(soft_cross_entropy_gives_the_gradient),
        cmocka_unit_test(sums_are_right),
        cmocka_unit_test(squares_of_many_are_right),
        cmocka_unit_test(adamw_is_right),
        cmocka_unit_test(every_path_gives_the_same_bits),
    };
    return cmocka_run_group_tests_name("kernels_grad", tests, find_paths, NULL);
}
