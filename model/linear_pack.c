/* Weights into the panels of kernels.h: from a file, or random ones for timing. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "model/linear.h"
#include "weights/bf16.h"
#include "weights/f16.h"

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

static void pack_quant(struct linear *linear, const float *w, size_t o)
{
    size_t inputs = (size_t)linear->inputs, groups = (size_t)quant_groups(linear->inputs);
    size_t channel = o % PANEL, group_bytes = quant_group_bytes(linear->type);
    char *pair =
        (char *)linear->packed + o / PANEL * quant_panel_bytes(linear->type, linear->inputs);
    for (size_t g = 0; g < groups; g++) {
        uint8_t codes[GROUP], *panel = (uint8_t *)pair + g % 2 * group_bytes;
        uint16_t *scales = (uint16_t *)(pair + 2 * group_bytes) + g % 2 * PANEL;
        size_t left = inputs - g * GROUP;
        quant_group(linear->type, w + g * GROUP, left < GROUP ? left : GROUP, codes,
                    &scales[channel]);
        for (size_t k = 0; k < GROUP; k++) {
            size_t at = k / 4 * 64 + channel * 4 + k % 4;
            if (linear->type == WEIGHT_Q8)
                panel[at] = codes[k];
            else if (k < GROUP / 2)
                panel[at] = (uint8_t)(codes[k] | codes[k + GROUP / 2] << 4);
        }
        pair += g % 2 ? quant_pair_bytes(linear->type) : 0;
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

/* Row r of matrix i becomes output first[i] + r, or, interleaved, of every second panel. */
static int pack(struct linear *linear, enum weight_type type, const struct matrix *matrices, int n,
                bool interleaved, struct err *err)
{
    size_t outputs = 0, inputs = matrices[0].inputs, first = 0;
    for (int i = 0; i < n; i++)
        outputs += matrices[i].rows;
    *linear = (struct linear){.inputs = (int)inputs, .outputs = (int)outputs, .type = type};
    size_t size = linear_bytes(linear);
    linear->packed = mem_alloc(size);
    float *row = malloc(inputs * sizeof *row);
    if (!linear->packed || !row) {
        free(row);
        return err_set(err, ERR_MEMORY, "%s: %zu bytes for its packed weights could not be had",
                       matrices[0].data->name, size);
    }
    void (*put)(struct linear *, const float *, size_t) = type == WEIGHT_F32    ? pack_f32
                                                          : type == WEIGHT_BF16 ? pack_bf16
                                                                                : pack_quant;
    for (int i = 0; i < n; first += matrices[i++].rows)
        for (size_t r = 0; r < matrices[i].rows; r++) {
            matrix_row(&matrices[i], r, row);
            put(linear, row,
                interleaved ? (r / PANEL * 2 + (size_t)i) * PANEL + r % PANEL : first + r);
        }
    free(row);
    return 0;
}

int linear_pack(struct linear *linear, enum weight_type type, const struct matrix *matrices, int n,
                struct err *err)
{
    return pack(linear, type, matrices, n, false, err);
}

int linear_pack_gated(struct linear *linear, enum weight_type type, const struct matrix *matrices,
                      struct err *err)
{
    assert(matrices[0].rows % PANEL == 0 && matrices[0].rows == matrices[1].rows);
    return pack(linear, type, matrices, 2, true, err);
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

/* Odd codes lie evenly about the bias: sqrt((bias^2 - 1) / 3) is their standard deviation. */
static void random_quant(struct linear *linear, float c, uint64_t *state)
{
    bool q8 = linear->type == WEIGHT_Q8;
    uint64_t odd = q8 ? 0x0101010101010101 : 0x1111111111111111;
    float bias = q8 ? Q8_BIAS : Q4_BIAS;
    uint16_t scale = f16_from_float(c / sqrtf(bias * bias - 1));
    size_t code_bytes = 2 * quant_group_bytes(linear->type);
    size_t pair_bytes = quant_pair_bytes(linear->type);
    char *pair = linear->packed, *end = pair + linear_bytes(linear);
    for (; pair < end; pair += pair_bytes) {
        for (size_t i = 0; i < code_bytes; i += 8)
            *(uint64_t *)(pair + i) = next_word(state) | odd;
        for (size_t i = 0; i < 2 * PANEL; i++)
            ((uint16_t *)(pair + code_bytes))[i] = scale;
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
