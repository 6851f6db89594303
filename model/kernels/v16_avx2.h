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

V16_INLINE void v16_load_bf16_pairs(const uint16_t *p, v16 *even, v16 *odd)
{
    __m256i a = _mm256_loadu_si256((const __m256i *)p);
    __m256i b = _mm256_loadu_si256((const __m256i *)(p + 16));
    __m256i high = _mm256_set1_epi32((int)0xffff0000);
    *even = (v16){_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)),
                  _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
    *odd = (v16){_mm256_castsi256_ps(_mm256_and_si256(a, high)),
                 _mm256_castsi256_ps(_mm256_and_si256(b, high))};
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

#endif
