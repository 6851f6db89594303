/* Sixteen floats in one AVX-512 register. See v16.h for what each function promises. */
#ifndef MODEL_KERNELS_V16_AVX512_H
#define MODEL_KERNELS_V16_AVX512_H

#include <immintrin.h>
#include <stdint.h>

typedef __m512 v16;

#define V16_INLINE static inline __attribute__((always_inline))

V16_INLINE v16 v16_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

V16_INLINE void v16_store(float *p, v16 a)
{
    _mm512_storeu_ps(p, a);
}

V16_INLINE v16 v16_set(float x)
{
    return _mm512_set1_ps(x);
}

V16_INLINE v16 v16_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}

V16_INLINE v16 v16_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}

V16_INLINE v16 v16_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}

V16_INLINE v16 v16_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}

V16_INLINE v16 v16_sqrt(v16 a)
{
    return _mm512_sqrt_ps(a);
}

V16_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}

V16_INLINE v16 v16_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}

V16_INLINE v16 v16_min(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}

V16_INLINE v16 v16_swap_pairs(v16 a)
{
    return _mm512_permute_ps(a, 0xB1);
}

V16_INLINE v16 v16_load_bf16_half(const uint16_t *p, int odd)
{
    __m512i pairs = _mm512_loadu_si512(p), high = _mm512_set1_epi32((int)0xffff0000);
    return _mm512_castsi512_ps(odd ? _mm512_and_si512(pairs, high) : _mm512_slli_epi32(pairs, 16));
}

V16_INLINE v16 v16_scale_exponent(v16 a, v16 t)
{
    __m512i n = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), n));
}

V16_INLINE v16 v16_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

V16_INLINE float v16_sum(v16 x)
{
    __m256 e = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

V16_INLINE float v16_largest(v16 x)
{
    __m256 e = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

V16_INLINE float v16_magnitude(v16 a, v16 b)
{
    __m512i all = _mm512_max_epu32(_mm512_castps_si512(_mm512_abs_ps(a)),
                                   _mm512_castps_si512(_mm512_abs_ps(b)));
    uint32_t most = _mm512_reduce_max_epu32(all);
    float f;
    __builtin_memcpy(&f, &most, sizeof f);
    return f;
}

typedef __m512i v16i;

V16_INLINE v16i v16_round(v16 a)
{
    return _mm512_cvtps_epi32(a);
}

V16_INLINE void v16i_store_i8(int8_t *p, v16i a)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(a));
}

V16_INLINE v16i v16i_add(v16i a, v16i b)
{
    return _mm512_add_epi32(a, b);
}

V16_INLINE int32_t v16i_sum(v16i a)
{
    return _mm512_reduce_add_epi32(a);
}

V16_INLINE void v16_prefetch(const void *p)
{
    _mm_prefetch(p, _MM_HINT_T0);
}

V16_INLINE void v16_prefetch_far(const void *p)
{
    _mm_prefetch(p, _MM_HINT_T1);
}

V16_INLINE v16i v16i_set(int32_t x)
{
    return _mm512_set1_epi32(x);
}

V16_INLINE v16 v16i_float(v16i a)
{
    return _mm512_cvtepi32_ps(a);
}

V16_INLINE unsigned v16_ge(v16 a, v16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}

V16_INLINE v16 v16_select(unsigned mask, v16 a, v16 b)
{
    return _mm512_mask_blend_ps((__mmask16)mask, b, a);
}

V16_INLINE v16i v16_bits(v16 a)
{
    return _mm512_castps_si512(a);
}

V16_INLINE v16 v16_of_bits(v16i a)
{
    return _mm512_castsi512_ps(a);
}

V16_INLINE v16i v16i_load(const int32_t *p)
{
    return _mm512_loadu_si512(p);
}

V16_INLINE void v16i_store(int32_t *p, v16i a)
{
    _mm512_storeu_si512(p, a);
}

V16_INLINE v16i v16i_sub(v16i a, v16i b)
{
    return _mm512_sub_epi32(a, b);
}

V16_INLINE v16i v16i_mul(v16i a, v16i b)
{
    return _mm512_mullo_epi32(a, b);
}

V16_INLINE v16i v16i_and(v16i a, v16i b)
{
    return _mm512_and_si512(a, b);
}

V16_INLINE v16i v16i_xor(v16i a, v16i b)
{
    return _mm512_xor_si512(a, b);
}

V16_INLINE v16i v16i_shift_right(v16i a, int bits)
{
    return _mm512_srlv_epi32(a, _mm512_set1_epi32(bits));
}

V16_INLINE v16i v16i_load_pairs_i8(const int8_t *p)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
}

V16_INLINE v16i v16i_pair_first(v16i a)
{
    return _mm512_srai_epi32(_mm512_slli_epi32(a, 16), 16);
}

V16_INLINE v16i v16i_pair_second(v16i a)
{
    return _mm512_srai_epi32(a, 16);
}

V16_INLINE v16i v16i_dot_pairs(v16i sum, v16i w, const int16_t *x)
{
    int32_t two;
    __builtin_memcpy(&two, x, sizeof two);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(w, _mm512_set1_epi32(two)));
}

typedef __m512i v64b;

V16_INLINE v64b v64b_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}

V16_INLINE v64b v64b_load_nibbles(const uint8_t *p, int high)
{
    __m512i bytes = _mm512_loadu_si512(p);
    return _mm512_and_si512(high ? _mm512_srli_epi16(bytes, 4) : bytes, _mm512_set1_epi8(15));
}

V16_INLINE v64b v64b_load_5(const uint8_t *p, int high, const uint8_t *bits)
{
    __mmask64 mask;
    __builtin_memcpy(&mask, bits, sizeof mask);
    __m512i low = v64b_load_nibbles(p, high);
    return _mm512_mask_add_epi8(low, mask, low, _mm512_set1_epi8(16));
}

V16_INLINE v64b v64b_load_6(const uint8_t *p, int high, const uint8_t *q, int shift)
{
    __m512i two = _mm512_loadu_si512(q);
    two = shift < 4 ? _mm512_slli_epi16(two, 4 - shift) : _mm512_srli_epi16(two, shift - 4);
    return _mm512_or_si512(v64b_load_nibbles(p, high), _mm512_and_si512(two, _mm512_set1_epi8(48)));
}

#if defined(__AVX512VNNI__)

typedef v64b v64u;

V16_INLINE v64u v64u_of(v64b x)
{
    __asm__("" : "+v"(x)); /* stays in its register, not loaded again for every row */
    return x;
}

typedef __m512i v4s;

V16_INLINE v4s v4s_load(const int8_t *p)
{
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}

V16_INLINE v16i v16i_dot(v16i sum, v64u w, v4s x)
{
    /* Not the intrinsic: gcc 12 copies the sum before each. */
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
}

#else

typedef struct {
    __m512i even, odd; /* bytes 0, 2, 4, ... and 1, 3, 5, ... as 16 bits */
} v64u;

V16_INLINE v64u v64u_of(v64b x)
{
    __m512i low = _mm512_set1_epi16(255);
    return (v64u){_mm512_and_si512(x, low), _mm512_srli_epi16(x, 8)};
}

#define V16_NARROW 1

/* Keeps sums as they are written: gcc 12 would make a tree of them, and put its leaves in memory.
 */
V16_INLINE v16i v16i_in_order(v16i x)
{
    __asm__("" : "+v"(x));
    return x;
}

typedef v16i v16n;

V16_INLINE v16n v16n_dot(v16n sum, v64b w, const int8_t *x)
{
    int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return v16i_in_order(_mm512_add_epi16(sum, _mm512_maddubs_epi16(w, _mm512_set1_epi32(four))));
}

V16_INLINE v16i v16n_madd(v16i sum, v16n x, v16i pairs)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(x, pairs));
}

V16_INLINE v16i v16i_pair_twice(v16i x, int second)
{
    return second ? _mm512_mask_blend_epi16(0x55555555, x, _mm512_srli_epi32(x, 16))
                  : _mm512_mask_blend_epi16(0xaaaaaaaa, x, _mm512_slli_epi32(x, 16));
}

typedef struct {
    __m512i even, odd; /* as in v64u */
} v4s;

V16_INLINE v4s v4s_load(const int16_t *p)
{
    int32_t even, odd;
    __builtin_memcpy(&even, p, sizeof even);
    __builtin_memcpy(&odd, p + 2, sizeof odd);
    return (v4s){_mm512_set1_epi32(even), _mm512_set1_epi32(odd)};
}

V16_INLINE void v16i_store_split(int16_t *p, v16i x)
{
    __m256i words = _mm512_cvtepi32_epi16(x);
    words = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(words, 0xD8), 0xD8);
    _mm256_storeu_si256((__m256i *)p, words);
}

V16_INLINE v16i v16i_dot(v16i sum, v64u w, v4s x)
{
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(w.even, x.even));
    return v16i_in_order(_mm512_add_epi32(sum, _mm512_madd_epi16(w.odd, x.odd)));
}

#endif

#endif
