/* Weights into the panels of kernels.h: from a file, or random ones for timing. */
#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "model/linear.h"
#include "weights/bf16.h"
#include "weights/f16.h"

size_t packed_bytes(enum weight_type type, int outputs, int inputs)
{
    size_t panels = ((size_t)outputs + PANEL - 1) / PANEL, k = (size_t)inputs;
    switch (type) {
    case WEIGHT_F32:
        return panels * k * PANEL * 4;
    case WEIGHT_BF16:
    case WEIGHT_F16:
        return panels * k * PANEL * 2;
    default:
        return panels * quant_panel_bytes(type, inputs);
    }
}

size_t linear_bytes(const struct linear *linear)
{
    size_t sum = 0;
    for (int i = 0; i < linear->n_parts; i++)
        sum += packed_bytes(linear->parts[i].type, linear->parts[i].outputs, linear->inputs);
    return sum;
}

/* ---- one output's row into its panel; `channel` is its place there ---- */

static void put_f32(const float *w, size_t inputs, size_t channel, void *panel)
{
    float *to = (float *)panel + channel;
    for (size_t k = 0; k < inputs; k++)
        to[k * PANEL] = w[k];
}

static void put_bf16(const float *w, size_t inputs, size_t channel, void *panel)
{
    uint16_t *to = panel;
    for (size_t k = 0; k < inputs; k++)
        to[(k / 2 * PANEL + channel) * 2 + k % 2] = bf16_from_float(w[k]);
}

/* From a file of the same type: the bits as they are. */
static void put_f16(const unsigned char *row, size_t inputs, size_t channel, void *panel)
{
    uint16_t *to = (uint16_t *)panel + channel;
    for (size_t k = 0; k < inputs; k++)
        memcpy(&to[k * PANEL], row + 2 * k, 2);
}

/* Four codes of one channel stand side by side in a vector of a group. */
static void put_codes(enum weight_type type, const uint8_t *codes, size_t channel, uint8_t *group)
{
    uint8_t *high = group + GROUP * PANEL / 2;
    size_t bytes = quant_group_bytes(type);
    for (size_t j = 0; j < 4; j++) {
        uint32_t low, up, *to = (uint32_t *)(void *)(group + 64 * j + 4 * channel);
        memcpy(&low, codes + 4 * j, 4);
        memcpy(&up, codes + 4 * (j + 4), 4);
        if (type == WEIGHT_Q8) {
            to[0] = low;
            to[64] = up;
            continue;
        }
        *to = (low & 0x0f0f0f0f) | (up & 0x0f0f0f0f) << 4;
        if (bytes == GROUP * PANEL * 5 / 8)
            for (size_t i = 0; i < 4; i++) {
                size_t bit = 4 * channel + i;
                high[8 * j + bit / 8] |= (uint8_t)((codes[4 * j + i] >> 4) << bit % 8);
                high[8 * (j + 4) + bit / 8] |= (uint8_t)((codes[4 * j + 16 + i] >> 4) << bit % 8);
            }
        if (bytes == GROUP * PANEL * 6 / 8) {
            uint32_t *two = (uint32_t *)(void *)(high + 4 * channel);
            two[0] |= (low >> 4 & 0x03030303) << 2 * j;
            two[16] |= (up >> 4 & 0x03030303) << 2 * j;
        }
    }
}

/* Group g of a matrix whose groups have scales of their own. */
static void put_group(enum weight_type type, const uint8_t *codes, uint16_t d, uint16_t n, size_t g,
                      size_t channel, uint8_t *panel)
{
    uint8_t *pair = panel + g / 2 * quant_unit_bytes(type);
    uint16_t *scales = (uint16_t *)(void *)(pair + 2 * quant_group_bytes(type)) + g % 2 * PANEL;
    put_codes(type, codes, channel, pair + g % 2 * quant_group_bytes(type));
    scales[channel] = d;
    if (quant_has_minimum(type))
        scales[2 * PANEL + channel] = n;
}

static void put_block(enum weight_type type, const struct code_block *b, size_t i, size_t channel,
                      uint8_t *panel)
{
    uint8_t *unit = panel + i * quant_unit_bytes(type);
    size_t subs = (size_t)(BLOCK / quant_sub_group(type));
    uint8_t *scales = unit + 8 * quant_group_bytes(type), *minima = scales + subs * PANEL;
    uint8_t *end = quant_has_minimum(type) ? minima + subs * PANEL : minima;
    for (size_t g = 0; g < BLOCK / GROUP; g++)
        put_codes(type, b->codes + g * GROUP, channel, unit + g * quant_group_bytes(type));
    for (size_t s = 0; s < subs; s++) {
        size_t at = s / 2 * 2 * PANEL + 2 * channel + s % 2;
        scales[at] = (uint8_t)b->scale[s];
        if (quant_has_minimum(type))
            minima[at] = (uint8_t)b->minimum[s];
    }
    ((uint16_t *)(void *)end)[channel] = b->d;
    if (quant_has_minimum(type))
        ((uint16_t *)(void *)end)[PANEL + channel] = b->n;
}

/* ---- rows of a file ---- */

/* Codes as they are. */
static void put_stored(const struct matrix *m, size_t r, size_t channel, uint8_t *panel)
{
    struct code_block block;
    for (size_t i = 0; i < matrix_blocks(m); i++) {
        matrix_block(m, r, i, &block);
        if (quant_is_block(m->type))
            put_block(m->type, &block, i, channel, panel);
        else
            put_group(m->type, block.codes, block.d, block.n, i, channel, panel);
    }
}

/* Floats, quantised to q8 or q4. */
static void put_quantised(enum weight_type type, const float *w, size_t inputs, size_t channel,
                          uint8_t *panel)
{
    for (size_t at = 0; at < inputs; at += GROUP) {
        uint8_t codes[GROUP];
        uint16_t scale;
        quant_group(type, w + at, inputs - at < GROUP ? inputs - at : GROUP, codes, &scale);
        put_group(type, codes, scale, 0, at / GROUP, channel, panel);
    }
}

static void put_row(enum weight_type type, const struct matrix *m, size_t r, size_t channel,
                    float *row, void *panel)
{
    if (type == m->type && type == WEIGHT_F16) {
        put_f16(matrix_row_data(m, r), m->inputs, channel, panel);
        return;
    }
    if (type == m->type && type >= WEIGHT_Q8) {
        put_stored(m, r, channel, panel);
        return;
    }
    matrix_row(m, r, row);
    if (type == WEIGHT_F32)
        put_f32(row, m->inputs, channel, panel);
    else if (type == WEIGHT_BF16)
        put_bf16(row, m->inputs, channel, panel);
    else
        put_quantised(type, row, m->inputs, channel, panel);
}

/* ---- parts ---- */

struct pack_job {
    struct packed *part;
    const struct matrix *matrices;
    int n;
    atomic_bool failed;
    atomic_size_t
        broken; /* a row, counted over all matrices from 1, with a number that is not finite */
};

/* A lane's panels: rows of a panel one after the other, while it is in the cache. */
static void pack_panels(struct lane *lane, void *arg)
{
    struct pack_job *job = arg;
    int begin, end;
    lane_share(lane, (job->part->outputs + PANEL - 1) / PANEL, 1, &begin, &end);
    float *row = malloc(job->matrices[0].inputs * sizeof *row);
    if (!row) {
        job->failed = true;
        return;
    }
    size_t r = (size_t)begin * PANEL, last = (size_t)end * PANEL, first = 0;
    for (int i = 0; i < job->n; first += job->matrices[i++].rows)
        for (; r < first + job->matrices[i].rows && r < last; r++) {
            if (!matrix_row_finite(&job->matrices[i], r - first))
                job->broken = r + 1;
            put_row(job->part->type, &job->matrices[i], r - first, r % PANEL, row,
                    (char *)job->part->data + r / PANEL * job->part->panel_bytes);
        }
    free(row);
}

/* Adds n matrices of one type in memory as one part. */
static int add_part(struct linear *l, enum weight_type type, const struct matrix *matrices, int n,
                    struct region *region, struct team *team, struct err *err)
{
    struct packed *part = &l->parts[l->n_parts++];
    size_t outputs = 0;
    for (int i = 0; i < n; i++)
        outputs += matrices[i].rows;
    assert(l->outputs % PANEL == 0);
    size_t size = packed_bytes(type, (int)outputs, l->inputs);
    *part =
        (struct packed){.type = type, .outputs = (int)outputs, .data = region_take(region, size)};
    l->outputs += (int)outputs;
    struct pack_job job = {.part = part, .matrices = matrices, .n = n, .failed = !part->data};
    part->panel_bytes = size / ((outputs + PANEL - 1) / PANEL);
    struct lane alone = {.n = 1};
    if (part->data && team)
        team_run(team, pack_panels, &job);
    else if (part->data)
        pack_panels(&alone, &job);
    size_t r = job.broken;
    for (int i = 0; i < n && r; r -= matrices[i++].rows)
        if (r <= matrices[i].rows)
            return matrix_broken(&matrices[i], r - 1, err);
    return job.failed
               ? err_set(err, ERR_MEMORY, "%s: %zu bytes for its packed weights could not be had",
                         matrices[0].name, size)
               : 0;
}

static enum weight_type type_in_memory(int type, const struct matrix *m)
{
    return type == WEIGHT_STORED ? m->type : (enum weight_type)type;
}

int linear_pack(struct linear *linear, int type, const struct matrix *matrices, int n,
                struct region *region, struct team *team, struct err *err)
{
    *linear = (struct linear){.inputs = (int)matrices[0].inputs};
    for (int i = 0, last; i < n; i = last) {
        enum weight_type this = type_in_memory(type, &matrices[i]);
        for (last = i + 1; last < n && type_in_memory(type, &matrices[last]) == this;)
            last++;
        int rc = add_part(linear, this, matrices + i, last - i, region, team, err);
        if (rc)
            return rc;
    }
    return 0;
}

int linear_pack_gated(struct linear *linear, int type, const struct matrix *matrices,
                      struct region *region, struct team *team, struct err *err)
{
    assert(matrices[0].rows % PANEL == 0 && matrices[0].rows == matrices[1].rows);
    *linear = (struct linear){.inputs = (int)matrices[0].inputs};
    int rc = 0;
    for (int i = 0; i < 2 && !rc; i++)
        rc = add_part(linear, type_in_memory(type, &matrices[i]), matrices + i, 1, region, team,
                      err);
    return rc;
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
static void random_quant(enum weight_type type, char *pair, size_t size, float c, uint64_t *state)
{
    bool q8 = type == WEIGHT_Q8;
    uint64_t odd = q8 ? 0x0101010101010101 : 0x1111111111111111;
    float bias = q8 ? Q8_BIAS : Q4_BIAS;
    uint16_t scale = f16_from_float(c / sqrtf(bias * bias - 1));
    size_t code_bytes = 2 * quant_group_bytes(type), pair_bytes = quant_unit_bytes(type);
    for (char *end = pair + size; pair < end; pair += pair_bytes) {
        for (size_t i = 0; i < code_bytes; i += 8)
            *(uint64_t *)(void *)(pair + i) = next_word(state) | odd;
        for (size_t i = 0; i < 2 * PANEL; i++)
            ((uint16_t *)(void *)(pair + code_bytes))[i] = scale;
    }
}

int linear_random(struct linear *linear, enum weight_type type, int outputs, int inputs,
                  int n_parts, uint64_t seed, struct region *region, struct err *err)
{
    int each = outputs / n_parts;
    assert(inputs % GROUP == 0 && each % PANEL == 0 && outputs % n_parts == 0);
    *linear = (struct linear){.inputs = inputs, .outputs = outputs};
    size_t size = packed_bytes(type, each, inputs), n = (size_t)each * (size_t)inputs;
    uint64_t state = rng_mix(seed) | 1;
    float c = sqrtf(3.0f / (float)inputs);
    for (; linear->n_parts < n_parts; linear->n_parts++) {
        struct packed *part = &linear->parts[linear->n_parts];
        *part =
            (struct packed){type, each, size / (size_t)(each / PANEL), region_take(region, size)};
        if (!part->data)
            return err_set(err, ERR_MEMORY, "%zu MiB for random weights could not be had",
                           size >> 20);
        if (type == WEIGHT_F32)
            random_f32(part->data, n, c, &state);
        else if (type == WEIGHT_BF16)
            random_bf16(part->data, n, c, &state);
        else
            random_quant(type, part->data, size, c, &state);
    }
    return 0;
}
