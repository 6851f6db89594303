/* Row-wise kernels of the trainer: adjoints of those in kernels.h, the loss, the softmax of whole
 * sequences, the optimiser. Written in v16 like them, the same bits on every path. Not linked into
 * the server. Widths are multiples of 16 unless a comment says otherwise. */
#ifndef MODEL_KERNELS_GRAD_H
#define MODEL_KERNELS_GRAD_H

#include <stddef.h>

#include "model/kernels/kernels.h"

struct adamw {
    float rate, beta1, beta2, eps, decay; /* decay already multiplied by rate */
    float correct1, correct2;             /* 1 / (1 - beta^step) */
    float clip;                           /* factor on the gradient */
};

struct grad_kernels {
    /* y = x scale norm_weight, scale = 1/rms(x): adds its gradient to dx. */
    void (*rmsnorm)(const float *dy, const float *x, const float *norm_weight, float scale,
                    int width, float *dx);
    /* dgain += sum over rows of dy x scale, for `width` columns of matrices with `stride`. */
    void (*norm_weight)(const float *dy, const float *x, const float *scale, int rows,
                        size_t stride, int width, float *dgain);
    /* dgate, dup from dy of y = silu(gate) up */
    void (*swiglu)(const float *gate, const float *up, const float *dy, int width, float *dgate,
                   float *dup);
    /* Turns a gradient back: the inverse rotation of kernels.rope. */
    rope_kernel *rope;
    /* Scores of n keys become probabilities in place, softmax(scale x), zeros up to width.
     * Returns log(sum(exp(scale x))). n is any number up to width. */
    float (*softmax)(float *x, float scale, int n, int width);
    /* The same from the known log of the sum, without a search for the largest. */
    void (*softmax_again)(float *x, float scale, float lse, int n, int width);
    /* ds = p (dp - delta) scale, into dp */
    void (*softmax_back)(const float *p, float *dp, float delta, float scale, int width);
    float (*dot)(const float *a, const float *b, int width);
    /* Logits become factor (softmax(x) - onehot(target)) in place, given log(sum(exp(x))); any
     * width, but there must be room up to a multiple of 16, which is filled with zeros. */
    void (*cross_entropy)(float *x, float lse, int target, float factor, int width);
    /* factor (softmax(x) - p), of probabilities p that stand up to a multiple of 16 too. */
    void (*soft_cross_entropy)(float *x, float lse, const float *p, float factor, int width);
    void (*add)(const float *x, size_t n, float *y); /* y += x, any n */
    double (*squares)(const float *x, size_t n);     /* sum of squares */
    /* One step on n parameters: g is cleared for the next. */
    void (*adamw)(const struct adamw *step, size_t n, float *value, float *g, float *m, float *v);
};

extern struct grad_kernels grad_kernels;
extern const struct grad_kernels grad_generic, grad_avx2, grad_avx512;

/* The same path as the table of kernels.h, which must be chosen before. */
void grad_kernels_init(void);

#endif
