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

static int bias_of(const struct linear *l)
{
    return l->type == WEIGHT_Q8 ? Q8_BIAS : Q4_BIAS;
}

static bool quantised(const struct linear *l)
{
    return l->type >= WEIGHT_Q8;
}

/* ---- a lane's scratch: quantised rows, then rows of one unit of linear_swiglu ---- */

#define GATED_PANELS 4 /* gate, up, gate, up: they make a group of what the next matrix reads */
#define UNIT_GROUPS 2  /* at a time: enough panels for the kernels of one row */
#define UNIT_STRIDE (UNIT_GROUPS * GATED_PANELS * PANEL)

static size_t pairs_bytes(int inputs)
{
    return (size_t)(QUANT_ROWS / QUANT_BLOCK) * (size_t)quant_pairs(inputs) *
           sizeof(struct quant_pair);
}

size_t linear_scratch_bytes(int inputs)
{
    return pairs_bytes(inputs) + QUANT_ROWS * UNIT_STRIDE * sizeof(float);
}

/* ---- products ---- */

/* Up to QUANT_ROWS rows; where the weights are quantised they are read from pairs, not x. */
static void multiply(const struct linear *l, const float *x, size_t x_stride,
                     const struct quant_pair *pairs, int rows, const void *w, int begin, int end,
                     const float *residual, float *y, size_t y_stride)
{
    if (quantised(l))
        kernels.linear_quant[l->type](pairs, rows, quant_pairs(l->inputs), w, begin, end, residual,
                                      y, y_stride);
    else
        kernels.linear[l->type](x, x_stride, rows, l->inputs, w, begin, end, residual, y, y_stride);
}

/* Quantises rows in the lane's scratch, if these weights want that. */
static const struct quant_pair *quantize(struct lane *lane, const struct linear *l, const float *x,
                                         size_t x_stride, int rows)
{
    int pairs = quant_pairs(l->inputs);
    if (quantised(l))
        kernels.quantize(x, x_stride, rows, l->inputs, bias_of(l), 0, 2 * pairs, lane->scratch,
                         pairs);
    return lane->scratch;
}

struct prefetch linear_prefetch(const struct lane *lane, const struct linear *linear, size_t most)
{
    int begin, end, panels = (int)(linear_stride(linear) / PANEL);
    if (linear->dense)
        return (struct prefetch){NULL, NULL};
    size_t panel_bytes = linear_bytes(linear) / (size_t)panels;
    lane_share(lane, panels, 1, &begin, &end);
    size_t size = (size_t)(end - begin) * panel_bytes;
    const char *at = (const char *)linear->packed + (size_t)begin * panel_bytes;
    return (struct prefetch){at, at + (size < most ? size : most)};
}

void linear_forward(struct lane *lane, const struct linear *linear, const float *x, size_t x_stride,
                    int rows, const float *residual, float *y, size_t y_stride)
{
    if (linear->dense) {
        linear_dense(lane, linear, x, x_stride, rows, residual, y, y_stride);
        return;
    }
    int begin, end, most = quantised(linear) ? QUANT_ROWS : rows;
    lane_share(lane, (int)(linear_stride(linear) / PANEL), 1, &begin, &end);
    for (int first = 0, n; begin < end && first < rows; first += n) {
        const float *from = x + (size_t)first * x_stride;
        size_t at = (size_t)first * y_stride;
        n = rows - first < most ? rows - first : most;
        multiply(linear, from, x_stride, quantize(lane, linear, from, x_stride, n), n,
                 linear->packed, begin, end, residual ? residual + at : NULL, y + at, y_stride);
    }
}

/* ---- the feed-forward network ---- */

size_t linear_act_bytes(int rows, int width)
{
    size_t floats = (size_t)rows * (size_t)width * sizeof(float);
    size_t blocks = ((size_t)rows + QUANT_BLOCK - 1) / QUANT_BLOCK;
    size_t codes = blocks * (size_t)quant_pairs(width) * sizeof(struct quant_pair);
    return floats > codes ? floats : codes;
}

static void unit_swiglu(float *unit, int rows, int panels)
{
    for (int r = 0; r < rows; r++, unit += UNIT_STRIDE)
        for (int p = 0; p < panels; p += 2)
            kernels.swiglu(unit + p * PANEL, unit + (p + 1) * PANEL, PANEL, unit + p / 2 * PANEL);
}

/* Channels of act from group g on, of rows first.. */
static void unit_put(const struct linear *next, const float *unit, int g, int first, int rows,
                     int width, void *act)
{
    int groups = quant_groups(next->inputs), pairs = quant_pairs(next->inputs);
    if (quantised(next)) {
        struct quant_pair *to = (struct quant_pair *)act + first / QUANT_BLOCK * pairs;
        int last = g + quant_groups(width);
        kernels.quantize(unit, UNIT_STRIDE, rows, width, bias_of(next), g,
                         last < groups ? last : 2 * pairs, to, pairs);
        return;
    }
    for (int r = 0; r < rows; r++, unit += UNIT_STRIDE)
        memcpy((float *)act + (size_t)(first + r) * (size_t)next->inputs + (size_t)g * GROUP, unit,
               (size_t)width * sizeof(float));
}

void linear_swiglu(struct lane *lane, const struct linear *linear, const float *x, size_t x_stride,
                   int rows, const struct linear *next, void *act)
{
    const int panels = linear->outputs / PANEL;
    const size_t panel_bytes = linear_bytes(linear) / (size_t)panels;
    float *unit = (float *)((char *)lane->scratch + pairs_bytes(linear->inputs));
    int begin, end;
    lane_share(lane, panels, GATED_PANELS, &begin, &end);
    for (int first = 0; begin < end && first < rows; first += QUANT_ROWS) {
        const float *from = x + (size_t)first * x_stride;
        int n = rows - first < QUANT_ROWS ? rows - first : QUANT_ROWS;
        const struct quant_pair *pairs = quantize(lane, linear, from, x_stride, n);
        for (int panel = begin, take; panel < end; panel += take) {
            int most = UNIT_GROUPS * GATED_PANELS;
            take = end - panel < most ? end - panel : most;
            multiply(linear, from, x_stride, pairs, n,
                     (const char *)linear->packed + (size_t)panel * panel_bytes, 0, take, NULL,
                     unit, UNIT_STRIDE);
            unit_swiglu(unit, n, take);
            unit_put(next, unit, panel / GATED_PANELS, first, n, take / 2 * PANEL, act);
        }
    }
}

void linear_forward_act(struct lane *lane, const struct linear *linear, const void *act, int rows,
                        const float *residual, float *y, size_t y_stride)
{
    if (!quantised(linear)) {
        linear_forward(lane, linear, act, (size_t)linear->inputs, rows, residual, y, y_stride);
        return;
    }
    int begin, end, pairs = quant_pairs(linear->inputs);
    lane_share(lane, (int)(linear_stride(linear) / PANEL), 1, &begin, &end);
    for (int first = 0; begin < end && first < rows; first += QUANT_ROWS) {
        size_t at = (size_t)first * y_stride;
        multiply(linear, NULL, 0, (const struct quant_pair *)act + first / QUANT_BLOCK * pairs,
                 rows - first < QUANT_ROWS ? rows - first : QUANT_ROWS, linear->packed, begin, end,
                 residual ? residual + at : NULL, y + at, y_stride);
    }
}
