/* Sixteen floats: what every kernel is written in. A kernel's file includes one of v16_avx512.h,
 * v16_avx2.h, v16_generic.h and then this; all three do the same roundings in the same order, so
 * the kernels give the same bits on every path, and the tests hold them to it.
 *
 *   load, store         16 floats, any alignment
 *   add sub mul div sqrt max min     per lane; max and min give b when the comparison is false
 *   fma(a, b, c)        a*b + c rounded once
 *   swap_pairs          lanes 0 1 2 3 ... become 1 0 3 2 ...
 *   load_bf16_half(p, odd)  of 16 pairs of bf16 values the first, or the second, widened to floats
 *   scale_exponent(a,t) a * 2^n, where n stands in the low bits of t's mantissa
 *   load_f16            16 f16 values widened to floats
 *   sum, largest        of the lanes: halves are joined pairwise, 16 to 8 to 4 to 2 to 1
 *   magnitude(a, b)     the largest absolute value; a NaN counts as larger than all
 *   round               to the nearest whole numbers, ties to even; less than 2^31 in size
 *   ge(a, b)            a bit per lane where a >= b, lane 0 the lowest
 *   select(mask, a, b)  a where the lane's bit is 1, else b
 *   bits, of_bits       the same bits as v16i, and back
 *
 * And whole numbers: v16i, sixteen of 32 bits; v64b, sixty-four bytes; v64u, the same in the form
 * that products want; v4s, four signed bytes.
 *
 *   v16i_add sub mul and xor     per lane, modulo 2^32; v16i_shift_right fills with zeros
 *   v16i_store_i8       as bytes; the numbers must lie within -127..127
 *   v16i_load_pairs_i8  16 pairs of signed bytes, each pair widened to two times 16 bits
 *   v16i_pair_first, second      of such pairs, widened to 32 bits
 *   v16i_dot_pairs(s, w, x)      lane i: s + first of w's pair times x[0] + second times x[1]
 *   v64b_load_nibbles   the low (0) or the high halves (1) of 64 bytes
 *   v64b_load_5(p, h, bits)      the same, and above each the bit of its index
 *   v64b_load_6(p, h, q, s)      the same, and above each bits s and s + 1 of its byte at q
 *   v16i_dot(s, w, x)   lane i: s + the sum over j of w[4 i + j] x[j]
 *
 * Where V16_NARROW is 1, v4s is loaded from four numbers of 16 bits in the order 0, 2, 1, 3, which
 * v16i_store_split writes, and products of codes of at most six bits are quicker to add up in 16
 * bits:
 *
 *   v16n_dot(s, w, x)   lane i: a pair of 16 bits: s plus w[4 i] x[0] + w[4 i + 1] x[1], and plus
 *                       w[4 i + 2] x[2] + w[4 i + 3] x[3]; nothing may overflow
 *   v16n_madd(s, n, m)  lane i: s + both of n's pair, each times that of the pair m
 *   v16i_pair_twice(x, k)        the first (0) or the second (1) of each pair, twice
 *
 *   v16_prefetch           a hint that the cache line at p will be read; v16_prefetch_far: not so
 * soon */
#ifndef MODEL_KERNELS_V16_H
#define MODEL_KERNELS_V16_H

#include "model/kernels/kernels.h"

#ifndef V16_NARROW
#define V16_NARROW 0
#endif

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

/* The natural logarithm of a normal number above 0, with an error below 3 ulp, near 1 too. The
 * mantissa lies in sqrt(1/2)..sqrt(2); log(1 + f) = 2 atanh(f / (2 + f)) by its series. */
V16_INLINE v16 v16_log(v16 x)
{
    /* The difference of 1 and sqrt(1/2) in bits lifts the exponent of mantissas above sqrt(2). */
    v16i bits = v16_bits(x), lifted = v16i_add(bits, v16i_set(0x3f800000 - 0x3f3504f3));
    v16i exponent = v16i_and(lifted, v16i_set((int32_t)0xff800000));
    v16 n = v16i_float(v16i_sub(v16i_shift_right(exponent, 23), v16i_set(127)));
    v16 m = v16_of_bits(v16i_add(v16i_sub(bits, exponent), v16i_set(0x3f800000)));
    v16 f = v16_sub(m, v16_set(1.0f));
    v16 s = v16_div(f, v16_add(f, v16_set(2.0f))), s2 = v16_mul(s, s);
    v16 p = v16_set(2.0f / 9);
    p = v16_fma(p, s2, v16_set(2.0f / 7));
    p = v16_fma(p, s2, v16_set(2.0f / 5));
    p = v16_fma(p, s2, v16_set(2.0f / 3));
    p = v16_mul(v16_mul(p, s2), s);
    p = v16_fma(n, v16_set(0x1.7f7d1cp-20f), p);
    p = v16_fma(s, v16_set(2.0f), p);
    return v16_fma(n, v16_set(0x1.62e400p-1f), p);
}

/* 1 / (1 + e^-x) */
V16_INLINE v16 v16_sigmoid(v16 x)
{
    v16 e = v16_exp(v16_sub(v16_set(0.0f), x));
    return v16_div(v16_set(1.0f), v16_add(v16_set(1.0f), e));
}

#endif
