/* Memory for numbers: overflow-checked sizes, aligned zeroed blocks, and an arena that carves one
 * block into named pieces. Any thread; an arena belongs to one owner. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MEM_ALIGN 64 /* a cache line, and one AVX-512 vector */

/* product = a * b (or sum = a + b); false when it does not fit in size_t. */
bool size_mul(size_t a, size_t b, size_t *product);
bool size_add(size_t a, size_t b, size_t *sum);

/* A zeroed block aligned to MEM_ALIGN (large ones to 2 MiB, with huge pages asked for), freed
 * with free(). NULL when memory ran out or size is 0. */
void *mem_alloc(size_t size);

/* Blocks for as long as their owner lives, in huge pages where the system has them: small ones
 * share. Begin with a zeroed one. */
struct region {
    struct region_chunk *last;
};

/* A zeroed block aligned to MEM_ALIGN. It takes memory only where it is used, and whoever writes
 * first gets that. NULL when memory ran out. */
void *region_take(struct region *region, size_t size);
void region_release(struct region *region);

/* Bytes that the system could give without swapping (MemAvailable), SIZE_MAX where it doesn't say.
 * Limits of a container are not seen. */
size_t mem_available(void);

/* One block, many pieces. Use it in two passes with the same calls: with a zeroed arena the pieces
 * are NULL and only `used` grows; arena_init then allocates and the second pass hands them out. */
struct arena {
    char *base;
    size_t used;
    size_t size;
    void *map; /* the system's, in which base stands aligned to a huge page */
    size_t mapped;
};

/* Allocates a.used bytes for a second pass. ERR_MEMORY. */
int arena_init(struct arena *arena, struct err *err);
void arena_release(struct arena *arena);

/* count elements of `size` bytes each, aligned to MEM_ALIGN; NULL in the counting pass. */
void *arena_take(struct arena *arena, size_t count, size_t size);

#endif
