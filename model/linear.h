/* A weight matrix (outputs, inputs) and its product with rows. Serving packs weights for the
 * row-invariant kernels; the trainer keeps plain floats and multiplies with linear_dense.
 * Immutable once made; any lane. */
#ifndef MODEL_LINEAR_H
#define MODEL_LINEAR_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/kernels/kernels.h"
#include "model/team.h"
#include "weights/matrix.h"

struct linear {
    int inputs, outputs;
    enum weight_type type;
    void *packed;       /* panels (kernels.h), owned; NULL for the trainer's plain matrices */
    const float *dense; /* (outputs, inputs), borrowed, the trainer's */
    float *dense_grad;  /* the same shape, borrowed, the trainer's */
};

/* How plain matrices are multiplied: set once by the trainer before its threads start (gemm.h),
 * never by the server. y (rows, y_stride) = x w^T + residual, for this lane's share of the rows. */
typedef void linear_dense_fn(struct lane *lane, const struct linear *linear, const float *x,
                             size_t x_stride, int rows, const float *residual, float *y,
                             size_t y_stride);
extern linear_dense_fn *linear_dense;

/* Packs n matrices of equal `inputs`, stacked along their outputs, into weights of any type.
 * ERR_MEMORY. */
int linear_pack(struct linear *linear, enum weight_type type, const struct matrix *matrices, int n,
                struct err *err);
/* Random weights of mean 0 and a standard deviation of 1 / sqrt(inputs), made in their packed form
 * (headway-bench). inputs: a multiple of GROUP, outputs: of PANEL. ERR_MEMORY. */
int linear_random(struct linear *linear, enum weight_type type, int outputs, int inputs,
                  uint64_t seed, struct err *err);
void linear_release(struct linear *linear);

/* Bytes of the packed weights. */
size_t linear_bytes(const struct linear *linear);

/* Floats a row of the result takes: outputs, rounded up to whole panels. */
size_t linear_stride(const struct linear *linear);

/* Working memory that linear_forward needs in lane->scratch for quantised weights of up to so many
 * inputs: rows are quantised QUANT_ROWS at a time, by every lane for itself. */
size_t linear_scratch_bytes(int inputs);

/* y[r] = (residual ? residual[r] : 0) + W x[r] for all rows. y and residual have y_stride floats
 * per row, at least linear_stride for packed weights. A residual may be y itself. Lanes share the
 * outputs; no barrier before or after. */
void linear_forward(struct lane *lane, const struct linear *linear, const float *x, size_t x_stride,
                    int rows, const float *residual, float *y, size_t y_stride);

#endif
