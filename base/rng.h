/* Random numbers without state: each is a function of (seed, stream, index), so that a value does
 * not depend on what was drawn before it, by whom, or in which order. Any thread. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

/* The finaliser of splitmix64 (Steele, Lea, Flood 2014), applied once per key word. */
static inline uint64_t rng_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* 64 random bits. */
static inline uint64_t rng_bits(uint64_t seed, uint64_t stream, uint64_t index)
{
    return rng_mix(rng_mix(rng_mix(seed) ^ stream) ^ index);
}

/* Uniform in the open interval (0, 1). */
static inline double rng_uniform(uint64_t seed, uint64_t stream, uint64_t index)
{
    return ((double)(rng_bits(seed, stream, index) >> 11) + 0.5) * 0x1p-53;
}

/* Uniform in 0..n-1, for n well below 2^32. */
static inline uint64_t rng_below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t n)
{
    return (uint64_t)(((__uint128_t)rng_bits(seed, stream, index) * n) >> 64);
}

#endif
