/* The blocks of quantised GGUF tensors, as they lie in the file, taken apart into whole-number
 * codes, scales and minima without any rounding: whoever multiplies with them multiplies with what
 * the file says. Layouts: ggml-common.h and ggml-quants.c of llama.cpp, by whose names they go.
 *
 *               inputs  bytes   a weight is
 *     Q4_0          32     18   d (q - 8)                 q 4 bits, d f16
 *     Q4_1          32     20   d q + m                   m f16
 *     Q5_0          32     22   d (q - 16)                q 5 bits
 *     Q5_1          32     24   d q + m
 *     Q8_0          32     34   d (q - 128)               q 8 bits (in the file: signed, q - 128)
 *     Q2_K         256     84   d s q - n m               q 2 bits; s, m 4 bits per 16
 *     Q3_K         256    110   d s (q - 4)               q 3 bits; s 6 bits per 16, signed
 *     Q4_K         256    144   d s q - n m               q 4 bits; s, m 6 bits per 32
 *     Q5_K         256    176   d s q - n m               q 5 bits
 *     Q6_K         256    210   d s (q - 32)              q 6 bits; s 8 bits per 16, signed
 *
 * Pure functions; any thread. */
#ifndef WEIGHTS_BLOCK_H
#define WEIGHTS_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weights/quant.h"

#define BLOCK_MOST 256

/* What a type looks like. */
struct block_format {
    int inputs;    /* of a block: 32 or 256; 1 for types that are not quantised */
    int bytes;     /* of a block, or of a value, in a GGUF file */
    int code_bits; /* 0 for types that are not quantised */
    int bias;      /* what codes lie above, where there are no minima */
    bool minimum;  /* groups have minima */
    int sub_group; /* inputs that share a scale s; 0 where a block has one scale */
};
const struct block_format *block_format(enum weight_type type);

/* Whether the f16 numbers of a block, its scale and minimum, are finite. */
bool block_finite(enum weight_type type, const uint8_t *bytes);

/* One block. Where a block has one scale (inputs 32) only codes, d and n are set, n being m. */
struct code_block {
    uint8_t codes[BLOCK_MOST];
    int8_t scale[16], minimum[16]; /* s and m of each sub-group; m and s of Q4_K fit as they are */
    uint16_t d, n;                 /* f16 */
};

/* The type of GGUF's number, or -1. */
int block_type_of_ggml(uint32_t ggml_type);
/* GGUF's name of its number, for sentences; "unknown". */
const char *block_ggml_name(uint32_t ggml_type);

void block_read(enum weight_type type, const uint8_t *bytes, struct code_block *block);
/* Its weights as floats: d s first, then times the code, as ggml does. */
void block_floats(enum weight_type type, const struct code_block *block, float *w);

#endif
