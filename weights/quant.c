/* Quantising rows of weights, and reading them back. */
#include "weights/quant.h"

#include <math.h>
#include <string.h>

#include "weights/f16.h"

static const char *const type_names[WEIGHT_TYPES] = {"f32",  "bf16", "f16",  "q8",   "q4",
                                                     "q4_1", "q5_0", "q5_1", "q2_k", "q3_k",
                                                     "q4_k", "q5_k", "q6_k"};

const char *weight_type_name(enum weight_type type)
{
    return type_names[type];
}

int weight_type_parse(const char *name, int *type, struct err *err)
{
    *type = WEIGHT_STORED;
    if (!strcmp(name, "stored"))
        return 0;
    static const enum weight_type choices[] = {WEIGHT_F32, WEIGHT_BF16, WEIGHT_Q8, WEIGHT_Q4};
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++)
        if (!strcmp(name, type_names[ *type = (int)choices[i]]))
            return 0;
    return err_set(err, ERR_INVALID,
                   "the type of weights is '%.20s', but must be one of " WEIGHT_TYPE_NAMES, name);
}

/* The scale of q8 is that of the largest magnitude. That of q4 gives the value of the largest
 * magnitude the code 0, because codes reach one further below the bias than above. */
static uint16_t group_scale(enum weight_type type, const float *w, size_t n)
{
    float most = 0;
    for (size_t k = 0; k < n; k++)
        most = fabsf(w[k]) > fabsf(most) ? w[k] : most;
    return f16_from_float(type == WEIGHT_Q8 ? fabsf(most) / 127 : most / -Q4_BIAS);
}

void quant_group(enum weight_type type, const float *w, size_t n, uint8_t *codes, uint16_t *scale)
{
    int bias = type == WEIGHT_Q8 ? Q8_BIAS : Q4_BIAS;
    float low = type == WEIGHT_Q8 ? 1 : 0, high = (float)(2 * bias - 1);
    *scale = group_scale(type, w, n);
    float unit = f16_to_float(*scale);
    for (size_t k = 0; k < GROUP; k++) {
        float code = (float)bias;
        if (k < n && unit != 0)
            code += rintf(w[k] / unit);
        codes[k] = (uint8_t)(code > low ? code < high ? code : high : low); /* NaN becomes low */
    }
}

void quant_row(enum weight_type type, const float *w, size_t inputs, uint8_t *bytes,
               uint16_t *scales)
{
    for (size_t at = 0; at < inputs; at += GROUP) {
        uint8_t codes[GROUP];
        quant_group(type, w + at, inputs - at < GROUP ? inputs - at : GROUP, codes, scales++);
        for (size_t k = 0; k < (type == WEIGHT_Q8 ? GROUP : GROUP / 2); k++)
            *bytes++ = type == WEIGHT_Q8 ? codes[k] : (uint8_t)(codes[k] | codes[k + 16] << 4);
    }
}

void quant_row_floats(enum weight_type type, const uint8_t *bytes, const uint16_t *scales,
                      size_t inputs, float *w)
{
    for (size_t k = 0; k < inputs; k++) {
        size_t g = k / GROUP, i = k % GROUP;
        int code;
        if (type == WEIGHT_Q8)
            code = bytes[k] - Q8_BIAS;
        else if (i < 16)
            code = (bytes[g * 16 + i] & 15) - Q4_BIAS;
        else
            code = (bytes[g * 16 + i - 16] >> 4) - Q4_BIAS;
        w[k] = (float)code * f16_to_float(scales[g]);
    }
}
