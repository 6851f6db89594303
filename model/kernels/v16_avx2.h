/* Sixteen floats in two AVX registers. See v16.h for what each function promises. */
#ifndef MODEL_KERNELS_V16_AVX2_H
#define MODEL_KERNELS_V16_AVX2_H

#include <immintrin.h>
#include <stdint.h>

typedef struct {
    __m256 a, b;
} v16;

#define V16_INLINE static inline __attribute__((always_inline))

V16_INLINE v16 v16_load(const float *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

V16_INLINE void v16_store(float *p, v16 x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}

V16_INLINE v16 v16_set(float x)
{
    return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

V16_INLINE v16 v16_add(v16 x, v16 y)
{
    return (v16){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}

V16_INLINE v16 v16_sub(v16 x, v16 y)
{
    return (v16){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}

V16_INLINE v16 v16_mul(v16 x, v16 y)
{
    return (v16){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}

V16_INLINE v16 v16_div(v16 x, v16 y)
{
    return (v16){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}

V16_INLINE v16 v16_max(v16 x, v16 y)
{
    return (v16){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}

V16_INLINE v16 v16_min(v16 x, v16 y)
{
    return (v16){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}

V16_INLINE v16 v16_sqrt(v16 x)
{
    return (v16){_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)};
}

V16_INLINE v16 v16_fma(v16 x, v16 y, v16 z)
{
    return (v16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}

V16_INLINE v16 v16_swap_pairs(v16 x)
{
    return (v16){_mm256_permute_ps(x.a, 0xB1), _mm256_permute_ps(x.b, 0xB1)};
}

V16_INLINE v16 v16_load_bf16_half(const uint16_t *p, int odd)
{
    if (odd)
        __asm__("" : "+r"(p)); /* loaded once more: there are no registers to keep it in */
    __m256i a = _mm256_loadu_si256((const __m256i *)p);
    __m256i b = _mm256_loadu_si256((const __m256i *)(p + 16));
    __m256i high = _mm256_set1_epi32((int)0xffff0000);
    return odd ? (v16){_mm256_castsi256_ps(_mm256_and_si256(a, high)),
                       _mm256_castsi256_ps(_mm256_and_si256(b, high))}
               : (v16){_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)),
                       _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
}

V16_INLINE __m256 v8_scale_exponent(__m256 a, __m256 t)
{
    __m256i n = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), n));
}

V16_INLINE v16 v16_scale_exponent(v16 x, v16 t)
{
    return (v16){v8_scale_exponent(x.a, t.a), v8_scale_exponent(x.b, t.b)};
}

V16_INLINE v16 v16_load_f16(const uint16_t *p)
{
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}

V16_INLINE float v16_sum(v16 x)
{
    __m256 e = _mm256_add_ps(x.a, x.b);
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

V16_INLINE float v16_largest(v16 x)
{
    __m256 e = _mm256_max_ps(x.a, x.b);
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

V16_INLINE float v16_magnitude(v16 x, v16 y)
{
    __m256i digits = _mm256_set1_epi32(0x7fffffff);
    __m256i a = _mm256_max_epu32(_mm256_and_si256(_mm256_castps_si256(x.a), digits),
                                 _mm256_and_si256(_mm256_castps_si256(x.b), digits));
    __m256i b = _mm256_max_epu32(_mm256_and_si256(_mm256_castps_si256(y.a), digits),
                                 _mm256_and_si256(_mm256_castps_si256(y.b), digits));
    a = _mm256_max_epu32(a, b);
    __m128i c = _mm_max_epu32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    c = _mm_max_epu32(c, _mm_shuffle_epi32(c, 0x4E));
    c = _mm_max_epu32(c, _mm_shuffle_epi32(c, 0xB1));
    return _mm_cvtss_f32(_mm_castsi128_ps(c));
}

typedef struct {
    __m256i a, b;
} v16i;

V16_INLINE v16i v16_round(v16 x)
{
    return (v16i){_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)};
}

V16_INLINE void v16i_store_i8(int8_t *p, v16i x)
{
    __m256i words = _mm256_packs_epi32(x.a, x.b);
    words = _mm256_permute4x64_epi64(words, 0xD8);
    __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)p, bytes);
}

V16_INLINE v16i v16i_add(v16i x, v16i y)
{
    return (v16i){_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}

V16_INLINE int32_t v16i_sum(v16i x)
{
    __m256i all = _mm256_add_epi32(x.a, x.b);
    __m128i c = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    c = _mm_add_epi32(c, _mm_shuffle_epi32(c, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(c, _mm_shuffle_epi32(c, 0xB1)));
}

V16_INLINE v16i v16i_set(int32_t x)
{
    return (v16i){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}

V16_INLINE v16 v16i_float(v16i x)
{
    return (v16){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
}

V16_INLINE unsigned v16_ge(v16 x, v16 y)
{
    unsigned a = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ));
    return a | (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)) << 8;
}

V16_INLINE v16 v16_select(unsigned mask, v16 x, v16 y)
{
    __m256i all = _mm256_set1_epi32((int)mask);
    __m256i a = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128), b = _mm256_slli_epi32(a, 8);
    a = _mm256_cmpeq_epi32(_mm256_and_si256(all, a), a);
    b = _mm256_cmpeq_epi32(_mm256_and_si256(all, b), b);
    return (v16){_mm256_blendv_ps(y.a, x.a, _mm256_castsi256_ps(a)),
                 _mm256_blendv_ps(y.b, x.b, _mm256_castsi256_ps(b))};
}

V16_INLINE v16i v16_bits(v16 x)
{
    return (v16i){_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)};
}

V16_INLINE v16 v16_of_bits(v16i x)
{
    return (v16){_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)};
}

V16_INLINE v16i v16i_load(const int32_t *p)
{
    return (v16i){_mm256_loadu_si256((const __m256i *)p),
                  _mm256_loadu_si256((const __m256i *)(p + 8))};
}

V16_INLINE void v16i_store(int32_t *p, v16i x)
{
    _mm256_storeu_si256((__m256i *)p, x.a);
    _mm256_storeu_si256((__m256i *)(p + 8), x.b);
}

V16_INLINE v16i v16i_sub(v16i x, v16i y)
{
    return (v16i){_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)};
}

V16_INLINE v16i v16i_mul(v16i x, v16i y)
{
    return (v16i){_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)};
}

V16_INLINE v16i v16i_and(v16i x, v16i y)
{
    return (v16i){_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)};
}

V16_INLINE v16i v16i_xor(v16i x, v16i y)
{
    return (v16i){_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)};
}

V16_INLINE v16i v16i_shift_right(v16i x, int bits)
{
    __m256i n = _mm256_set1_epi32(bits);
    return (v16i){_mm256_srlv_epi32(x.a, n), _mm256_srlv_epi32(x.b, n)};
}

V16_INLINE v16i v16i_load_pairs_i8(const int8_t *p)
{
    return (v16i){_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)),
                  _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p + 16)))};
}

V16_INLINE v16i v16i_pair_first(v16i x)
{
    return (v16i){_mm256_srai_epi32(_mm256_slli_epi32(x.a, 16), 16),
                  _mm256_srai_epi32(_mm256_slli_epi32(x.b, 16), 16)};
}

V16_INLINE v16i v16i_pair_second(v16i x)
{
    return (v16i){_mm256_srai_epi32(x.a, 16), _mm256_srai_epi32(x.b, 16)};
}

V16_INLINE v16i v16i_dot_pairs(v16i sum, v16i w, const int16_t *x)
{
    int32_t two;
    __builtin_memcpy(&two, x, sizeof two);
    __m256i pair = _mm256_set1_epi32(two);
    return (v16i){_mm256_add_epi32(sum.a, _mm256_madd_epi16(w.a, pair)),
                  _mm256_add_epi32(sum.b, _mm256_madd_epi16(w.b, pair))};
}

V16_INLINE __m256i v32_nibbles(const uint8_t *p, int high)
{
    __m256i bytes = _mm256_loadu_si256((const __m256i *)p);
    return _mm256_and_si256(high ? _mm256_srli_epi16(bytes, 4) : bytes, _mm256_set1_epi8(15));
}

/* 16 in each of 32 bytes whose bit is set. */
V16_INLINE __m256i v32_fifth(const uint8_t *bits)
{
    int32_t all;
    __builtin_memcpy(&all, bits, sizeof all);
    __m256i from =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(all), from);
    __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
    return _mm256_and_si256(set, _mm256_set1_epi8(16));
}

V16_INLINE __m256i v32_upper_two(const uint8_t *q, int shift)
{
    __m256i two = _mm256_loadu_si256((const __m256i *)q);
    two = shift < 4 ? _mm256_slli_epi16(two, 4 - shift) : _mm256_srli_epi16(two, shift - 4);
    return _mm256_and_si256(two, _mm256_set1_epi8(48));
}

typedef struct {
    __m256i a, b;
} v64b;

V16_INLINE v64b v64b_load(const uint8_t *p)
{
    return (v64b){_mm256_loadu_si256((const __m256i *)p),
                  _mm256_loadu_si256((const __m256i *)(p + 32))};
}

V16_INLINE v64b v64b_load_nibbles(const uint8_t *p, int high)
{
    return (v64b){v32_nibbles(p, high), v32_nibbles(p + 32, high)};
}

V16_INLINE v64b v64b_load_5(const uint8_t *p, int high, const uint8_t *bits)
{
    return (v64b){_mm256_or_si256(v32_nibbles(p, high), v32_fifth(bits)),
                  _mm256_or_si256(v32_nibbles(p + 32, high), v32_fifth(bits + 4))};
}

V16_INLINE v64b v64b_load_6(const uint8_t *p, int high, const uint8_t *q, int shift)
{
    return (v64b){_mm256_or_si256(v32_nibbles(p, high), v32_upper_two(q, shift)),
                  _mm256_or_si256(v32_nibbles(p + 32, high), v32_upper_two(q + 32, shift))};
}

#if defined(__AVXVNNI__)

typedef v64b v64u;

V16_INLINE v64u v64u_of(v64b x)
{
    __asm__("" : "+x"(x.a), "+x"(x.b)); /* stays in its registers, not loaded for every row */
    return x;
}

typedef __m256i v4s;

V16_INLINE v4s v4s_load(const int8_t *p)
{
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
}

V16_INLINE v16i v16i_dot(v16i sum, v64u w, v4s x)
{
    /* Not the intrinsic: gcc 12 copies the sum before each. */
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum.a) : "x"(w.a), "x"(x));
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum.b) : "x"(w.b), "x"(x));
    return sum;
}

#else

typedef struct {
    v16i even, odd; /* bytes 0, 2, 4, ... and 1, 3, 5, ... as 16 bits */
} v64u;

V16_INLINE v64u v64u_of(v64b x)
{
    __m256i low = _mm256_set1_epi16(255);
    return (v64u){{_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low)},
                  {_mm256_srli_epi16(x.a, 8), _mm256_srli_epi16(x.b, 8)}};
}

#define V16_NARROW 1

/* Keeps sums as they are written: gcc 12 would make a tree of them, and put its leaves in memory.
 */
V16_INLINE v16i v16i_in_order(v16i x)
{
    __asm__("" : "+x"(x.a), "+x"(x.b));
    return x;
}

typedef v16i v16n;

V16_INLINE v16n v16n_dot(v16n sum, v64b w, const int8_t *x)
{
    int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    __m256i bytes = _mm256_set1_epi32(four);
    return v16i_in_order((v16i){_mm256_add_epi16(sum.a, _mm256_maddubs_epi16(w.a, bytes)),
                                _mm256_add_epi16(sum.b, _mm256_maddubs_epi16(w.b, bytes))});
}

V16_INLINE v16i v16n_madd(v16i sum, v16n x, v16i pairs)
{
    return (v16i){_mm256_add_epi32(sum.a, _mm256_madd_epi16(x.a, pairs.a)),
                  _mm256_add_epi32(sum.b, _mm256_madd_epi16(x.b, pairs.b))};
}

V16_INLINE __m256i v8i_twice(__m256i x, int second)
{
    return second ? _mm256_or_si256(_mm256_srli_epi32(x, 16),
                                    _mm256_slli_epi32(_mm256_srli_epi32(x, 16), 16))
                  : _mm256_or_si256(_mm256_slli_epi32(x, 16),
                                    _mm256_srli_epi32(_mm256_slli_epi32(x, 16), 16));
}

V16_INLINE v16i v16i_pair_twice(v16i x, int second)
{
    return (v16i){v8i_twice(x.a, second), v8i_twice(x.b, second)};
}

typedef struct {
    __m256i even, odd; /* as in v64u */
} v4s;

V16_INLINE v4s v4s_load(const int16_t *p)
{
    int32_t even, odd;
    __builtin_memcpy(&even, p, sizeof even);
    __builtin_memcpy(&odd, p + 2, sizeof odd);
    return (v4s){_mm256_set1_epi32(even), _mm256_set1_epi32(odd)};
}

V16_INLINE void v16i_store_split(int16_t *p, v16i x)
{
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xD8);
    words = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(words, 0xD8), 0xD8);
    _mm256_storeu_si256((__m256i *)p, words);
}

V16_INLINE v16i v16i_dot(v16i sum, v64u w, v4s x)
{
    __m256i a =
        _mm256_add_epi32(_mm256_madd_epi16(w.even.a, x.even), _mm256_madd_epi16(w.odd.a, x.odd));
    __m256i b =
        _mm256_add_epi32(_mm256_madd_epi16(w.even.b, x.even), _mm256_madd_epi16(w.odd.b, x.odd));
    return v16i_in_order((v16i){_mm256_add_epi32(sum.a, a), _mm256_add_epi32(sum.b, b)});
}

#endif

V16_INLINE void v16_prefetch(const void *p)
{
    _mm_prefetch(p, _MM_HINT_T0);
}

V16_INLINE void v16_prefetch_far(const void *p)
{
    _mm_prefetch(p, _MM_HINT_T1);
}

#endif
