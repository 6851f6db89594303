/* IEEE half-precision floats: 1 sign, 5 exponent, 10 mantissa bits. */
#ifndef WEIGHTS_F16_H
#define WEIGHTS_F16_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline float f16_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    uint32_t bits;
    float f;
    if (exponent == 0) { /* zero and subnormal: mantissa * 2^-24 */
        f = (float)mantissa * 0x1p-24f;
        memcpy(&bits, &f, sizeof bits);
        bits |= sign;
    } else {
        exponent = exponent == 31 ? 255 : exponent + 112;
        bits = sign | exponent << 23 | mantissa << 13;
    }
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Nearest, ties to even; too large becomes infinity, NaN stays NaN. */
static inline uint16_t f16_from_float(float f)
{
    uint32_t bits, sign;
    memcpy(&bits, &f, sizeof bits);
    sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (bits >= 0x477ff000)
        return (uint16_t)(sign | 0x7c00);
    if (bits < 0x38800000) { /* subnormal: adding 1/2 moves the 10 bits to the end and rounds */
        float magnitude;
        memcpy(&magnitude, &bits, sizeof magnitude);
        magnitude += 0.5f;
        memcpy(&bits, &magnitude, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | ((bits - 0x38000000) >> 13));
}

static inline bool f16_finite(uint16_t half)
{
    return (half & 0x7c00) != 0x7c00;
}

#endif
