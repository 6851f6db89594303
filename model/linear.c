/* Products of weight matrices with rows. Packing them is linear_pack.c. */
#include "model/linear.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

linear_dense_fn *linear_dense;

static int panels_of(int outputs)
{
    return (outputs + PANEL - 1) / PANEL;
}

size_t linear_stride(const struct linear *linear)
{
    return (size_t)panels_of(linear->outputs) * PANEL;
}

static bool quantised(enum weight_type type)
{
    return type >= WEIGHT_Q8;
}

/* ---- a lane's scratch: quantised rows, then rows of one unit of linear_swiglu ---- */

/* Of the gate, and as many of what it lets through: whole tiles of all kernels. */
#define UNIT_PANELS 8
#define UNIT_WIDTH (UNIT_PANELS * PANEL)
#define UNIT_STRIDE (2 * UNIT_WIDTH)
#define GROUP_PANELS (GROUP / PANEL)

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

/* Rows that packed weights are multiplied with: floats, and, for each form that the weights want,
 * the same rows quantised. */
struct operand {
    const float *x;
    size_t x_stride;
    int rows, inputs;
    struct quant_pair *pairs; /* NULL when only the floats may be used */
    int form;                 /* of the pairs; INT_MIN: of none */
};

/* Panels first..last-1 of a part, of up to QUANT_ROWS rows where the part is quantised. */
static void multiply(struct operand *o, const struct packed *part, int first, int last,
                     const float *residual, float *y, size_t y_stride)
{
    int pairs = quant_pairs(o->inputs);
    if (!quantised(part->type)) {
        kernels.linear[part->type](o->x, o->x_stride, o->rows, o->inputs, part->data, first, last,
                                   residual, y, y_stride);
        return;
    }
    if (o->form != quant_form(part->type)) {
        kernels.quantize(part->type, o->x, o->x_stride, o->rows, o->inputs, 0, 2 * pairs, o->pairs,
                         pairs);
        o->form = quant_form(part->type);
    }
    kernels.linear_quant[part->type](o->pairs, o->rows, pairs, part->data, first, last, residual, y,
                                     y_stride);
}

/* Panels begin..end-1 of all, which may lie in several parts. */
static void multiply_parts(struct operand *o, const struct linear *l, int begin, int end,
                           const float *residual, float *y, size_t y_stride)
{
    for (int i = 0, at = 0; i < l->n_parts; i++) {
        int panels = panels_of(l->parts[i].outputs);
        int first = begin > at ? begin - at : 0, last = end - at < panels ? end - at : panels;
        if (first < last)
            multiply(o, &l->parts[i], first, last, residual ? residual + at * PANEL : NULL,
                     y + at * PANEL, y_stride);
        at += panels;
    }
}

static bool any_quantised(const struct linear *l)
{
    for (int i = 0; i < l->n_parts; i++)
        if (quantised(l->parts[i].type))
            return true;
    return false;
}

struct prefetch linear_prefetch(const struct lane *lane, const struct linear *linear, size_t most)
{
    int begin, end, at = 0;
    if (linear->dense)
        return (struct prefetch){NULL, NULL};
    lane_share(lane, (int)(linear_stride(linear) / PANEL), 1, &begin, &end);
    for (int i = 0; i < linear->n_parts; i++) {
        const struct packed *part = &linear->parts[i];
        int panels = panels_of(part->outputs);
        if (begin < at + panels) {
            int last = end - at < panels ? end - at : panels;
            size_t size = (size_t)(last - (begin - at)) * part->panel_bytes;
            const char *from = (const char *)part->data + (size_t)(begin - at) * part->panel_bytes;
            return (struct prefetch){from, from + (size < most ? size : most)};
        }
        at += panels;
    }
    return (struct prefetch){NULL, NULL};
}

void linear_forward(struct lane *lane, const struct linear *linear, const float *x, size_t x_stride,
                    int rows, const float *residual, float *y, size_t y_stride)
{
    if (linear->dense) {
        linear_dense(lane, linear, x, x_stride, rows, residual, y, y_stride);
        return;
    }
    int begin, end, most = any_quantised(linear) ? QUANT_ROWS : rows;
    lane_share(lane, (int)(linear_stride(linear) / PANEL), 1, &begin, &end);
    for (int first = 0; begin < end && first < rows; first += most) {
        size_t at = (size_t)first * y_stride;
        struct operand o = {x + (size_t)first * x_stride,
                            x_stride,
                            rows - first < most ? rows - first : most,
                            linear->inputs,
                            lane->scratch,
                            INT_MIN};
        multiply_parts(&o, linear, begin, end, residual ? residual + at : NULL, y + at, y_stride);
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

/* Whether linear_swiglu leaves codes for the next matrix. A block of 256 channels is more than a
 * unit has: those are quantised by linear_forward_act. */
static bool takes_codes(const struct linear *next)
{
    return quantised(next->parts[0].type) && !quant_is_block(next->parts[0].type);
}

/* Channels of act from group g on, of rows first.. */
static void unit_put(const struct linear *next, const float *unit, int g, int first, int rows,
                     int width, void *act)
{
    int groups = quant_groups(next->inputs), pairs = quant_pairs(next->inputs);
    if (takes_codes(next)) {
        struct quant_pair *to = (struct quant_pair *)act + first / QUANT_BLOCK * pairs;
        int last = g + quant_groups(width);
        kernels.quantize(next->parts[0].type, unit, UNIT_STRIDE, rows, width, g,
                         last < groups ? last : 2 * pairs, to, pairs);
        return;
    }
    for (int r = 0; r < rows; r++, unit += UNIT_STRIDE)
        memcpy((float *)act + (size_t)(first + r) * (size_t)next->inputs + (size_t)g * GROUP, unit,
               (size_t)width * sizeof(float));
}

static struct packed part_from(const struct packed *part, int panel)
{
    struct packed from = *part;
    from.data = (char *)part->data + (size_t)panel * part->panel_bytes;
    return from;
}

void linear_swiglu(struct lane *lane, const struct linear *linear, const float *x, size_t x_stride,
                   int rows, const struct linear *next, void *act)
{
    const struct packed *gate = &linear->parts[0], *up = &linear->parts[1];
    float *unit = (float *)((char *)lane->scratch + pairs_bytes(linear->inputs));
    int begin, end;
    lane_share(lane, gate->outputs / PANEL, GROUP_PANELS, &begin, &end);
    for (int first = 0; begin < end && first < rows; first += QUANT_ROWS) {
        int n = rows - first < QUANT_ROWS ? rows - first : QUANT_ROWS;
        struct operand o = {
            x + (size_t)first * x_stride, x_stride, n, linear->inputs, lane->scratch, INT_MIN};
        for (int panel = begin, take; panel < end; panel += take) {
            take = end - panel < UNIT_PANELS ? end - panel : UNIT_PANELS;
            struct packed some = part_from(gate, panel), other = part_from(up, panel);
            multiply(&o, &some, 0, take, NULL, unit, UNIT_STRIDE);
            multiply(&o, &other, 0, take, NULL, unit + UNIT_WIDTH, UNIT_STRIDE);
            for (int r = 0; r < n; r++) {
                float *row = unit + r * UNIT_STRIDE;
                kernels.swiglu(row, row + UNIT_WIDTH, take * PANEL, row);
            }
            unit_put(next, unit, panel / GROUP_PANELS, first, n, take * PANEL, act);
        }
    }
}

void linear_forward_act(struct lane *lane, const struct linear *linear, const void *act, int rows,
                        const float *residual, float *y, size_t y_stride)
{
    if (!takes_codes(linear)) {
        linear_forward(lane, linear, act, (size_t)linear->inputs, rows, residual, y, y_stride);
        return;
    }
    int begin, end, pairs = quant_pairs(linear->inputs);
    const struct packed *part = &linear->parts[0];
    lane_share(lane, (int)(linear_stride(linear) / PANEL), 1, &begin, &end);
    for (int first = 0; begin < end && first < rows; first += QUANT_ROWS) {
        size_t at = (size_t)first * y_stride;
        kernels.linear_quant[part->type](
            (const struct quant_pair *)act + first / QUANT_BLOCK * pairs,
            rows - first < QUANT_ROWS ? rows - first : QUANT_ROWS, pairs, part->data, begin, end,
            residual ? residual + at : NULL, y + at, y_stride);
    }
}
