/* Aligned blocks, regions and arenas. */
#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)

bool size_mul(size_t a, size_t b, size_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

bool size_add(size_t a, size_t b, size_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

void *mem_alloc(size_t size)
{
    void *block = NULL;
    bool huge = size >= 4 * HUGE_PAGE;
    if (size == 0 || posix_memalign(&block, huge ? HUGE_PAGE : MEM_ALIGN, size))
        return NULL;
    if (huge)
        madvise(block, size, MADV_HUGEPAGE); /* a hint: failure costs speed only */
    memset(block, 0, size);
    return block;
}

/* Zeroes of the system's, which take no memory before they are written, in huge pages as far as
 * there are any: passes are several percent faster. NULL when there is no memory. */
static char *map_huge(size_t size, void **map, size_t *mapped)
{
    *mapped = size + HUGE_PAGE;
    *map = mmap(NULL, *mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1, 0);
    if (*map == MAP_FAILED)
        *map = NULL;
    if (!*map)
        return NULL;
    char *base = (char *)*map + -(uintptr_t)*map % HUGE_PAGE;
    madvise(base, size, MADV_HUGEPAGE); /* a hint: failure costs speed only */
    return base;
}

/* At the beginning of the memory that it describes. */
struct region_chunk {
    struct region_chunk *before;
    size_t used, size;
    void *map;
    size_t mapped;
};

static size_t whole_lines(size_t size)
{
    return (size + MEM_ALIGN - 1) & ~(size_t)(MEM_ALIGN - 1);
}

void *region_take(struct region *region, size_t size)
{
    struct region_chunk *c = region->last;
    size_t head = whole_lines(sizeof *c);
    if (size > SIZE_MAX / 2)
        return NULL;
    size = whole_lines(size);
    if (!c || c->size - c->used < size) {
        /* What is not used of so much takes no memory, or less than a huge page. */
        size_t least = 128 * HUGE_PAGE, mapped;
        size_t all = head + size > least ? head + size : least;
        void *map;
        c = (struct region_chunk *)(void *)map_huge(all, &map, &mapped);
        if (!c)
            return NULL;
        *c = (struct region_chunk){region->last, head, all, map, mapped};
        region->last = c;
    }
    c->used += size;
    return (char *)c + c->used - size;
}

void region_release(struct region *region)
{
    for (struct region_chunk *c = region->last, *before; c; c = before) {
        before = c->before;
        munmap(c->map, c->mapped);
    }
    region->last = NULL;
}

size_t mem_available(void)
{
    char line[128];
    size_t kib = SIZE_MAX >> 10;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %zu kB", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib << 10;
}

int arena_init(struct arena *arena, struct err *err)
{
    arena->size = arena->used;
    arena->used = 0;
    /* Sized for the most that can happen at a time. */
    arena->base = map_huge(arena->size, &arena->map, &arena->mapped);
    if (!arena->base)
        return err_set(err, ERR_MEMORY,
                       "%zu MiB of memory could not be had: use a smaller model, batch or context",
                       arena->size >> 20);
    return 0;
}

void arena_release(struct arena *arena)
{
    if (arena->map)
        munmap(arena->map, arena->mapped);
    memset(arena, 0, sizeof *arena);
}

void *arena_take(struct arena *arena, size_t count, size_t size)
{
    size_t bytes, start = arena->used;
    bool fits = size_mul(count, size, &bytes) && size_add(bytes, MEM_ALIGN - 1, &bytes) &&
                size_add(start, bytes & ~(size_t)(MEM_ALIGN - 1), &arena->used);
    assert(fits); /* sizes were checked against the limits of struct config */
    (void)fits;
    if (!arena->base)
        return NULL;
    assert(arena->used <= arena->size);
    return arena->base + start;
}
