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

V16_INLINE void v16_load_bf16_pairs(const uint16_t *p, v16 *even, v16 *odd)
{
    __m512i pairs = _mm512_loadu_si512(p);
    *even = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    *odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
}

V16_INLINE v16 v16_scale_exponent(v16 a, v16 t)
{
    __m512i n = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), n));
}

#endif
