/* Sixteen floats: what every kernel is written in. A kernel's file includes one of v16_avx512.h,
 * v16_avx2.h, v16_generic.h and then this; all three do the same roundings in the same order, so
 * the kernels give the same bits on every path, and the tests hold them to it.
 *
 *   load, store         16 floats, any alignment
 *   add sub mul div sqrt max min     per lane; max and min give b when the comparison is false
 *   fma(a, b, c)        a*b + c rounded once
 *   swap_pairs          lanes 0 1 2 3 ... become 1 0 3 2 ...
 *   load_bf16_pairs     16 pairs of bf16 values widened to floats: the first of each, the second
 *   scale_exponent(a,t) a * 2^n, where n stands in the low bits of t's mantissa
 *   load_f16            16 f16 values widened to floats
 *   sum, largest        of the lanes: halves are joined pairwise, 16 to 8 to 4 to 2 to 1
 *   magnitude(a, b)     the largest absolute value; a NaN counts as larger than all
 *   round               to the nearest whole numbers, ties to even; less than 2^22 in size
 *
 * And whole numbers: v16i, sixteen of 32 bits; v64u, sixty-four bytes; v4s, four signed bytes.
 *
 *   v16i_store_i8       as bytes; the numbers must lie within -127..127
 *   v64u_load_nibbles   the low or the high halves of 64 bytes
 *   v16i_dot(s, w, x)   lane i: s + the sum over j of w[4 i + j] x[j]
 *   v16_prefetch           a hint that the cache line at p will be read; v16_prefetch_far: not so
 * soon */
#ifndef MODEL_KERNELS_V16_H
#define MODEL_KERNELS_V16_H

#include "model/kernels/kernels.h"

/* Asks for the next few lines of what is to come. */
V16_INLINE void prefetch_lines(struct prefetch *prefetch, int lines)
{
    for (; lines > 0 && prefetch->at < prefetch->end; lines--, prefetch->at += 64)
        v16_prefetch_far(prefetch->at);
}

/* e^x with an error below 2 ulp; x is clamped to where the result is a normal number, so
 * exp(-infinity) gives about 1e-38, not 0. Cody-Waite reduction, then the Taylor
 * polynomial of degree 7 on |r| <= ln(2)/2. */
V16_INLINE v16 v16_exp(v16 x)
{
    x = v16_min(v16_max(x, v16_set(-87.0f)), v16_set(88.0f));
    /* Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low mantissa bits. */
    v16 t = v16_fma(x, v16_set(0x1.715476p+0f), v16_set(0x1.8p23f));
    v16 n = v16_sub(t, v16_set(0x1.8p23f));
    v16 r = v16_fma(n, v16_set(-0x1.62e400p-1f), x);
    r = v16_fma(n, v16_set(-0x1.7f7d1cp-20f), r);
    v16 p = v16_set(1.0f / 5040);
    p = v16_fma(p, r, v16_set(1.0f / 720));
    p = v16_fma(p, r, v16_set(1.0f / 120));
    p = v16_fma(p, r, v16_set(1.0f / 24));
    p = v16_fma(p, r, v16_set(1.0f / 6));
    p = v16_fma(p, r, v16_set(0.5f));
    p = v16_fma(p, r, v16_set(1.0f));
    p = v16_fma(p, r, v16_set(1.0f));
    return v16_scale_exponent(p, t);
}

/* 1 / (1 + e^-x) */
V16_INLINE v16 v16_sigmoid(v16 x)
{
    v16 e = v16_exp(v16_sub(v16_set(0.0f), x));
    return v16_div(v16_set(1.0f), v16_add(v16_set(1.0f), e));
}

#endif
