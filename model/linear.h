/* A weight matrix (outputs, inputs) and its product with rows. Serving packs weights for the
 * row-invariant kernels; the trainer keeps plain floats and multiplies with linear_dense.
 * Immutable once made; any lane. */
#ifndef MODEL_LINEAR_H
#define MODEL_LINEAR_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/kernels/kernels.h"
#include "model/team.h"
#include "weights/matrix.h"

/* Outputs of one type, packed. */
struct packed {
    enum weight_type type;
    int outputs;        /* a multiple of PANEL, but for the last part */
    size_t panel_bytes; /* of the PANEL outputs of a panel */
    void *data;         /* panels (kernels.h), in the region that they were packed into */
};

#define LINEAR_PARTS 3
struct linear {
    int inputs, outputs;
    struct packed parts[LINEAR_PARTS]; /* one behind the other along the outputs */
    int n_parts;                       /* 0 for the trainer's plain matrices */
    const float *dense;                /* (outputs, inputs), borrowed, the trainer's */
    float *dense_grad;                 /* the same shape, borrowed, the trainer's */
};

/* How plain matrices are multiplied: set once by the trainer before its threads start (gemm.h),
 * never by the server. y (rows, y_stride) = x w^T + residual, for this lane's share of the rows. */
typedef void linear_dense_fn(struct lane *lane, const struct linear *linear, const float *x,
                             size_t x_stride, int rows, const float *residual, float *y,
                             size_t y_stride);
extern linear_dense_fn *linear_dense;

/* Packs n matrices of equal `inputs`, stacked along their outputs: into weights of that type, or,
 * with WEIGHT_STORED, each as it is, codes and scales unchanged. Only the last may have outputs
 * that are no multiple of PANEL. The packed weights are the region's. A team shares the work; NULL:
 * the calling thread does it. ERR_MEMORY. */
int linear_pack(struct linear *linear, int type, const struct matrix *matrices, int n,
                struct region *region, struct team *team, struct err *err);
/* Packs two matrices of one shape (F, inputs), gate and up, F a multiple of PANEL, each as a part
 * of its own: for linear_swiglu. ERR_MEMORY. */
int linear_pack_gated(struct linear *linear, int type, const struct matrix *matrices,
                      struct region *region, struct team *team, struct err *err);
/* Random weights of mean 0 and a standard deviation of 1 / sqrt(inputs), made in their packed form
 * (headway-bench), in n_parts parts of equal size. inputs: a multiple of GROUP, outputs: of PANEL
 * for each part. type: f32, bf16, q8 or q4. ERR_MEMORY. */
int linear_random(struct linear *linear, enum weight_type type, int outputs, int inputs,
                  int n_parts, uint64_t seed, struct region *region, struct err *err);

/* Bytes of the packed weights; of so many, in that type. */
size_t linear_bytes(const struct linear *linear);
size_t packed_bytes(enum weight_type type, int outputs, int inputs);

/* Floats a row of the result takes: outputs, rounded up to whole panels. */
size_t linear_stride(const struct linear *linear);

/* Working memory that packed weights of up to so many inputs need in lane->scratch: rows are
 * quantised QUANT_ROWS at a time, by every lane for itself. */
size_t linear_scratch_bytes(int inputs);

/* The beginning of what linear_forward of this lane will read, up to `most` bytes; nothing of plain
 * matrices. */
struct prefetch linear_prefetch(const struct lane *lane, const struct linear *linear, size_t most);

/* y[r] = (residual ? residual[r] : 0) + W x[r] for all rows. y and residual have y_stride floats
 * per row, at least linear_stride for packed weights. A residual may be y itself. Lanes share the
 * outputs; no barrier before or after. */
void linear_forward(struct lane *lane, const struct linear *linear, const float *x, size_t x_stride,
                    int rows, const float *residual, float *y, size_t y_stride);

/* The inner part of a feed-forward network, act[r] = silu(gate x[r]) * (up x[r]), with weights of
 * linear_pack_gated. act is in the form that `next`, the matrix of F inputs which is to read it,
 * multiplies with: codes, or floats (rows, F); it has room for linear_act_bytes(rows, F). That way
 * the products themselves, 2F floats per row, never leave the cache. Lanes share the channels; no
 * barrier before or after. */
void linear_swiglu(struct lane *lane, const struct linear *linear, const float *x, size_t x_stride,
                   int rows, const struct linear *next, void *act);
size_t linear_act_bytes(int rows, int width);

/* linear_forward for rows that linear_swiglu has written. */
void linear_forward_act(struct lane *lane, const struct linear *linear, const void *act, int rows,
                        const float *residual, float *y, size_t y_stride);

#endif
