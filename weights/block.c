/* GGUF's blocks: see block.h. */
#include "weights/block.h"

#include <assert.h>
#include <string.h>

#include "weights/f16.h"

static const struct block_format formats[WEIGHT_TYPES] = {
    [WEIGHT_F32] = {1, 4, 0, 0, false, 0},        [WEIGHT_BF16] = {1, 2, 0, 0, false, 0},
    [WEIGHT_F16] = {1, 2, 0, 0, false, 0},        [WEIGHT_Q8] = {32, 34, 8, Q8_BIAS, false, 0},
    [WEIGHT_Q4] = {32, 18, 4, Q4_BIAS, false, 0}, [WEIGHT_Q4_1] = {32, 20, 4, 0, true, 0},
    [WEIGHT_Q5_0] = {32, 22, 5, 16, false, 0},    [WEIGHT_Q5_1] = {32, 24, 5, 0, true, 0},
    [WEIGHT_Q2_K] = {256, 84, 4, 0, true, 16},    [WEIGHT_Q3_K] = {256, 110, 4, 4, false, 16},
    [WEIGHT_Q4_K] = {256, 144, 4, 0, true, 32},   [WEIGHT_Q5_K] = {256, 176, 5, 0, true, 32},
    [WEIGHT_Q6_K] = {256, 210, 6, 32, false, 16},
};

const struct block_format *block_format(enum weight_type type)
{
    return &formats[type];
}

static const struct {
    uint32_t number;
    int type; /* -1: known by name only */
    const char *name;
} ggml_types[] = {
    {0, WEIGHT_F32, "F32"},
    {1, WEIGHT_F16, "F16"},
    {2, WEIGHT_Q4, "Q4_0"},
    {3, WEIGHT_Q4_1, "Q4_1"},
    {6, WEIGHT_Q5_0, "Q5_0"},
    {7, WEIGHT_Q5_1, "Q5_1"},
    {8, WEIGHT_Q8, "Q8_0"},
    {9, -1, "Q8_1"},
    {10, WEIGHT_Q2_K, "Q2_K"},
    {11, WEIGHT_Q3_K, "Q3_K"},
    {12, WEIGHT_Q4_K, "Q4_K"},
    {13, WEIGHT_Q5_K, "Q5_K"},
    {14, WEIGHT_Q6_K, "Q6_K"},
    {15, -1, "Q8_K"},
    {16, -1, "IQ2_XXS"},
    {17, -1, "IQ2_XS"},
    {18, -1, "IQ3_XXS"},
    {19, -1, "IQ1_S"},
    {20, -1, "IQ4_NL"},
    {21, -1, "IQ3_S"},
    {22, -1, "IQ2_S"},
    {23, -1, "IQ4_XS"},
    {24, -1, "I8"},
    {25, -1, "I16"},
    {26, -1, "I32"},
    {27, -1, "I64"},
    {28, -1, "F64"},
    {29, -1, "IQ1_M"},
    {30, WEIGHT_BF16, "BF16"},
    {34, -1, "TQ1_0"},
    {35, -1, "TQ2_0"},
    {39, -1, "MXFP4"},
};

int block_type_of_ggml(uint32_t number)
{
    for (size_t i = 0; i < sizeof ggml_types / sizeof *ggml_types; i++)
        if (ggml_types[i].number == number)
            return ggml_types[i].type;
    return -1;
}

const char *block_ggml_name(uint32_t number)
{
    for (size_t i = 0; i < sizeof ggml_types / sizeof *ggml_types; i++)
        if (ggml_types[i].number == number)
            return ggml_types[i].name;
    return "unknown";
}

static uint16_t half(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

/* ---- blocks of 32 ---- */

/* Byte i holds input i in its low half and input i + 16 in its high. */
static void nibbles(const uint8_t *bytes, uint8_t *codes)
{
    for (int i = 0; i < 16; i++) {
        codes[i] = bytes[i] & 15;
        codes[i + 16] = bytes[i] >> 4;
    }
}

/* Bit i of four bytes is the fifth bit of input i. */
static void fifth_bits(const uint8_t *bits, uint8_t *codes)
{
    for (int i = 0; i < 32; i++)
        codes[i] = (uint8_t)(codes[i] | (bits[i / 8] >> i % 8 & 1) << 4);
}

static void read_32(enum weight_type type, const uint8_t *bytes, struct code_block *b)
{
    bool minimum = formats[type].minimum;
    b->d = half(bytes);
    bytes += 2;
    if (minimum) {
        b->n = half(bytes);
        bytes += 2;
    }
    if (type == WEIGHT_Q8) {
        for (int i = 0; i < 32; i++)
            b->codes[i] = bytes[i] ^ 0x80; /* two's complement plus 128 */
        return;
    }
    bool five = formats[type].code_bits == 5;
    nibbles(bytes + (five ? 4 : 0), b->codes);
    if (five)
        fifth_bits(bytes, b->codes);
}

/* ---- blocks of 256 ---- */

/* Scales and minima of Q4_K and Q5_K, 6 bits each in 12 bytes: those of groups 0..3 whole, with
 * the upper two bits of groups 4..7 above them. */
static void scales_6(const uint8_t *bytes, struct code_block *b)
{
    for (int g = 0; g < 4; g++) {
        b->scale[g] = (int8_t)(bytes[g] & 63);
        b->minimum[g] = (int8_t)(bytes[g + 4] & 63);
        b->scale[g + 4] = (int8_t)((bytes[g + 8] & 15) | bytes[g] >> 6 << 4);
        b->minimum[g + 4] = (int8_t)(bytes[g + 8] >> 4 | bytes[g + 4] >> 6 << 4);
    }
}

/* d, n, scales, [32 bytes: bit j of byte i is the fifth bit of input 32 j + i], 128 bytes: groups
 * 2j and 2j + 1 in the low and high halves of 32. */
static void read_q4_k(enum weight_type type, const uint8_t *bytes, struct code_block *b)
{
    const uint8_t *high = bytes + 16, *low = type == WEIGHT_Q5_K ? high + 32 : high;
    b->d = half(bytes);
    b->n = half(bytes + 2);
    scales_6(bytes + 4, b);
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 32; i++) {
            b->codes[64 * j + i] = low[32 * j + i] & 15;
            b->codes[64 * j + 32 + i] = low[32 * j + i] >> 4;
        }
    for (int j = 0; j < 8 && type == WEIGHT_Q5_K; j++)
        for (int i = 0; i < 32; i++)
            b->codes[32 * j + i] |= (uint8_t)((high[i] >> j & 1) << 4);
}

/* 128 bytes of lower and 64 of upper bits, 16 scales, d. Each half of 128 inputs: input i in byte
 * i % 64 of its lower ones, low nibble first; its upper bits in byte i % 32, at 2 (i / 32). */
static void read_q6_k(const uint8_t *bytes, struct code_block *b)
{
    memcpy(b->scale, bytes + 192, 16);
    b->d = half(bytes + 208);
    for (int h = 0; h < 2; h++) {
        const uint8_t *low = bytes + 64 * h, *high = bytes + 128 + 32 * h;
        uint8_t *codes = b->codes + 128 * h;
        for (int i = 0; i < 64; i++) {
            codes[i] = low[i] & 15;
            codes[64 + i] = low[i] >> 4;
        }
        for (int j = 0; j < 4; j++)
            for (int i = 0; i < 32; i++)
                codes[32 * j + i] |= (uint8_t)((high[i] >> 2 * j & 3) << 4);
    }
}

/* Two-bit codes: each half of 128 inputs in 32 bytes, input i at bits 2 (i / 32) of byte i % 32. */
static int two_bits(const uint8_t *bytes, int i)
{
    return bytes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}

/* 16 bytes of scales (low nibbles) and minima, 64 of codes, d, n. */
static void read_q2_k(const uint8_t *bytes, struct code_block *b)
{
    b->d = half(bytes + 80);
    b->n = half(bytes + 82);
    for (int g = 0; g < 16; g++) {
        b->scale[g] = (int8_t)(bytes[g] & 15);
        b->minimum[g] = (int8_t)(bytes[g] >> 4);
    }
    for (int i = 0; i < 256; i++)
        b->codes[i] = (uint8_t)two_bits(bytes + 16, i);
}

/* 32 bytes of third bits (bit j of byte i: input 32 j + i), 64 of lower bits, 12 of scales, d.
 * Scales: the lower nibbles of 0..7 and 8..15 share bytes, their upper two bits the last four. */
static void read_q3_k(const uint8_t *bytes, struct code_block *b)
{
    const uint8_t *scales = bytes + 96;
    b->d = half(bytes + 108);
    for (int g = 0; g < 16; g++) {
        int low = scales[g % 8] >> (g / 8 * 4) & 15, high = scales[8 + g % 4] >> (g / 4 * 2) & 3;
        b->scale[g] = (int8_t)((low | high << 4) - 32);
    }
    for (int i = 0; i < 256; i++)
        b->codes[i] = (uint8_t)(two_bits(bytes + 32, i) | (bytes[i % 32] >> i / 32 & 1) << 2);
}

void block_read(enum weight_type type, const uint8_t *bytes, struct code_block *b)
{
    switch (type) {
    case WEIGHT_Q2_K:
        read_q2_k(bytes, b);
        break;
    case WEIGHT_Q3_K:
        read_q3_k(bytes, b);
        break;
    case WEIGHT_Q4_K:
    case WEIGHT_Q5_K:
        read_q4_k(type, bytes, b);
        break;
    case WEIGHT_Q6_K:
        read_q6_k(bytes, b);
        break;
    default:
        assert(formats[type].inputs == 32);
        read_32(type, bytes, b);
    }
}

bool block_finite(enum weight_type type, const uint8_t *bytes)
{
    static const int places[WEIGHT_TYPES] = {
        [WEIGHT_Q2_K] = 80, [WEIGHT_Q3_K] = 108, [WEIGHT_Q6_K] = 208}; /* else they come first */
    const uint8_t *d = bytes + places[type];
    return f16_finite(half(d)) && (!formats[type].minimum || f16_finite(half(d + 2)));
}

void block_floats(enum weight_type type, const struct code_block *b, float *w)
{
    const struct block_format *f = &formats[type];
    float d = f16_to_float(b->d), n = f->minimum ? f16_to_float(b->n) : 0;
    for (int i = 0; i < f->inputs; i++) {
        int code = b->codes[i] - f->bias;
        if (!f->sub_group)
            w[i] = d * (float)code + n;
        else if (f->minimum)
            w[i] = d * (float)b->scale[i / f->sub_group] * (float)code -
                   n * (float)b->minimum[i / f->sub_group];
        else
            w[i] = d * (float)b->scale[i / f->sub_group] * (float)code;
    }
}
