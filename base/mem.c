/* Aligned blocks and arenas. */
#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

static size_t whole_pages(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (size + page - 1) / page * page;
}

void *mem_map(size_t size)
{
    size = whole_pages(size);
    char *map = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)map % HUGE_PAGE;
    if (before)
        munmap(map, before);
    munmap(map + before + size, HUGE_PAGE - before);
    madvise(map + before, size, MADV_HUGEPAGE); /* a hint: failure costs speed only */
    return map + before;
}

void mem_unmap(void *block, size_t size)
{
    if (block)
        munmap(block, whole_pages(size));
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
    /* Zeroes of the system's, which take no memory before they are written: an arena is sized for
     * the most that can happen at a time. In huge pages, as far as there are any: passes are
     * several percent faster. */
    arena->mapped = arena->size + HUGE_PAGE;
    arena->map = mmap(NULL, arena->mapped, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena->map == MAP_FAILED)
        arena->map = NULL;
    if (arena->map) {
        arena->base = (char *)arena->map + -(uintptr_t)arena->map % HUGE_PAGE;
        madvise(arena->base, arena->size, MADV_HUGEPAGE); /* a hint: failure costs speed only */
    }
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
