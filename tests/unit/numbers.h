/* Random numbers and comparisons for the tests of kernels, products and gradients. */
#ifndef TESTS_UNIT_NUMBERS_H
#define TESTS_UNIT_NUMBERS_H

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/rng.h"

struct draws {
    uint64_t seed, at;
};

/* 0..n-1 */
static inline int draw_below(struct draws *d, int n)
{
    return (int)rng_below(d->seed, 0, d->at++, (uint64_t)n);
}

static inline double draw_normal(struct draws *d)
{
    double u = rng_uniform(d->seed, 1, d->at), v = rng_uniform(d->seed, 2, d->at);
    d->at++;
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

static inline void draw_normals(struct draws *d, double deviation, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(deviation * draw_normal(d));
}

/* Every size between 1e-30 and 1e15, zeros of both signs, and plain numbers: sums of products stay
 * finite, single products also become subnormal or 0. */
static inline void draw_wild(struct draws *d, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double value = draw_normal(d);
        int kind = draw_below(d, 8);
        if (kind == 0)
            value = copysign(0, value);
        else if (kind <= 2)
            value *= pow(10, draw_below(d, 45) - 30);
        x[i] = (float)value;
    }
}

static inline bool same_bits(const float *a, const float *b, size_t n)
{
    return !memcmp(a, b, n * sizeof *a);
}

/* max |ours - right| / max |right| */
static inline double relative_difference(const float *ours, const double *right, size_t n)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)ours[i] - right[i]);
        difference = d > difference || isnan(d) ? d : difference;
        size = fmax(size, fabs(right[i]));
    }
    return difference / size;
}

#endif
