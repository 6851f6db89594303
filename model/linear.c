/* Products of weight matrices with rows. Packing them is linear_pack.c. */
#include "model/linear.h"

#include <stdlib.h>
#include <string.h>

linear_dense_fn *linear_dense;

size_t linear_stride(const struct linear *linear)
{
    return ((size_t)linear->outputs + PANEL - 1) / PANEL * PANEL;
}

void linear_release(struct linear *linear)
{
    free(linear->packed);
    memset(linear, 0, sizeof *linear);
}

/* ---- products ---- */

size_t linear_scratch_bytes(int inputs)
{
    return (size_t)(QUANT_ROWS / QUANT_BLOCK) * (size_t)quant_pairs(inputs) *
           sizeof(struct quant_pair);
}

static void forward_quant(struct lane *lane, const struct linear *l, const float *x,
                          size_t x_stride, int rows, int begin, int end, const float *residual,
                          float *y, size_t y_stride)
{
    struct quant_pair *pairs = lane->scratch;
    int bias = l->type == WEIGHT_Q8 ? Q8_BIAS : Q4_BIAS, n_pairs = quant_pairs(l->inputs);
    for (int first = 0; first < rows; first += QUANT_ROWS) {
        int n = rows - first < QUANT_ROWS ? rows - first : QUANT_ROWS;
        size_t at = (size_t)first * y_stride;
        for (int r = 0; r < n; r++)
            kernels.quantize(x + (size_t)(first + r) * x_stride, l->inputs, bias,
                             pairs + r / QUANT_BLOCK * n_pairs, r % QUANT_BLOCK);
        kernels.linear_quant[l->type](pairs, n, n_pairs, l->packed, begin, end,
                                      residual ? residual + at : NULL, y + at, y_stride);
    }
}

void linear_forward(struct lane *lane, const struct linear *linear, const float *x, size_t x_stride,
                    int rows, const float *residual, float *y, size_t y_stride)
{
    if (linear->dense) {
        linear_dense(lane, linear, x, x_stride, rows, residual, y, y_stride);
        return;
    }
    int begin, end;
    lane_share(lane, (int)(linear_stride(linear) / PANEL), 1, &begin, &end);
    if (begin == end || rows == 0)
        return;
    if (linear->type >= WEIGHT_Q8)
        forward_quant(lane, linear, x, x_stride, rows, begin, end, residual, y, y_stride);
    else
        kernels.linear[linear->type](x, x_stride, rows, linear->inputs, linear->packed, begin, end,
                                     residual, y, y_stride);
}
