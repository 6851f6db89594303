/* The trainer's matrix products: which library, and how lanes share them. */
#include "model/gemm.h"

#include <limits.h>
#include <string.h>

/* oneDNN is a fifth to a half faster than OpenBLAS on AVX-512; Debian has it for amd64 alone. */
#if defined(__x86_64__)
#include <oneapi/dnnl/dnnl.h>
void omp_set_num_threads(int n); /* of the calling thread; clang comes without omp.h */
#else
#include <cblas.h>
#endif

static enum gemm_precision precision;
static enum gemm_unit unit; /* of bf16 */

/* How many rows, or rows of a weight's gradient, the library multiplies at a time. Its sums depend
 * on the shape of a product and on where an element stands in it, so both are fixed here and do not
 * follow from how lanes share the work. Sums of bf16 depend on the element alone. */
#define PIECE_ROWS 64
#define PIECE_WEIGHTS 96

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* The rows first..first+m-1 of y = x op(W), of which this lane has from..to-1: a product of m rows
 * in which the others are zeros, for they may not be ready. */
static void shared_piece(struct lane *lane, bool tb, int first, int m, int from, int to, int n,
                         int k, const float *x, size_t x_stride, const struct linear *l,
                         bool accumulate, float *y, size_t y_stride)
{
    size_t in = (size_t)k, out = (size_t)n, floats = (size_t)m * (in + out);
    float *px = lane_scratch(lane, floats * sizeof(float)), *py = px + (size_t)m * in;
    memset(px, 0, floats * sizeof(float));
    for (int r = from; r < to; r++) {
        memcpy(px + (size_t)(r - first) * in, x + (size_t)r * x_stride, in * sizeof(float));
        if (accumulate)
            memcpy(py + (size_t)(r - first) * out, y + (size_t)r * y_stride, out * sizeof(float));
    }
    gemm(lane, false, tb, m, n, k, px, in, l->dense, (size_t)l->inputs, accumulate, py, out);
    for (int r = from; r < to; r++)
        memcpy(y + (size_t)r * y_stride, py + (size_t)(r - first) * out, out * sizeof(float));
}

/* y (rows, n) = x (rows, k) op(W) for this lane's share of the rows. */
static void row_products(struct lane *lane, bool tb, int rows, int n, int k, const float *x,
                         size_t x_stride, const struct linear *l, bool accumulate, float *y,
                         size_t y_stride)
{
    int begin, end;
    lane_share(lane, rows, 1, &begin, &end);
    int piece = precision == GEMM_F32 ? PIECE_ROWS : rows;
    for (int from = begin, to; from < end; from = to) {
        int first = from / piece * piece, m = least(piece, rows - first);
        to = least(first + m, end);
        if (precision == GEMM_F32 && to - from < m)
            shared_piece(lane, tb, first, m, from, to, n, k, x, x_stride, l, accumulate, y,
                         y_stride);
        else
            gemm(lane, false, tb, to - from, n, k, x + (size_t)from * x_stride, x_stride, l->dense,
                 (size_t)l->inputs, accumulate, y + (size_t)from * y_stride, y_stride);
    }
}

static void dense_forward(struct lane *lane, const struct linear *l, const float *x,
                          size_t x_stride, int rows, const float *residual, float *y,
                          size_t y_stride)
{
    int begin, end;
    lane_share(lane, rows, 1, &begin, &end);
    for (int r = begin; residual && residual != y && r < end; r++)
        memcpy(y + (size_t)r * y_stride, residual + (size_t)r * y_stride,
               (size_t)l->outputs * sizeof(float));
    row_products(lane, true, rows, l->outputs, l->inputs, x, x_stride, l, residual != NULL, y,
                 y_stride);
}

/* The lanes are the threads: the library shall have none of its own. */
static void sgemm(bool ta, bool tb, int m, int n, int k, const float *a, size_t lda, const float *b,
                  size_t ldb, float beta, float *c, size_t ldc)
{
#if defined(__x86_64__)
    omp_set_num_threads(1);
    dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, 1.0f, a, (dnnl_dim_t)lda, b,
               (dnnl_dim_t)ldb, beta, c, (dnnl_dim_t)ldc);
#else
    openblas_set_num_threads(1);
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n,
                k, 1.0f, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
#endif
}

int gemm_init(const char *name, struct err *err)
{
    bool automatic = !strcmp(name, "auto"), bf16 = !strcmp(name, "bf16");
    if (!automatic && !bf16 && strcmp(name, "f32"))
        return err_set(err, ERR_INVALID, "'%s' is no precision: use auto, f32 or bf16", name);
    bool has = gemm_bf16_available(GEMM_VECTORS);
    if (bf16 && !has)
        return err_set(err, ERR_INVALID,
                       "this processor multiplies no bf16 (AVX512_BF16, AMX): use --precision f32");
    precision = has && (bf16 || automatic) ? GEMM_BF16 : GEMM_F32;
    unit = gemm_bf16_available(GEMM_TILES) ? GEMM_TILES : GEMM_VECTORS;
    linear_dense = dense_forward;
    return 0;
}

enum gemm_precision gemm_precision(void)
{
    return precision;
}

void gemm(struct lane *lane, bool ta, bool tb, int m, int n, int k, const float *a, size_t lda,
          const float *b, size_t ldb, bool accumulate, float *c, size_t ldc)
{
    if (m == 0 || n == 0)
        return;
    if (precision == GEMM_BF16) {
        gemm_bf16(lane, unit, ta, tb, m, n, k, a, lda, b, ldb, accumulate, c, ldc);
        return;
    }
    sgemm(ta, tb, m, n, k, a, lda, b, ldb, accumulate ? 1.0f : 0.0f, c, ldc);
}

void linear_backward_input(struct lane *lane, const struct linear *l, const float *dy,
                           size_t dy_stride, int rows, bool accumulate, float *dx, size_t dx_stride)
{
    row_products(lane, false, rows, l->inputs, l->outputs, dy, dy_stride, l, accumulate, dx,
                 dx_stride);
}

void linear_backward_weight(struct lane *lane, const struct linear *l, const float *x,
                            size_t x_stride, const float *dy, size_t dy_stride, int rows)
{
    int begin, end, n;
    float *dw = l->dense_grad;
    size_t inputs = (size_t)l->inputs;
    /* Every product packs the whole of the operand that is not split: split the wider one. */
    bool by_outputs = l->outputs >= l->inputs;
    int piece = precision == GEMM_F32 ? PIECE_WEIGHTS : INT_MAX;
    lane_share(lane, by_outputs ? l->outputs : l->inputs,
               precision == GEMM_F32 ? PIECE_WEIGHTS : 16, &begin, &end);
    for (int at = begin; at < end; at += n) {
        n = least(piece, end - at);
        if (by_outputs)
            gemm(lane, true, false, n, l->inputs, rows, dy + at, dy_stride, x, x_stride, true,
                 dw + (size_t)at * inputs, inputs);
        else
            gemm(lane, true, false, l->outputs, n, rows, dy, dy_stride, x + at, x_stride, true,
                 dw + at, inputs);
    }
}
