/* Sixteen floats in plain C, with the same rounding as the vector twins: fmaf where they fuse, and
 * max and min that return the second operand when the comparison fails, as the instructions do. See
 * v16.h for what each function promises. */
#ifndef MODEL_KERNELS_V16_GENERIC_H
#define MODEL_KERNELS_V16_GENERIC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "weights/f16.h"

typedef struct {
    float f[16];
} v16;

#define V16_INLINE static inline

V16_INLINE v16 v16_load(const float *p)
{
    v16 r;
    memcpy(r.f, p, sizeof r.f);
    return r;
}

V16_INLINE void v16_store(float *p, v16 a)
{
    memcpy(p, a.f, sizeof a.f);
}

V16_INLINE v16 v16_set(float x)
{
    v16 r;
    for (int i = 0; i < 16; i++)
        r.f[i] = x;
    return r;
}

V16_INLINE v16 v16_add(v16 a, v16 b)
{
    for (int i = 0; i < 16; i++)
        a.f[i] = a.f[i] + b.f[i];
    return a;
}

V16_INLINE v16 v16_sub(v16 a, v16 b)
{
    for (int i = 0; i < 16; i++)
        a.f[i] = a.f[i] - b.f[i];
    return a;
}

V16_INLINE v16 v16_mul(v16 a, v16 b)
{
    for (int i = 0; i < 16; i++)
        a.f[i] = a.f[i] * b.f[i];
    return a;
}

V16_INLINE v16 v16_div(v16 a, v16 b)
{
    for (int i = 0; i < 16; i++)
        a.f[i] = a.f[i] / b.f[i];
    return a;
}

V16_INLINE v16 v16_max(v16 a, v16 b)
{
    for (int i = 0; i < 16; i++)
        a.f[i] = a.f[i] > b.f[i] ? a.f[i] : b.f[i];
    return a;
}

V16_INLINE v16 v16_min(v16 a, v16 b)
{
    for (int i = 0; i < 16; i++)
        a.f[i] = a.f[i] < b.f[i] ? a.f[i] : b.f[i];
    return a;
}

V16_INLINE v16 v16_sqrt(v16 a)
{
    for (int i = 0; i < 16; i++)
        a.f[i] = sqrtf(a.f[i]);
    return a;
}

V16_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
    for (int i = 0; i < 16; i++)
        a.f[i] = fmaf(a.f[i], b.f[i], c.f[i]);
    return a;
}

V16_INLINE v16 v16_swap_pairs(v16 a)
{
    v16 r;
    for (int i = 0; i < 16; i++)
        r.f[i] = a.f[i ^ 1];
    return r;
}

V16_INLINE void v16_load_bf16_pairs(const uint16_t *p, v16 *even, v16 *odd)
{
    for (int i = 0; i < 16; i++) {
        uint32_t a = (uint32_t)p[2 * i] << 16, b = (uint32_t)p[2 * i + 1] << 16;
        memcpy(&even->f[i], &a, sizeof a);
        memcpy(&odd->f[i], &b, sizeof b);
    }
}

V16_INLINE v16 v16_scale_exponent(v16 a, v16 t)
{
    for (int i = 0; i < 16; i++) {
        uint32_t bits, n;
        memcpy(&bits, &a.f[i], sizeof bits);
        memcpy(&n, &t.f[i], sizeof n);
        bits += n << 23;
        memcpy(&a.f[i], &bits, sizeof bits);
    }
    return a;
}

V16_INLINE v16 v16_load_f16(const uint16_t *p)
{
    v16 r;
    for (int i = 0; i < 16; i++)
        r.f[i] = f16_to_float(p[i]);
    return r;
}

V16_INLINE float v16_sum(v16 a)
{
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            a.f[i] += a.f[i + half];
    return a.f[0];
}

V16_INLINE float v16_largest(v16 a)
{
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            a.f[i] = a.f[i] > a.f[i + half] ? a.f[i] : a.f[i + half];
    return a.f[0];
}

V16_INLINE float v16_magnitude(v16 a, v16 b)
{
    uint32_t most = 0;
    for (int i = 0; i < 32; i++) {
        uint32_t bits;
        memcpy(&bits, i < 16 ? &a.f[i] : &b.f[i - 16], sizeof bits);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    float f;
    memcpy(&f, &most, sizeof f);
    return f;
}

typedef struct {
    int32_t i[16];
} v16i;

V16_INLINE v16i v16_round(v16 a)
{
    v16i r;
    for (int i = 0; i < 16; i++)
        r.i[i] = (int32_t)rintf(a.f[i]);
    return r;
}

V16_INLINE void v16i_store_i8(int8_t *p, v16i a)
{
    for (int i = 0; i < 16; i++)
        p[i] = (int8_t)a.i[i];
}

V16_INLINE v16i v16i_add(v16i a, v16i b)
{
    for (int i = 0; i < 16; i++)
        a.i[i] = (int32_t)((uint32_t)a.i[i] + (uint32_t)b.i[i]);
    return a;
}

V16_INLINE int32_t v16i_sum(v16i a)
{
    int32_t sum = 0;
    for (int i = 0; i < 16; i++)
        sum += a.i[i];
    return sum;
}

V16_INLINE v16i v16i_set(int32_t x)
{
    v16i r;
    for (int i = 0; i < 16; i++)
        r.i[i] = x;
    return r;
}

V16_INLINE v16 v16i_float(v16i a)
{
    v16 r;
    for (int i = 0; i < 16; i++)
        r.f[i] = (float)a.i[i];
    return r;
}

V16_INLINE unsigned v16_ge(v16 a, v16 b)
{
    unsigned mask = 0;
    for (int i = 0; i < 16; i++)
        mask |= (unsigned)(a.f[i] >= b.f[i]) << i;
    return mask;
}

V16_INLINE v16 v16_select(unsigned mask, v16 a, v16 b)
{
    for (int i = 0; i < 16; i++)
        a.f[i] = mask >> i & 1 ? a.f[i] : b.f[i];
    return a;
}

V16_INLINE v16i v16_bits(v16 a)
{
    v16i r;
    memcpy(r.i, a.f, sizeof r.i);
    return r;
}

V16_INLINE v16 v16_of_bits(v16i a)
{
    v16 r;
    memcpy(r.f, a.i, sizeof r.f);
    return r;
}

V16_INLINE v16i v16i_load(const int32_t *p)
{
    v16i r;
    memcpy(r.i, p, sizeof r.i);
    return r;
}

V16_INLINE void v16i_store(int32_t *p, v16i a)
{
    memcpy(p, a.i, sizeof a.i);
}

V16_INLINE v16i v16i_sub(v16i a, v16i b)
{
    for (int i = 0; i < 16; i++)
        a.i[i] = (int32_t)((uint32_t)a.i[i] - (uint32_t)b.i[i]);
    return a;
}

V16_INLINE v16i v16i_mul(v16i a, v16i b)
{
    for (int i = 0; i < 16; i++)
        a.i[i] = (int32_t)((uint32_t)a.i[i] * (uint32_t)b.i[i]);
    return a;
}

V16_INLINE v16i v16i_and(v16i a, v16i b)
{
    for (int i = 0; i < 16; i++)
        a.i[i] &= b.i[i];
    return a;
}

V16_INLINE v16i v16i_xor(v16i a, v16i b)
{
    for (int i = 0; i < 16; i++)
        a.i[i] ^= b.i[i];
    return a;
}

V16_INLINE v16i v16i_shift_right(v16i a, int bits)
{
    for (int i = 0; i < 16; i++)
        a.i[i] = (int32_t)((uint32_t)a.i[i] >> bits);
    return a;
}

typedef struct {
    uint8_t b[64];
} v64u;

V16_INLINE v64u v64u_load(const uint8_t *p)
{
    v64u r;
    memcpy(r.b, p, sizeof r.b);
    return r;
}

V16_INLINE v64u v64u_load_nibbles(const uint8_t *p, int high)
{
    v64u r;
    for (int i = 0; i < 64; i++)
        r.b[i] = high ? p[i] >> 4 : p[i] & 15;
    return r;
}

typedef const int8_t *v4s;

V16_INLINE v4s v4s_load(const int8_t *p)
{
    return p;
}

V16_INLINE v16i v16i_dot(v16i sum, v64u w, v4s x)
{
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 4; j++)
            sum.i[i] += w.b[4 * i + j] * x[j];
    return sum;
}

V16_INLINE void v16_prefetch(const void *p)
{
    __builtin_prefetch(p);
}

V16_INLINE void v16_prefetch_far(const void *p)
{
    __builtin_prefetch(p, 0, 2);
}

#endif
