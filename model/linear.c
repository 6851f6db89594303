/* Packing weights, and their products. */
#include "model/linear.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "weights/bf16.h"
#include "weights/f16.h"

linear_dense_fn *linear_dense;

size_t linear_stride(const struct linear *linear)
{
    return ((size_t)linear->outputs + PANEL - 1) / PANEL * PANEL;
}

static const char *const type_names[WEIGHT_TYPES] = {"f32", "bf16", "q8", "q4"};

const char *weight_type_name(enum weight_type type)
{
    return type_names[type];
}

int weight_type_parse(const char *name, int *type, struct err *err)
{
    *type = WEIGHT_STORED;
    if (!strcmp(name, "stored"))
        return 0;
    for (*type = 0; *type < WEIGHT_TYPES; ++*type)
        if (!strcmp(name, type_names[*type]))
            return 0;
    return err_set(err, ERR_INVALID,
                   "the type of weights is '%.20s', but must be one of " WEIGHT_TYPE_NAMES, name);
}

/* ---- packing ---- */

/* Row `from` of a tensor as floats; tensors are only byte-aligned in the mapping. */
static void read_row(const struct tensor *t, size_t from, size_t inputs, float *to)
{
    const unsigned char *row =
        (const unsigned char *)t->data + from * inputs * dtype_size(t->dtype);
    if (t->dtype == DTYPE_F32) {
        memcpy(to, row, inputs * 4);
        return;
    }
    for (size_t k = 0; k < inputs; k++) {
        uint16_t bits;
        memcpy(&bits, row + k * 2, 2);
        to[k] = bf16_to_float(bits);
    }
}

static void pack_f32(struct linear *linear, const float *w, size_t o)
{
    size_t inputs = (size_t)linear->inputs;
    float *panel = (float *)linear->packed + o / PANEL * inputs * PANEL;
    for (size_t k = 0; k < inputs; k++)
        panel[k * PANEL + o % PANEL] = w[k];
}

static void pack_bf16(struct linear *linear, const float *w, size_t o)
{
    size_t inputs = (size_t)linear->inputs;
    uint16_t *panel = (uint16_t *)linear->packed + o / PANEL * inputs * PANEL;
    for (size_t k = 0; k < inputs; k++)
        panel[(k / 2 * PANEL + o % PANEL) * 2 + k % 2] = bf16_from_float(w[k]);
}

/* The scale of one group, as f16: of q8 that of the largest magnitude; of q4 that which gives the
 * value of the largest magnitude the code 0, because codes reach further below the bias. */
static uint16_t group_scale(enum weight_type type, const float *w, size_t n)
{
    float most = 0;
    for (size_t k = 0; k < n; k++)
        most = fabsf(w[k]) > fabsf(most) ? w[k] : most;
    return f16_from_float(type == WEIGHT_Q8 ? fabsf(most) / 127 : most / -Q4_BIAS);
}

static int group_code(enum weight_type type, float w, float scale)
{
    int bias = type == WEIGHT_Q8 ? Q8_BIAS : Q4_BIAS, low = type == WEIGHT_Q8 ? 1 : 0;
    float code = scale != 0 ? rintf(w / scale) + (float)bias : (float)bias;
    return code < (float)low ? low : code > (float)(2 * bias - 1) ? 2 * bias - 1 : (int)code;
}

static void pack_quant(struct linear *linear, const float *w, size_t o)
{
    size_t inputs = (size_t)linear->inputs, groups = (size_t)quant_groups(linear->inputs);
    size_t bytes = quant_panel_bytes(linear->type, linear->inputs), channel = o % PANEL;
    size_t group_bytes = linear->type == WEIGHT_Q8 ? GROUP * PANEL : GROUP * PANEL / 2;
    uint8_t *panel = (uint8_t *)linear->packed + o / PANEL * bytes;
    uint16_t *scales = (uint16_t *)(panel + groups * group_bytes);
    for (size_t g = 0; g < groups; g++, panel += group_bytes) {
        const float *group = w + g * GROUP;
        size_t n = inputs - g * GROUP < GROUP ? inputs - g * GROUP : GROUP;
        uint16_t scale = group_scale(linear->type, group, n);
        scales[g * PANEL + channel] = scale;
        for (size_t k = 0; k < GROUP; k++) {
            int code = group_code(linear->type, k < n ? group[k] : 0, f16_to_float(scale));
            size_t at = k / 4 * 64 + channel * 4 + k % 4;
            if (linear->type == WEIGHT_Q8)
                panel[at] = (uint8_t)code;
            else if (k < GROUP / 2)
                panel[at] = (uint8_t)((panel[at] & 0xf0) | code);
            else
                panel[at - 256] = (uint8_t)((panel[at - 256] & 15) | code << 4);
        }
    }
}

size_t linear_bytes(const struct linear *linear)
{
    size_t panels = linear_stride(linear) / PANEL, inputs = (size_t)linear->inputs;
    switch (linear->type) {
    case WEIGHT_F32:
        return panels * inputs * PANEL * 4;
    case WEIGHT_BF16:
        return panels * inputs * PANEL * 2;
    default:
        return panels * quant_panel_bytes(linear->type, linear->inputs);
    }
}

int linear_pack(struct linear *linear, enum weight_type type, const struct tensor *const *tensors,
                int n, struct err *err)
{
    size_t outputs = 0, inputs = tensors[0]->shape[1];
    for (int i = 0; i < n; i++)
        outputs += tensors[i]->shape[0];
    *linear = (struct linear){.inputs = (int)inputs, .outputs = (int)outputs, .type = type};
    size_t size = linear_bytes(linear);
    linear->packed = mem_alloc(size);
    float *row = malloc(inputs * sizeof *row);
    if (!linear->packed || !row) {
        free(row);
        return err_set(err, ERR_MEMORY, "%s: %zu bytes for its packed weights could not be had",
                       tensors[0]->name, size);
    }
    void (*pack)(struct linear *, const float *, size_t) = type == WEIGHT_F32    ? pack_f32
                                                           : type == WEIGHT_BF16 ? pack_bf16
                                                                                 : pack_quant;
    for (size_t i = 0, o = 0; i < (size_t)n; i++)
        for (size_t r = 0; r < tensors[i]->shape[0]; r++) {
            read_row(tensors[i], r, inputs, row);
            pack(linear, row, o++);
        }
    free(row);
    return 0;
}

/* ---- random weights ---- */

/* Marsaglia's xorshift64: any state but 0. */
static uint64_t next_word(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    return *state = x ^ x << 17;
}

/* Uniform between -c and c: sqrt(3) standard deviations. */
static void random_f32(float *w, size_t n, float c, uint64_t *state)
{
    for (size_t i = 0; i < n; i += 2) {
        uint64_t word = next_word(state);
        w[i] = (float)(int32_t)word * 0x1p-31f * c;
        w[i + 1] = (float)(int32_t)(word >> 32) * 0x1p-31f * c;
    }
}

static void random_bf16(uint16_t *w, size_t n, float c, uint64_t *state)
{
    for (size_t i = 0; i < n; i += 4) {
        uint64_t word = next_word(state);
        for (size_t j = 0; j < 4; j++)
            w[i + j] = bf16_from_float((float)(int16_t)(word >> 16 * j) * 0x1p-15f * c);
    }
}

/* Odd codes lie evenly about the bias; the largest stands 2 * bias - 1 - bias = bias - 1 above. */
static void random_quant(struct linear *linear, float c, uint64_t *state)
{
    bool q8 = linear->type == WEIGHT_Q8;
    uint64_t odd = q8 ? 0x0101010101010101 : 0x1111111111111111;
    uint16_t scale = f16_from_float(c / (float)((q8 ? Q8_BIAS : Q4_BIAS) - 1));
    size_t groups = (size_t)quant_groups(linear->inputs), panels = linear_stride(linear) / PANEL;
    size_t code_bytes = groups * (q8 ? GROUP * PANEL : GROUP * PANEL / 2);
    char *panel = linear->packed;
    for (size_t p = 0; p < panels; p++, panel += quant_panel_bytes(linear->type, linear->inputs)) {
        for (size_t i = 0; i < code_bytes; i += 8)
            *(uint64_t *)(panel + i) = next_word(state) | odd;
        for (size_t i = 0; i < groups * PANEL; i++)
            ((uint16_t *)(panel + code_bytes))[i] = scale;
    }
}

int linear_random(struct linear *linear, enum weight_type type, int outputs, int inputs,
                  uint64_t seed, struct err *err)
{
    assert(inputs % GROUP == 0 && outputs % PANEL == 0);
    *linear = (struct linear){.inputs = inputs, .outputs = outputs, .type = type};
    size_t size = linear_bytes(linear), n = (size_t)outputs * (size_t)inputs;
    uint64_t state = rng_mix(seed) | 1;
    float c = sqrtf(3.0f / (float)inputs);
    linear->packed = mem_alloc(size);
    if (!linear->packed)
        return err_set(err, ERR_MEMORY, "%zu MiB for random weights could not be had", size >> 20);
    if (type == WEIGHT_F32)
        random_f32(linear->packed, n, c, &state);
    else if (type == WEIGHT_BF16)
        random_bf16(linear->packed, n, c, &state);
    else
        random_quant(linear, c, &state);
    return 0;
}

void linear_release(struct linear *linear)
{
    free(linear->packed);
    memset(linear, 0, sizeof *linear);
}

/* ---- products ---- */

/* Where quantised rows stand in a lane's scratch. */
static size_t quant_carve(struct quant_rows *q, int inputs, char *at)
{
    size_t groups = (size_t)quant_groups(inputs), codes = QUANT_ROWS * groups * GROUP;
    q->groups = (int)groups;
    q->codes = (int8_t *)at;
    q->scale = (float *)(at + codes);
    q->offset = (int32_t *)(at + codes + QUANT_ROWS * groups * sizeof *q->scale);
    return codes + QUANT_ROWS * groups * (sizeof *q->scale + sizeof *q->offset);
}

size_t linear_scratch_bytes(int inputs)
{
    struct quant_rows q;
    return quant_carve(&q, inputs, NULL);
}

static void forward_quant(struct lane *lane, const struct linear *l, const float *x,
                          size_t x_stride, int rows, int begin, int end, const float *residual,
                          float *y, size_t y_stride)
{
    struct quant_rows q;
    int bias = l->type == WEIGHT_Q8 ? Q8_BIAS : Q4_BIAS;
    quant_carve(&q, l->inputs, lane->scratch);
    for (int first = 0; first < rows; first += QUANT_ROWS) {
        int n = rows - first < QUANT_ROWS ? rows - first : QUANT_ROWS;
        size_t at = (size_t)first * y_stride, groups = (size_t)q.groups;
        for (size_t r = 0; r < (size_t)n; r++)
            kernels.quantize(x + ((size_t)first + r) * x_stride, l->inputs, bias,
                             q.codes + r * groups * GROUP, q.scale + r * groups,
                             q.offset + r * groups);
        kernels.linear_quant[l->type](&q, n, l->packed, begin, end, residual ? residual + at : NULL,
                                      y + at, y_stride);
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
