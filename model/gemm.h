/* Matrix products for the trainer: in f32 by a library, or with inputs rounded to bf16 and sums in
 * f32 on the processor's matrix unit (AMX) or its vectors (AVX512_BF16). Each give the same bits
 * for the same shapes whatever the number of lanes, because lanes split outputs, each product runs
 * on one lane, and the shapes that the library sees do not depend on the lanes. Not linked into the
 * server. */
#ifndef MODEL_GEMM_H
#define MODEL_GEMM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "model/linear.h"
#include "model/team.h"

enum gemm_precision { GEMM_F32, GEMM_BF16 };

/* Chooses the products of this process, also behind linear_forward; call it before the team runs.
 * name: "f32", "bf16" (ERR_INVALID when the processor multiplies none), or "auto". */
int gemm_init(const char *name, struct err *err);
enum gemm_precision gemm_precision(void);

/* C (m, n) = op(A) op(B) + (accumulate ? C : 0), on the calling lane alone. op(A) is (m, k): A
 * itself or, with ta, the transpose of A (k, m); likewise op(B) is (k, n), B (n, k) with tb.
 * Row-major, ld* floats between rows. */
void gemm(struct lane *lane, bool ta, bool tb, int m, int n, int k, const float *a, size_t lda,
          const float *b, size_t ldb, bool accumulate, float *c, size_t ldc);

/* Gradients of y = x W^T. In the forward pass a lane had its share of the rows; so it has for dx,
 * and a share of W's rows for dW, which needs every row of dy: put a barrier between whoever wrote
 * dy and these. dx (rows, inputs) = dy W, added to dx when accumulate; dW += dy^T x. */
void linear_backward_input(struct lane *lane, const struct linear *linear, const float *dy,
                           size_t dy_stride, int rows, bool accumulate, float *dx,
                           size_t dx_stride);
void linear_backward_weight(struct lane *lane, const struct linear *linear, const float *x,
                            size_t x_stride, const float *dy, size_t dy_stride, int rows);

/* What multiplies bf16, in gemm_bf16.c. */
enum gemm_unit { GEMM_VECTORS, GEMM_TILES };
bool gemm_bf16_available(enum gemm_unit unit);
void gemm_bf16(struct lane *lane, enum gemm_unit unit, bool ta, bool tb, int m, int n, int k,
               const float *a, size_t lda, const float *b, size_t ldb, bool accumulate, float *c,
               size_t ldc);

#endif
