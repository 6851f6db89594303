/* Bump allocation in blocks. */
#include "text/template_pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Each piece stands alone where the address sanitizer is to see what lies around it. */
#if defined(__SANITIZE_ADDRESS__)
#define BLOCK 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BLOCK 0
#endif
#endif
#ifndef BLOCK
#define BLOCK ((size_t)64 << 10)
#endif
#define ALIGN 16

struct pool_block {
    struct pool_block *before;
    char pad[ALIGN - sizeof(struct pool_block *)];
    char data[];
};

static bool new_block(struct pool *pool, size_t size)
{
    size_t room = size > BLOCK ? size : BLOCK;
    struct pool_block *block = calloc(1, sizeof *block + room);
    if (!block)
        return false;
    block->before = pool->blocks;
    pool->blocks = block;
    pool->at = block->data;
    pool->left = room;
    return true;
}

void *pool_take(struct pool *pool, size_t count, size_t size)
{
    size_t bytes;
    if (!size_mul(count, size, &bytes) || bytes > pool->limit - pool->total) {
        pool->full = true;
        return NULL;
    }
    bytes = bytes ? (bytes + ALIGN - 1) / ALIGN * ALIGN : ALIGN;
    if (bytes > pool->left && !new_block(pool, bytes))
        return NULL;
    char *taken = pool->at;
    pool->at += bytes;
    pool->left -= bytes;
    pool->total = bytes > pool->limit - pool->total ? pool->limit : pool->total + bytes;
    return taken;
}

void pool_release(struct pool *pool)
{
    while (pool->blocks) {
        struct pool_block *before = pool->blocks->before;
        free(pool->blocks);
        pool->blocks = before;
    }
    memset(pool, 0, sizeof *pool);
}
