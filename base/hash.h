/* FNV-1a: for tables and for telling texts apart, not against who looks for collisions. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_BEGIN 0xcbf29ce484222325u
#define HASH_PRIME 0x100000001b3u

static inline uint64_t hash_bytes(const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    uint64_t hash = HASH_BEGIN;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * HASH_PRIME;
    return hash;
}

/* Goes on from a hash with n words as a whole each; the upper bits of the result are better. */
static inline uint64_t hash_words(uint64_t hash, const int32_t *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (uint32_t)words[i]) * HASH_PRIME;
    return hash;
}

#endif
