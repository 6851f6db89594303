/* Packing weights, and their products. */
#include "model/linear.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "weights/bf16.h"

linear_dense_fn *linear_dense;

size_t linear_stride(const struct linear *linear)
{
    return ((size_t)linear->outputs + PANEL - 1) / PANEL * PANEL;
}

/* Writes row `from` of a tensor as output channel o of the panels. */
static void pack_row(struct linear *linear, const struct tensor *t, size_t from, size_t o)
{
    size_t inputs = (size_t)linear->inputs, panel = o / PANEL * inputs * PANEL;
    size_t size = dtype_size(t->dtype);
    const unsigned char *row = (const unsigned char *)t->data + from * inputs * size;
    for (size_t k = 0; k < inputs; k++) {
        float value; /* tensors are only byte-aligned in the mapping */
        if (t->dtype == DTYPE_F32) {
            memcpy(&value, row + k * 4, 4);
        } else {
            uint16_t bits;
            memcpy(&bits, row + k * 2, 2);
            value = bf16_to_float(bits);
        }
        if (linear->type == WEIGHT_F32)
            ((float *)linear->packed)[panel + k * PANEL + o % PANEL] = value;
        else
            ((uint16_t *)linear->packed)[panel + (k / 2 * PANEL + o % PANEL) * 2 + k % 2] =
                bf16_from_float(value);
    }
}

int linear_pack(struct linear *linear, enum weight_type type, const struct tensor *const *tensors,
                int n, struct err *err)
{
    size_t outputs = 0, inputs = tensors[0]->shape[1];
    for (int i = 0; i < n; i++)
        outputs += tensors[i]->shape[0];
    *linear = (struct linear){.inputs = (int)inputs, .outputs = (int)outputs, .type = type};
    size_t size = linear_stride(linear) * inputs * (type == WEIGHT_F32 ? 4 : 2);
    linear->packed = mem_alloc(size);
    if (!linear->packed)
        return err_set(err, ERR_MEMORY, "%s: %zu bytes for its packed weights could not be had",
                       tensors[0]->name, size);
    for (size_t i = 0, o = 0; i < (size_t)n; i++)
        for (size_t r = 0; r < tensors[i]->shape[0]; r++)
            pack_row(linear, tensors[i], r, o++);
    return 0;
}

void linear_release(struct linear *linear)
{
    free(linear->packed);
    memset(linear, 0, sizeof *linear);
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
    if (begin < end && rows > 0)
        kernels.linear[linear->type](x, x_stride, rows, linear->inputs, linear->packed, begin, end,
                                     residual, y, y_stride);
}
