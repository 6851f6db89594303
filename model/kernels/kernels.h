/* The kernel table: the innermost loops of the model, in generic C, AVX2 and AVX-512, chosen once
 * at start. All three give the same bits (v16.h). Every kernel here is row-invariant: a row's
 * result depends on that row, the weights and the row's own cache alone.
 *
 * Packed weights: 16 output channels share a vector. Panel p holds channels 16p..16p+15 for every
 * input k. In f32, element (o, k) stands at [(o / 16) * K + k] * 16 + o % 16; in bf16 two inputs
 * stand side by side, so that one load widens into two vectors: element (o, k) at
 * [((o / 16) * K/2 + k / 2) * 16 + o % 16] * 2 + k % 2. Channels past the last are 0. K is even.
 *
 * The table is written once by kernels_init before threads start and only read afterwards. */
#ifndef MODEL_KERNELS_KERNELS_H
#define MODEL_KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PANEL 16 /* output channels per panel */

enum weight_type { WEIGHT_F32, WEIGHT_BF16, WEIGHT_TYPES }; /* q8 and q4 take their place here */

/* Products of `rows` rows with panels first..last-1:
 *   y[r][o] = (residual ? residual[r][o] : 0) + sum over k of x[r][k] w[o][k]
 * The sum runs from k = 0 upwards in one accumulator per output, each step one fma; the residual is
 * added last. x (rows, K) with x_stride floats between rows; y and residual likewise with y_stride.
 * Writes whole panels: y must have room for them. */
typedef void linear_kernel(const float *x, size_t x_stride, int rows, int inputs, const void *w,
                           int first, int last, const float *residual, float *y, size_t y_stride);

struct kernels {
    const char *name; /* "generic", "avx2", "avx512" */
    linear_kernel *linear[WEIGHT_TYPES];

    /* y = x / rms(x) * gain; returns 1 / rms(x). width is a multiple of 16. */
    float (*rmsnorm)(const float *x, const float *gain, int width, float eps, float *y);

    /* Rotates adjacent pairs of n_heads heads in place. cos: each cosine twice, sin: (-s, +s), both
     * head_dim long, for the row's position. head_dim is a multiple of 16. */
    void (*rope)(float *x, const float *cos, const float *sin, int n_heads, int head_dim);

    /* y = silu(gate) * up; width is a multiple of 16. */
    void (*swiglu)(const float *gate, const float *up, int width, float *y);

    /* n_queries query heads that share one key/value head, over the n cached positions 0..n-1, in
     * chunks of ATTENTION_CHUNK from position 0 with a running maximum. q, out: (n_queries,
     * head_dim). k: blocks of 16 positions, element (pos, d) at
     * [(pos / 16) * head_dim + d] * 16 + pos % 16. v: (pos, head_dim). */
    void (*attention)(const float *q, int n_queries, const float *k, const float *v, int n,
                      int head_dim, float scale, float *out);

    /* log(sum(exp(x))) over width values, any width. */
    float (*logsumexp)(const float *x, int width);
};

#define ATTENTION_CHUNK 64

extern struct kernels kernels;
extern const struct kernels kernels_generic, kernels_avx2, kernels_avx512;

/* Fills the table. isa: "auto" (or NULL) for the best that this processor has, or one by name.
 * ERR_INVALID when the name is unknown or the processor can't. */
int kernels_init(const char *isa, struct err *err);

#endif
