/* The trainer's matrix products: which library, and how lanes share them. */
#include "model/gemm.h"

#include <cblas.h>
#include <string.h>

static enum gemm_precision precision;

static void dense_forward(struct lane *lane, const struct linear *l, const float *x,
                          size_t x_stride, int rows, const float *residual, float *y,
                          size_t y_stride)
{
    int begin, end;
    lane_share(lane, rows, 1, &begin, &end);
    if (begin == end)
        return;
    y += (size_t)begin * y_stride;
    if (residual && residual + (size_t)begin * y_stride != y)
        for (int r = 0; r < end - begin; r++)
            memcpy(y + (size_t)r * y_stride, residual + (size_t)(begin + r) * y_stride,
                   (size_t)l->outputs * sizeof(float));
    gemm(lane, false, true, end - begin, l->outputs, l->inputs, x + (size_t)begin * x_stride,
         x_stride, l->dense, (size_t)l->inputs, residual != NULL, y, y_stride);
}

int gemm_init(const char *name, struct err *err)
{
    bool automatic = !strcmp(name, "auto"), bf16 = !strcmp(name, "bf16");
    if (!automatic && !bf16 && strcmp(name, "f32"))
        return err_set(err, ERR_INVALID, "'%s' is no precision: use auto, f32 or bf16", name);
    if (bf16 && !gemm_amx_available())
        return err_set(err, ERR_INVALID,
                       "this processor has no bf16 matrix unit (AMX): use --precision f32");
    precision = bf16 || (automatic && gemm_amx_available()) ? GEMM_BF16 : GEMM_F32;
    openblas_set_num_threads(1); /* the lanes are the threads */
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
        gemm_amx(lane, ta, tb, m, n, k, a, lda, b, ldb, accumulate, c, ldc);
        return;
    }
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n,
                k, 1.0f, a, (int)lda, b, (int)ldb, accumulate ? 1.0f : 0.0f, c, (int)ldc);
}

void linear_backward_input(struct lane *lane, const struct linear *l, const float *dy,
                           size_t dy_stride, int rows, bool accumulate, float *dx, size_t dx_stride)
{
    int begin, end;
    lane_share(lane, rows, 1, &begin, &end);
    gemm(lane, false, false, end - begin, l->inputs, l->outputs, dy + (size_t)begin * dy_stride,
         dy_stride, l->dense, (size_t)l->inputs, accumulate, dx + (size_t)begin * dx_stride,
         dx_stride);
}

void linear_backward_weight(struct lane *lane, const struct linear *l, const float *x,
                            size_t x_stride, const float *dy, size_t dy_stride, int rows)
{
    int begin, end;
    float *dw = l->dense_grad;
    size_t inputs = (size_t)l->inputs;
    /* Every lane packs the whole of the operand that is not split: split the wider one. */
    if (l->outputs >= l->inputs) {
        lane_share(lane, l->outputs, 16, &begin, &end);
        gemm(lane, true, false, end - begin, l->inputs, rows, dy + begin, dy_stride, x, x_stride,
             true, dw + (size_t)begin * inputs, inputs);
    } else {
        lane_share(lane, l->inputs, 16, &begin, &end);
        gemm(lane, true, false, l->outputs, end - begin, rows, dy, dy_stride, x + begin, x_stride,
             true, dw + begin, inputs);
    }
}
