/* Sixteen floats in C that any processor runs: four vectors of four, in the vector extensions of
 * gcc and clang, which become the base instruction set of whatever is compiled for (SSE2 on
 * x86-64), with the same roundings as the twins. See v16.h for what each function promises. The
 * lowest byte comes first in memory, as in every file we read. */
#ifndef MODEL_KERNELS_V16_GENERIC_H
#define MODEL_KERNELS_V16_GENERIC_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define V16_INLINE static inline

typedef float f32x4 __attribute__((vector_size(16)));
typedef double f64x2 __attribute__((vector_size(16)));
typedef int16_t i16x8 __attribute__((vector_size(16)));
typedef uint16_t u16x8 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef int64_t i64x2 __attribute__((vector_size(16)));

typedef struct {
    f32x4 a, b, c, d;
} v16;

V16_INLINE v16 v16_load(const float *p)
{
    v16 r;
    memcpy(&r, p, sizeof r);
    return r;
}

V16_INLINE void v16_store(float *p, v16 x)
{
    memcpy(p, &x, sizeof x);
}

V16_INLINE v16 v16_set(float x)
{
    f32x4 all = {x, x, x, x};
    return (v16){all, all, all, all};
}

V16_INLINE v16 v16_add(v16 x, v16 y)
{
    return (v16){x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d};
}

V16_INLINE v16 v16_sub(v16 x, v16 y)
{
    return (v16){x.a - y.a, x.b - y.b, x.c - y.c, x.d - y.d};
}

V16_INLINE v16 v16_mul(v16 x, v16 y)
{
    return (v16){x.a * y.a, x.b * y.b, x.c * y.c, x.d * y.d};
}

V16_INLINE v16 v16_div(v16 x, v16 y)
{
    return (v16){x.a / y.a, x.b / y.b, x.c / y.c, x.d / y.d};
}

/* x where the mask is set, else y. */
V16_INLINE f32x4 f32x4_choose(i32x4 mask, f32x4 x, f32x4 y)
{
    return (f32x4)((mask & (i32x4)x) | (~mask & (i32x4)y));
}

V16_INLINE f32x4 f32x4_max(f32x4 x, f32x4 y)
{
    return f32x4_choose(x > y, x, y);
}

V16_INLINE f32x4 f32x4_min(f32x4 x, f32x4 y)
{
    return f32x4_choose(x < y, x, y);
}

V16_INLINE v16 v16_max(v16 x, v16 y)
{
    return (v16){f32x4_max(x.a, y.a), f32x4_max(x.b, y.b), f32x4_max(x.c, y.c),
                 f32x4_max(x.d, y.d)};
}

V16_INLINE v16 v16_min(v16 x, v16 y)
{
    return (v16){f32x4_min(x.a, y.a), f32x4_min(x.b, y.b), f32x4_min(x.c, y.c),
                 f32x4_min(x.d, y.d)};
}

V16_INLINE f32x4 f32x4_sqrt(f32x4 x)
{
    return (f32x4){sqrtf(x[0]), sqrtf(x[1]), sqrtf(x[2]), sqrtf(x[3])};
}

V16_INLINE v16 v16_sqrt(v16 x)
{
    return (v16){f32x4_sqrt(x.a), f32x4_sqrt(x.b), f32x4_sqrt(x.c), f32x4_sqrt(x.d)};
}

/* ---- the fused multiply-add ---- */

#ifdef __FP_FAST_FMAF /* an instruction of the processor compiled for */

V16_INLINE f32x4 f32x4_fma(f32x4 x, f32x4 y, f32x4 z)
{
    return (f32x4){fmaf(x[0], y[0], z[0]), fmaf(x[1], y[1], z[1]), fmaf(x[2], y[2], z[2]),
                   fmaf(x[3], y[3], z[3])};
}

V16_INLINE v16 v16_fma(v16 x, v16 y, v16 z)
{
    return (v16){f32x4_fma(x.a, y.a, z.a), f32x4_fma(x.b, y.b, z.b), f32x4_fma(x.c, y.c, z.c),
                 f32x4_fma(x.d, y.d, z.d)};
}

#else

V16_INLINE f64x2 f64x2_low(f32x4 x)
{
    return (f64x2){x[0], x[1]};
}

V16_INLINE f64x2 f64x2_high(f32x4 x)
{
    return (f64x2){x[2], x[3]};
}

V16_INLINE f32x4 f32x4_narrow(f64x2 low, f64x2 high)
{
    return (f32x4){(float)low[0], (float)low[1], (float)high[0], (float)high[1]};
}

/* x*y + z rounded to odd: towards zero, and the last bit set if anything was lost. The product of
 * two floats is exact in double; the error of a sum is what the two-sum of Knuth gives. Narrowed to
 * a float, of which it has 29 bits more, such a number is rounded as the exact one would be (Boldo
 * and Melquiond 2008, "Emulation of a FMA and correctly rounded sums"). Of infinities and NaN the
 * error is NaN, neither above nor below 0, and they stay as they are. */
V16_INLINE f64x2 f64x2_fma_odd(f64x2 x, f64x2 y, f64x2 z)
{
    f64x2 product = x * y, sum = product + z, part = sum - product;
    f64x2 error = (product - (sum - part)) + (z - part);
    i64x2 below = error < 0, inexact = below | (error > 0), too_far = inexact & (below ^ (sum < 0));
    return (f64x2)(((i64x2)sum + too_far) | (inexact & 1));
}

V16_INLINE f32x4 f32x4_fma_odd(f32x4 x, f32x4 y, f32x4 z)
{
    return f32x4_narrow(f64x2_fma_odd(f64x2_low(x), f64x2_low(y), f64x2_low(z)),
                        f64x2_fma_odd(f64x2_high(x), f64x2_high(y), f64x2_high(z)));
}

static __attribute__((noinline, cold, unused)) void v16_fma_odd(const v16 *x, const v16 *y, v16 *z)
{
    *z = (v16){f32x4_fma_odd(x->a, y->a, z->a), f32x4_fma_odd(x->b, y->b, z->b),
               f32x4_fma_odd(x->c, y->c, z->c), f32x4_fma_odd(x->d, y->d, z->d)};
}

/* x*y + z rounded twice, to double and to float. That differs from once only where the first
 * rounding ends half-way between two floats, so lanes of *doubt are set where the double's last 29
 * bits are 100...0, or where the float is subnormal or the smallest that is not: there half-way
 * lies elsewhere. What becomes 0 is exact before: then the product cancels z, or z is 0. */
V16_INLINE f32x4 f32x4_fma_twice(f32x4 x, f32x4 y, f32x4 z, i32x4 *doubt)
{
    f64x2 low = f64x2_low(x) * f64x2_low(y) + f64x2_low(z);
    f64x2 high = f64x2_high(x) * f64x2_high(y) + f64x2_high(z);
    f32x4 narrow = f32x4_narrow(low, high);
    i32x4 a = (i32x4)low, b = (i32x4)high, last = {a[0], a[2], b[0], b[2]};
    /* Twice the bits leave out the sign; the rest is an unsigned comparison with signed numbers. */
    i32x4 tiny = (i32x4)((u32x4)narrow * 2 + INT32_MAX) < INT32_MIN + 0x1000000;
    *doubt |= ((last & 0x1fffffff) == 0x10000000) | tiny;
    return narrow;
}

V16_INLINE v16 v16_fma(v16 x, v16 y, v16 z)
{
    i32x4 doubt = {0};
    v16 r = {f32x4_fma_twice(x.a, y.a, z.a, &doubt), f32x4_fma_twice(x.b, y.b, z.b, &doubt),
             f32x4_fma_twice(x.c, y.c, z.c, &doubt), f32x4_fma_twice(x.d, y.d, z.d, &doubt)};
    i64x2 any = (i64x2)doubt;
    if (__builtin_expect((any[0] | any[1]) != 0, 0)) {
        v16 of_x = x, of_y = y; /* copies, so that only here they must stand in memory */
        r = z;
        v16_fma_odd(&of_x, &of_y, &r);
    }
    return r;
}

#endif

V16_INLINE f32x4 f32x4_swap_pairs(f32x4 x)
{
    return (f32x4){x[1], x[0], x[3], x[2]};
}

V16_INLINE v16 v16_swap_pairs(v16 x)
{
    return (v16){f32x4_swap_pairs(x.a), f32x4_swap_pairs(x.b), f32x4_swap_pairs(x.c),
                 f32x4_swap_pairs(x.d)};
}

typedef struct {
    u32x4 a, b, c, d;
} v16u;

V16_INLINE v16 v16_load_bf16_half(const uint16_t *p, int odd)
{
    v16u w;
    const uint32_t high = 0xffff0000;
    memcpy(&w, p, sizeof w);
    return odd ? (v16){(f32x4)(w.a & high), (f32x4)(w.b & high), (f32x4)(w.c & high),
                       (f32x4)(w.d & high)}
               : (v16){(f32x4)(w.a << 16), (f32x4)(w.b << 16), (f32x4)(w.c << 16),
                       (f32x4)(w.d << 16)};
}

V16_INLINE f32x4 f32x4_scale_exponent(f32x4 x, f32x4 t)
{
    return (f32x4)((u32x4)x + ((u32x4)t << 23));
}

V16_INLINE v16 v16_scale_exponent(v16 x, v16 t)
{
    return (v16){f32x4_scale_exponent(x.a, t.a), f32x4_scale_exponent(x.b, t.b),
                 f32x4_scale_exponent(x.c, t.c), f32x4_scale_exponent(x.d, t.d)};
}

/* Exponent and mantissa stand in the places of a float's, the exponent by 112 too low, which a
 * product mends, of subnormal numbers too; that of infinities and NaN becomes the largest. */
V16_INLINE f32x4 f32x4_load_f16(const uint16_t *p)
{
    u32x4 half = {p[0], p[1], p[2], p[3]}, rest = half & 0x7fff;
    f32x4 scaled = (f32x4)(rest << 13) * 0x1p112f;
    u32x4 endless = (u32x4)((i32x4)rest >= 0x7c00) & 0x7f800000;
    return (f32x4)((u32x4)scaled | endless | (half & 0x8000) << 16);
}

V16_INLINE v16 v16_load_f16(const uint16_t *p)
{
    return (v16){f32x4_load_f16(p), f32x4_load_f16(p + 4), f32x4_load_f16(p + 8),
                 f32x4_load_f16(p + 12)};
}

V16_INLINE float v16_sum(v16 x)
{
    f32x4 s = (x.a + x.c) + (x.b + x.d);
    return (s[0] + s[2]) + (s[1] + s[3]);
}

V16_INLINE float v16_largest(v16 x)
{
    f32x4 s = f32x4_max(f32x4_max(x.a, x.c), f32x4_max(x.b, x.d));
    s = f32x4_max(s, (f32x4){s[2], s[3], s[2], s[3]});
    return s[0] > s[1] ? s[0] : s[1];
}

/* Both without their signs: as whole numbers in the same order as the floats. */
V16_INLINE i32x4 i32x4_magnitude(f32x4 x, f32x4 y)
{
    i32x4 a = (i32x4)x & INT32_MAX, b = (i32x4)y & INT32_MAX, more = a > b;
    return (more & a) | (~more & b);
}

V16_INLINE float v16_magnitude(v16 x, v16 y)
{
    f32x4 a = (f32x4)i32x4_magnitude(x.a, x.b), b = (f32x4)i32x4_magnitude(x.c, x.d);
    f32x4 c = (f32x4)i32x4_magnitude(y.a, y.b), d = (f32x4)i32x4_magnitude(y.c, y.d);
    f32x4 most = (f32x4)i32x4_magnitude((f32x4)i32x4_magnitude(a, b), (f32x4)i32x4_magnitude(c, d));
    most = (f32x4)i32x4_magnitude(most, (f32x4){most[2], most[3], most[2], most[3]});
    most = (f32x4)i32x4_magnitude(most, (f32x4){most[1], most[1], most[1], most[1]});
    return most[0];
}

/* ---- whole numbers ---- */

typedef struct {
    i32x4 a, b, c, d;
} v16i;

/* From 2^23 on floats are whole; below, adding that much of the same sign rounds. */
V16_INLINE i32x4 i32x4_round(f32x4 x)
{
    i32x4 sign = (i32x4)x & INT32_MIN, small = ((i32x4)x & INT32_MAX) < 0x4b000000;
    f32x4 big = (f32x4)(sign | 0x4b000000);
    return __builtin_convertvector(f32x4_choose(small, (x + big) - big, x), i32x4);
}

V16_INLINE v16i v16_round(v16 x)
{
    return (v16i){i32x4_round(x.a), i32x4_round(x.b), i32x4_round(x.c), i32x4_round(x.d)};
}

V16_INLINE void v16i_store_i8(int8_t *p, v16i x)
{
    int32_t all[16];
    memcpy(all, &x, sizeof all);
    for (int i = 0; i < 16; i++)
        p[i] = (int8_t)all[i];
}

V16_INLINE int32_t v16i_sum(v16i x)
{
    i32x4 s = x.a + x.b + x.c + x.d;
    return s[0] + s[1] + s[2] + s[3];
}

V16_INLINE v16i v16i_set(int32_t x)
{
    i32x4 all = {x, x, x, x};
    return (v16i){all, all, all, all};
}

V16_INLINE f32x4 f32x4_whole(i32x4 x)
{
    return (f32x4){(float)x[0], (float)x[1], (float)x[2], (float)x[3]};
}

V16_INLINE v16 v16i_float(v16i x)
{
    return (v16){f32x4_whole(x.a), f32x4_whole(x.b), f32x4_whole(x.c), f32x4_whole(x.d)};
}

/* ---- masks and bits ---- */

V16_INLINE unsigned f32x4_ge(f32x4 x, f32x4 y)
{
    u32x4 bits = (u32x4)(x >= y) & (u32x4){1, 2, 4, 8};
    return bits[0] | bits[1] | bits[2] | bits[3];
}

V16_INLINE unsigned v16_ge(v16 x, v16 y)
{
    return f32x4_ge(x.a, y.a) | f32x4_ge(x.b, y.b) << 4 | f32x4_ge(x.c, y.c) << 8 |
           f32x4_ge(x.d, y.d) << 12;
}

V16_INLINE f32x4 f32x4_select(unsigned mask, f32x4 x, f32x4 y)
{
    i32x4 all = {(int32_t)mask, (int32_t)mask, (int32_t)mask, (int32_t)mask};
    return f32x4_choose((all & (i32x4){1, 2, 4, 8}) != 0, x, y);
}

V16_INLINE v16 v16_select(unsigned mask, v16 x, v16 y)
{
    return (v16){f32x4_select(mask, x.a, y.a), f32x4_select(mask >> 4, x.b, y.b),
                 f32x4_select(mask >> 8, x.c, y.c), f32x4_select(mask >> 12, x.d, y.d)};
}

V16_INLINE v16i v16_bits(v16 x)
{
    return (v16i){(i32x4)x.a, (i32x4)x.b, (i32x4)x.c, (i32x4)x.d};
}

V16_INLINE v16 v16_of_bits(v16i x)
{
    return (v16){(f32x4)x.a, (f32x4)x.b, (f32x4)x.c, (f32x4)x.d};
}

V16_INLINE v16i v16i_load(const int32_t *p)
{
    v16i r;
    memcpy(&r, p, sizeof r);
    return r;
}

V16_INLINE void v16i_store(int32_t *p, v16i x)
{
    memcpy(p, &x, sizeof x);
}

/* Unsigned, where overflow is defined. */
#define V16I_EACH(name, operator)                                                                  \
    V16_INLINE v16i name(v16i x, v16i y)                                                           \
    {                                                                                              \
        return (v16i){                                                                             \
            (i32x4)((u32x4)x.a operator(u32x4) y.a), (i32x4)((u32x4)x.b operator(u32x4) y.b),      \
            (i32x4)((u32x4)x.c operator(u32x4) y.c), (i32x4)((u32x4)x.d operator(u32x4) y.d)};     \
    }

V16I_EACH(v16i_add, +)
V16I_EACH(v16i_sub, -)
V16I_EACH(v16i_mul, *)
V16I_EACH(v16i_and, &)
V16I_EACH(v16i_xor, ^)

V16_INLINE v16i v16i_shift_right(v16i x, int bits)
{
    return (v16i){(i32x4)((u32x4)x.a >> bits), (i32x4)((u32x4)x.b >> bits),
                  (i32x4)((u32x4)x.c >> bits), (i32x4)((u32x4)x.d >> bits)};
}

typedef v16u v64b; /* four bytes a lane */

V16_INLINE v64b v64b_load(const uint8_t *p)
{
    v64b r;
    memcpy(&r, p, sizeof r);
    return r;
}

typedef v64b v64u;

V16_INLINE v64u v64u_of(v64b x)
{
    return x;
}

V16_INLINE v64b v64b_load_nibbles(const uint8_t *p, int high)
{
    v64b w = v64b_load(p);
    const uint32_t low = 0x0f0f0f0f;
    const int shift = high ? 4 : 0;
    return (v64b){w.a >> shift & low, w.b >> shift & low, w.c >> shift & low, w.d >> shift & low};
}

V16_INLINE v64b v64b_load_5(const uint8_t *p, int high, const uint8_t *bits)
{
    uint32_t above[16];
    for (int i = 0; i < 16; i++) {
        uint32_t four = (uint32_t)(bits[i / 2] >> (i % 2 * 4));
        above[i] = (four & 1) << 4 | (four & 2) << 11 | (four & 4) << 18 | (four & 8) << 25;
    }
    v64b w = v64b_load_nibbles(p, high), a = v64b_load((const uint8_t *)above);
    return (v64b){w.a | a.a, w.b | a.b, w.c | a.c, w.d | a.d};
}

V16_INLINE v64b v64b_load_6(const uint8_t *p, int high, const uint8_t *q, int shift)
{
    v64b w = v64b_load_nibbles(p, high), a = v64b_load(q);
    const uint32_t two = 0x03030303;
    return (v64b){w.a | (a.a >> shift & two) << 4, w.b | (a.b >> shift & two) << 4,
                  w.c | (a.c >> shift & two) << 4, w.d | (a.d >> shift & two) << 4};
}

V16_INLINE v16i v16i_load_pairs_i8(const int8_t *p)
{
    int16_t wide[32];
    v16i r;
    for (int i = 0; i < 32; i++)
        wide[i] = p[i];
    memcpy(&r, wide, sizeof r);
    return r;
}

V16_INLINE v16i v16i_pair_second(v16i x)
{
    return (v16i){x.a >> 16, x.b >> 16, x.c >> 16, x.d >> 16};
}

V16_INLINE v16i v16i_pair_first(v16i x)
{
    return v16i_pair_second((v16i){(i32x4)((u32x4)x.a << 16), (i32x4)((u32x4)x.b << 16),
                                   (i32x4)((u32x4)x.c << 16), (i32x4)((u32x4)x.d << 16)});
}

V16_INLINE v16i v16i_dot_pairs(v16i sum, v16i w, const int16_t *x)
{
    v16i first = v16i_mul(v16i_pair_first(w), v16i_set(x[0]));
    v16i second = v16i_mul(v16i_pair_second(w), v16i_set(x[1]));
    return v16i_add(sum, v16i_add(first, second));
}

typedef struct {
    i16x8 even, odd; /* bytes 0 and 2, and 1 and 3, as 16 bits, in each lane of 32 */
} v4s;

V16_INLINE v4s v4s_load(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    i32x4 all = {four, four, four, four};
    return (v4s){(i16x8)((u16x8)all << 8) >> 8, (i16x8)all >> 8};
}

/* Each lane's two numbers of 16 bits, added up. */
V16_INLINE i32x4 i32x4_add_pairs(i16x8 pairs)
{
    return ((i32x4)((u32x4)pairs << 16) >> 16) + ((i32x4)pairs >> 16);
}

/* A product of an unsigned and a signed byte has 16 bits. */
V16_INLINE i32x4 i32x4_dot(i32x4 sum, u32x4 w, v4s x)
{
    i16x8 even = (i16x8)(w & 0x00ff00ff) * x.even, odd = (i16x8)((u16x8)w >> 8) * x.odd;
    return sum + i32x4_add_pairs(even) + i32x4_add_pairs(odd);
}

V16_INLINE v16i v16i_dot(v16i sum, v64u w, v4s x)
{
    return (v16i){i32x4_dot(sum.a, w.a, x), i32x4_dot(sum.b, w.b, x), i32x4_dot(sum.c, w.c, x),
                  i32x4_dot(sum.d, w.d, x)};
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
