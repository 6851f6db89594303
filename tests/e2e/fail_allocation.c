/* Preloaded into a server by test_faults.py: lets one allocation fail. FAIL_ALLOCATION names a file
 * of two longs that both map: the first counts allocations down, the one that takes it from 1 to 0
 * fails; the second counts those that failed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static _Atomic long *shared; /* NULL: nothing fails */

static void *(*real_malloc)(size_t), *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);

/* dlsym may allocate before it is known what with. */
static char early[1 << 16];
static size_t early_used;

__attribute__((constructor)) static void open_shared(void)
{
    const char *path = getenv("FAIL_ALLOCATION");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *at = fd < 0 ? MAP_FAILED
                      : mmap(NULL, 2 * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED)
        shared = at;
}

static int fails(void)
{
    if (!shared || atomic_load(&shared[0]) <= 0 || atomic_fetch_sub(&shared[0], 1) != 1)
        return 0;
    atomic_fetch_add(&shared[1], 1);
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    if (!real_malloc)
        real_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    return fails() ? NULL : real_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    static int looking;
    if (!real_calloc && looking) { /* by dlsym */
        void *to = early + early_used;
        early_used += (n * size + 15) & ~(size_t)15;
        return early_used <= sizeof early ? to : NULL;
    }
    looking = 1;
    if (!real_calloc)
        real_calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
    return fails() ? NULL : real_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    if (!real_realloc)
        real_realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    return fails() ? NULL : real_realloc(old, size);
}
