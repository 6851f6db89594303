/* The trainer's row kernels, written in v16. Included by grad_generic.c, grad_avx2.c and
 * grad_avx512.c after their v16 header; KERNELS names the table. */
#include <math.h>

#include "model/kernels/grad.h"
#include "model/kernels/v16.h"

/* y_i = x_i s g_i with s = (mean(x^2) + eps)^-1/2, so ds/dx_i = -s^3 x_i / width, and
 * dx_i = s g_i dy_i - x_i s^3 / width sum_j(g_j dy_j x_j). */
static void rmsnorm(const float *dy, const float *x, const float *norm_weight, float scale,
                    int width, float *dx)
{
    v16 sum = v16_set(0.0f);
    for (int i = 0; i < width; i += 16)
        sum = v16_fma(v16_mul(v16_load(dy + i), v16_load(norm_weight + i)), v16_load(x + i), sum);
    v16 s = v16_set(scale), along = v16_set(-v16_sum(sum) * scale * scale * scale / (float)width);
    for (int i = 0; i < width; i += 16) {
        v16 d = v16_mul(v16_mul(v16_load(dy + i), v16_load(norm_weight + i)), s);
        d = v16_fma(v16_load(x + i), along, d);
        v16_store(dx + i, v16_add(v16_load(dx + i), d));
    }
}

static void norm_weight(const float *dy, const float *x, const float *scale, int rows,
                        size_t stride, int width, float *dgain)
{
    for (int r = 0; r < rows; r++, dy += stride, x += stride)
        for (int i = 0; i < width; i += 16) {
            v16 d = v16_mul(v16_load(dy + i), v16_set(scale[r]));
            v16_store(dgain + i, v16_fma(d, v16_load(x + i), v16_load(dgain + i)));
        }
}

/* silu(g) = g sig(g); its derivative is sig(g) (1 + g (1 - sig(g))). */
static void swiglu(const float *gate, const float *up, const float *dy, int width, float *dgate,
                   float *dup)
{
    v16 one = v16_set(1.0f);
    for (int i = 0; i < width; i += 16) {
        v16 g = v16_load(gate + i), u = v16_load(up + i), d = v16_load(dy + i);
        v16 s = v16_sigmoid(g);
        v16 slope = v16_mul(s, v16_fma(g, v16_sub(one, s), one));
        v16_store(dgate + i, v16_mul(v16_mul(d, u), slope));
        v16_store(dup + i, v16_mul(d, v16_mul(g, s)));
    }
}

static void rope(float *x, const float *cos, const float *sin, int n_heads, int head_dim)
{
    for (int h = 0; h < n_heads; h++, x += head_dim)
        for (int i = 0; i < head_dim; i += 16) {
            v16 v = v16_load(x + i);
            v16 rotated = v16_mul(v16_swap_pairs(v), v16_load(sin + i));
            v16_store(x + i, v16_sub(v16_mul(v, v16_load(cos + i)), rotated));
        }
}

/* exp never gives 0, so what lies past n is cleared by hand. */
static void clear_tail(float *x, int n, int width)
{
    for (int i = n; i < width; i++)
        x[i] = 0;
}

static float softmax(float *x, float scale, int n, int width)
{
    int padded = (n + 15) & ~15;
    for (int i = n; i < padded; i++)
        x[i] = -INFINITY;
    v16 highest = v16_set(-INFINITY), sum = v16_set(0.0f), k = v16_set(scale);
    for (int i = 0; i < padded; i += 16)
        highest = v16_max(v16_load(x + i), highest);
    float top = v16_largest(highest) * scale;
    for (int i = 0; i < padded; i += 16) {
        v16 e = v16_exp(v16_fma(v16_load(x + i), k, v16_set(-top)));
        v16_store(x + i, e);
        sum = v16_add(sum, e);
    }
    float total = v16_sum(sum); /* the padding adds less than 1e-36 */
    v16 inverse = v16_set(1.0f / total);
    for (int i = 0; i < padded; i += 16)
        v16_store(x + i, v16_mul(v16_load(x + i), inverse));
    clear_tail(x, n, width);
    return top + logf(total);
}

static void softmax_again(float *x, float scale, float lse, int n, int width)
{
    for (int i = 0; i < n; i += 16)
        v16_store(x + i, v16_exp(v16_fma(v16_load(x + i), v16_set(scale), v16_set(-lse))));
    clear_tail(x, n, width);
}

static void softmax_back(const float *p, float *dp, float delta, float scale, int width)
{
    for (int i = 0; i < width; i += 16) {
        v16 d = v16_sub(v16_load(dp + i), v16_set(delta));
        v16_store(dp + i, v16_mul(v16_mul(v16_load(p + i), d), v16_set(scale)));
    }
}

static float dot(const float *a, const float *b, int width)
{
    v16 sum = v16_set(0.0f);
    for (int i = 0; i < width; i += 16)
        sum = v16_fma(v16_load(a + i), v16_load(b + i), sum);
    return v16_sum(sum);
}

/* loss = lse - x[target], so dloss/dx_i = exp(x_i - lse) - [i == target]. */
static void cross_entropy(float *x, float lse, int target, float factor, int width)
{
    int padded = (width + 15) & ~15;
    for (int i = 0; i < padded; i += 16) {
        v16 p = v16_exp(v16_sub(v16_load(x + i), v16_set(lse)));
        v16_store(x + i, v16_mul(p, v16_set(factor)));
    }
    x[target] -= factor;
    clear_tail(x, width, padded);
}

static void soft_cross_entropy(float *x, float lse, const float *p, float factor, int width)
{
    int padded = (width + 15) & ~15;
    for (int i = 0; i < padded; i += 16) {
        v16 q = v16_exp(v16_sub(v16_load(x + i), v16_set(lse)));
        v16_store(x + i, v16_mul(v16_sub(q, v16_load(p + i)), v16_set(factor)));
    }
    clear_tail(x, width, padded);
}

static void add(const float *x, size_t n, float *y)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        v16_store(y + i, v16_add(v16_load(y + i), v16_load(x + i)));
    for (; i < n; i++)
        y[i] += x[i];
}

static double squares(const float *x, size_t n)
{
    v16 sum = v16_set(0.0f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        sum = v16_fma(v16_load(x + i), v16_load(x + i), sum);
    double total = v16_sum(sum);
    for (; i < n; i++)
        total += (double)x[i] * x[i];
    return total;
}

static void adamw(const struct adamw *s, size_t n, float *value, float *g, float *m, float *v)
{
    v16 b1 = v16_set(s->beta1), b2 = v16_set(s->beta2), a1 = v16_set(1 - s->beta1);
    v16 a2 = v16_set(1 - s->beta2), clip = v16_set(s->clip), keep = v16_set(1 - s->decay);
    for (size_t i = 0; i < n; i += 16) {
        v16 d = v16_mul(v16_load(g + i), clip);
        v16 mi = v16_fma(v16_load(m + i), b1, v16_mul(d, a1));
        v16 vi = v16_fma(v16_load(v + i), b2, v16_mul(v16_mul(d, d), a2));
        v16 root = v16_sqrt(v16_mul(vi, v16_set(s->correct2)));
        v16 step = v16_div(v16_mul(mi, v16_set(s->correct1)), v16_add(root, v16_set(s->eps)));
        v16 x = v16_mul(v16_load(value + i), keep);
        v16_store(value + i, v16_fma(step, v16_set(-s->rate), x));
        v16_store(m + i, mi);
        v16_store(v + i, vi);
        v16_store(g + i, v16_set(0.0f));
    }
}

const struct grad_kernels KERNELS = {
    rmsnorm,       norm_weight,        swiglu, rope,    softmax, softmax_again, softmax_back, dot,
    cross_entropy, soft_cross_entropy, add,    squares, adamw};
