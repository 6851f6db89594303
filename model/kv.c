/* Key/value memory. */
#include "model/kv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "weights/bf16.h"

static size_t element(enum weight_type type)
{
    return type == WEIGHT_F32 ? sizeof(float) : sizeof(uint16_t);
}

int kv_type_parse(const char *name, enum weight_type *type, struct err *err)
{
    *type = name && !strcmp(name, "f32") ? WEIGHT_F32 : WEIGHT_BF16;
    if (name && strcmp(name, weight_type_name(*type)) != 0)
        return err_set(err, ERR_INVALID, "'%s' is no type of keys and values: use %s", name,
                       KV_TYPE_NAMES);
    return 0;
}

size_t kv_position_bytes(const struct config *config, int n_blocks, enum weight_type type)
{
    size_t head = (size_t)config->head_dim + attention_value_stride(config->head_dim);
    return (size_t)n_blocks * (size_t)config->n_kv_heads * head * element(type);
}

/* ---- the pool ---- */

int kv_pool_init(struct kv_pool *pool, const struct config *config, int n_blocks, int n_pages,
                 enum weight_type type, struct err *err)
{
    assert(type == WEIGHT_F32 || type == WEIGHT_BF16);
    size_t size;
    if (n_blocks < 1)
        n_blocks = 1; /* a model without layers still has pages */
    *pool = (struct kv_pool){.type = type,
                             .n_blocks = n_blocks,
                             .n_kv_heads = config->n_kv_heads,
                             .head_dim = config->head_dim,
                             .n_pages = n_pages,
                             .n_free = n_pages};
    pool->page_bytes = KV_PAGE * kv_position_bytes(config, n_blocks, type);
    pool->head_bytes = pool->page_bytes / ((size_t)n_blocks * (size_t)config->n_kv_heads);
    pool->values = KV_PAGE * (size_t)config->head_dim * element(type);
    pool->free = calloc((size_t)n_pages, sizeof *pool->free);
    pool->refs = calloc((size_t)n_pages, sizeof *pool->refs);
    pool->kept = calloc((size_t)n_pages, sizeof *pool->kept);
    void *data = size_mul(pool->page_bytes, (size_t)n_pages, &size)
                     ? mmap(NULL, size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                     : MAP_FAILED;
    pool->data = data == MAP_FAILED ? NULL : data;
    if (!pool->free || !pool->refs || !pool->kept || !pool->data) {
        kv_pool_release(pool);
        return err_set(err, ERR_MEMORY,
                       "no memory for %d pages of keys and values: use a shorter context, fewer "
                       "sequences or a lower limit",
                       n_pages);
    }
    for (int i = 0; i < n_pages; i++)
        pool->free[i] = n_pages - 1 - i;
    return 0;
}

void kv_pool_release(struct kv_pool *pool)
{
    if (pool->data)
        munmap(pool->data, pool->page_bytes * (size_t)pool->n_pages);
    free(pool->free);
    free(pool->refs);
    free(pool->kept);
    memset(pool, 0, sizeof *pool);
}

void kv_pool_trim(struct kv_pool *pool)
{
    for (int i = 0; i < pool->n_free; i++)
        madvise(pool->data + (size_t)pool->free[i] * pool->page_bytes, pool->page_bytes,
                MADV_DONTNEED);
}

static void hold(struct kv_pool *pool, int number)
{
    assert(pool->refs[number] > 0);
    pool->n_idle -= kv_idle(pool, number);
    pool->refs[number]++;
}

static void drop(struct kv_pool *pool, int number)
{
    assert(pool->refs[number] > 0);
    if (--pool->refs[number] == 0)
        pool->free[pool->n_free++] = number;
    pool->n_idle += kv_idle(pool, number);
}

void kv_keep(struct kv_pool *pool, int number)
{
    assert(!pool->kept[number]);
    hold(pool, number);
    pool->kept[number] = true;
}

void kv_forget(struct kv_pool *pool, int number)
{
    assert(pool->kept[number]);
    pool->n_idle -= kv_idle(pool, number);
    pool->kept[number] = false;
    drop(pool, number);
}

static char *page(const struct kv_pool *pool, int number)
{
    return pool->data + (size_t)number * pool->page_bytes;
}

/* ---- the pages of a sequence ---- */

int kv_init(struct kv *kv, struct kv_pool *pool, int slots, struct err *err)
{
    *kv = (struct kv){.pool = pool, .most = kv_pages(slots)};
    kv->pages = calloc((size_t)kv->most, sizeof *kv->pages);
    return kv->pages ? 0 : err_set(err, ERR_MEMORY, "no memory for a list of %d pages", kv->most);
}

void kv_release(struct kv *kv)
{
    if (kv->pages)
        kv_truncate(kv, 0);
    free(kv->pages);
    memset(kv, 0, sizeof *kv);
}

bool kv_reserve(struct kv *kv, int slots)
{
    struct kv_pool *pool = kv->pool;
    int wanted = kv_pages(slots);
    assert(wanted <= kv->most);
    if (wanted - kv->n_pages > pool->n_free)
        return false;
    while (kv->n_pages < wanted) {
        int number = pool->free[--pool->n_free];
        pool->refs[number] = 1;
        kv->pages[kv->n_pages++] = page(pool, number);
    }
    return true;
}

void kv_truncate(struct kv *kv, int slots)
{
    while (kv->n_pages > kv_pages(slots))
        drop(kv->pool, kv_number(kv, --kv->n_pages));
}

void kv_share(struct kv *kv, int number)
{
    assert(kv->n_pages < kv->most);
    hold(kv->pool, number);
    kv->pages[kv->n_pages++] = page(kv->pool, number);
}

void kv_replace(struct kv *kv, int i, int number)
{
    hold(kv->pool, number);
    drop(kv->pool, kv_number(kv, i));
    kv->pages[i] = page(kv->pool, number);
}

/* ---- keys and values ---- */

static char *chunk(const struct kv *kv, int block, int g, int slot)
{
    assert(slot >= 0 && slot < kv->n_pages * KV_PAGE);
    return kv->pages[slot / KV_PAGE] + kv_head(kv->pool, block, g);
}

/* Where element d of position i of a chunk stands. Pairs of d of bf16 keys stand side by side. */
static size_t key_at(const struct kv_pool *pool, int i, int d)
{
    size_t first = (size_t)i / 16 * (size_t)pool->head_dim * 16, at = (size_t)i % 16;
    return pool->type == WEIGHT_F32 ? first + (size_t)d * 16 + at
                                    : first + ((size_t)d / 2 * 16 + at) * 2 + (size_t)d % 2;
}

void kv_put_key(const struct kv *kv, int block, int g, int slot, const float *key)
{
    const struct kv_pool *pool = kv->pool;
    char *to = chunk(kv, block, g, slot);
    size_t first = key_at(pool, slot % KV_PAGE, 0), width = (size_t)pool->head_dim;
    if (pool->type == WEIGHT_F32) {
        for (size_t d = 0; d < width; d++)
            ((float *)(void *)to)[first + d * 16] = key[d];
        return;
    }
    uint16_t *half = (uint16_t *)(void *)to + first;
    for (size_t d = 0; d < width; d += 2) {
        half[d * 16] = bf16_from_float(key[d]);
        half[d * 16 + 1] = bf16_from_float(key[d + 1]);
    }
}

void kv_put_value(const struct kv *kv, int block, int g, int slot, const float *value)
{
    const struct kv_pool *pool = kv->pool;
    size_t width = (size_t)pool->head_dim;
    size_t first = (size_t)(slot % KV_PAGE) * attention_value_stride(pool->head_dim);
    char *to = chunk(kv, block, g, slot) + pool->values;
    if (pool->type == WEIGHT_F32) {
        memcpy((float *)(void *)to + first, value, width * sizeof(float));
        return;
    }
    uint16_t *half = (uint16_t *)(void *)to + first;
    for (size_t d = 0; d < width; d++)
        half[d / 32 * 32 + d % 16 * 2 + d / 16 % 2] = bf16_from_float(value[d]);
}

/* Position i of the chunk `from` becomes position j of the chunk `to`. */
static void copy_position(const struct kv_pool *pool, const char *from, int i, char *to, int j)
{
    size_t width = (size_t)pool->head_dim;
    size_t value = attention_value_stride(pool->head_dim) * element(pool->type);
    size_t k = key_at(pool, i, 0), l = key_at(pool, j, 0);
    if (pool->type == WEIGHT_F32)
        for (size_t d = 0; d < width; d++)
            ((float *)(void *)to)[l + d * 16] = ((const float *)(const void *)from)[k + d * 16];
    else /* a pair of halves at a time */
        for (size_t d = 0; d < width / 2; d++)
            memcpy(to + l * 2 + d * 64, from + k * 2 + d * 64, 4);
    memcpy(to + pool->values + (size_t)j * value, from + pool->values + (size_t)i * value, value);
}

void kv_move(const struct kv *kv, int n_blocks, int from, int to)
{
    for (int b = 0; b < n_blocks; b++)
        for (int g = 0; g < kv->pool->n_kv_heads; g++)
            copy_position(kv->pool, chunk(kv, b, g, from), from % KV_PAGE, chunk(kv, b, g, to),
                          to % KV_PAGE);
}

void kv_copy_page(const struct kv_pool *pool, int from, int to)
{
    memcpy(page(pool, to), page(pool, from), pool->page_bytes);
}

void kv_copy_chunk(const struct kv *kv, int block, int g, const int *slots, int n, char *to)
{
    const struct kv_pool *pool = kv->pool;
    int in_place = 0;
    while (in_place < n && slots[in_place] % KV_PAGE == in_place &&
           slots[in_place] / KV_PAGE == slots[0] / KV_PAGE)
        in_place++;
    if (in_place) { /* whole blocks of 16 positions */
        const char *from = chunk(kv, block, g, slots[0]);
        size_t blocks = ((size_t)in_place + 15) / 16;
        memcpy(to, from, blocks * 16 * (size_t)pool->head_dim * element(pool->type));
        memcpy(to + pool->values, from + pool->values,
               (size_t)in_place * attention_value_stride(pool->head_dim) * element(pool->type));
    }
    for (int i = in_place; i < n; i++)
        copy_position(pool, chunk(kv, block, g, slots[i]), slots[i] % KV_PAGE, to, i);
}
