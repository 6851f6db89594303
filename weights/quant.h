/* Quantised matrices as files hold them. GROUP inputs of an output share a scale; a weight is
 * scale * (code - bias), the last group filled up with weights of 0. A matrix NAME (outputs,
 * inputs) with G = ceil(inputs / GROUP) groups per output is two tensors:
 *
 *     NAME         U8   (outputs, G * 32)   q8: a code from 1 to 255 per input, bias 128
 *                  U8   (outputs, G * 16)   q4: codes from 0 to 15, bias 8; byte i of a group holds
 *                                           input i in its low half and input i + 16 in its high
 * one NAME.scale   F16  (outputs, G)
 *
 * Pure functions; any thread. */
#ifndef WEIGHTS_QUANT_H
#define WEIGHTS_QUANT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define GROUP 32
#define Q8_BIAS 128
#define Q4_BIAS 8

enum weight_type {
    WEIGHT_F32,
    WEIGHT_BF16,
    WEIGHT_F16,
    WEIGHT_Q8, /* also GGUF's Q8_0 */
    WEIGHT_Q4, /* also GGUF's Q4_0 */
    WEIGHT_Q4_1,
    WEIGHT_Q5_0,
    WEIGHT_Q5_1,
    WEIGHT_Q2_K,
    WEIGHT_Q3_K,
    WEIGHT_Q4_K,
    WEIGHT_Q5_K,
    WEIGHT_Q6_K,
    WEIGHT_TYPES
};
#define WEIGHT_STORED (-1) /* where a type may be chosen: as in the file */
#define WEIGHT_TYPE_NAMES "stored|f32|bf16|q8|q4"

/* One of WEIGHT_TYPE_NAMES to a type or WEIGHT_STORED. ERR_INVALID. */
int weight_type_parse(const char *name, int *type, struct err *err);
const char *weight_type_name(enum weight_type type);

static inline int quant_groups(int inputs)
{
    return (inputs + GROUP - 1) / GROUP;
}

/* Quantises a group of n <= GROUP weights to q8 or q4: codes[GROUP] and, as f16, the scale. Weights
 * that were read from such a group come out with the same codes and scale. */
void quant_group(enum weight_type type, const float *w, size_t n, uint8_t *codes, uint16_t *scale);

/* One output's row of `inputs` floats to the bytes and scales of a file, and back. */
void quant_row(enum weight_type type, const float *w, size_t inputs, uint8_t *bytes,
               uint16_t *scales);
void quant_row_floats(enum weight_type type, const uint8_t *bytes, const uint16_t *scales,
                      size_t inputs, float *w);

/* Bytes of a row in a file. */
static inline size_t quant_row_bytes(enum weight_type type, size_t inputs)
{
    return (size_t)quant_groups((int)inputs) * (type == WEIGHT_Q8 ? GROUP : GROUP / 2);
}

#endif
