/* The keys and values of sequences, in pages of one attention chunk of positions with all blocks of
 * the model. Sequences take pages as they grow and may share those that none of them will write
 * again; a pool has a limit, and who gets a page when there are too few is the owner's business.
 *
 * A position is where a token stands in its text; a slot is where its keys and values stand in the
 * cache. Committed tokens have the slot of their position. Drafts stand behind them in the order of
 * their rows, several of which may have one position; what is accepted moves to its position, and
 * slots behind the committed tokens may hold anything.
 *
 * Keys and values are f32 or bf16, laid out for the attention kernels (kernels.h). One owner: the
 * thread that runs passes; lanes write different heads of the slots of a pass. */
#ifndef MODEL_KV_H
#define MODEL_KV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "model/kernels/kernels.h"
#include "weights/config.h"
#include "weights/quant.h"

#define KV_PAGE ATTENTION_CHUNK /* slots of a page */

struct kv_pool {
    char *data;        /* (pages) a range of addresses; memory comes when a page is first written */
    size_t page_bytes; /* a page: block by block, head by head a chunk of keys, then of values */
    size_t head_bytes; /* a chunk of keys and values */
    size_t values;     /* from a chunk's keys to its values */
    enum weight_type type;
    int n_blocks, n_kv_heads, head_dim; /* blocks, G, K */
    int n_pages, n_free;
    int n_idle; /* pages that are kept, but that no sequence holds */
    int *free;  /* (n_free) page numbers; the last one is taken first */
    int *refs;  /* (n_pages) who holds it: sequences, and who keeps it */
    bool *kept; /* (n_pages) */
};

struct kv {
    struct kv_pool *pool;
    char **pages; /* (n_pages) in order of slots */
    int n_pages, most;
};

#define KV_TYPE_NAMES "bf16|f32"

/* One of KV_TYPE_NAMES, or NULL for the first. ERR_INVALID. */
int kv_type_parse(const char *name, enum weight_type *type, struct err *err);

/* Bytes of the keys and values of one position, all blocks. */
size_t kv_position_bytes(const struct config *config, int n_blocks, enum weight_type type);

/* Pages that so many slots need. */
static inline int kv_pages(int slots)
{
    return (slots + KV_PAGE - 1) / KV_PAGE;
}

/* Room for n_pages pages of n_blocks blocks; type: f32 or bf16. ERR_MEMORY. */
int kv_pool_init(struct kv_pool *pool, const struct config *config, int n_blocks, int n_pages,
                 enum weight_type type, struct err *err);
void kv_pool_release(struct kv_pool *pool);
/* Gives the memory of free pages back to the system. */
void kv_pool_trim(struct kv_pool *pool);

/* An empty cache of at most `slots` slots. ERR_MEMORY. */
int kv_init(struct kv *kv, struct kv_pool *pool, int slots, struct err *err);
void kv_release(struct kv *kv);

/* Takes pages until there are `slots` slots. False when the pool has too few: nothing is taken. */
bool kv_reserve(struct kv *kv, int slots);
/* Leaves the pages behind the first `slots` slots to others. */
void kv_truncate(struct kv *kv, int slots);
/* Pages that several caches hold are only read: all their positions are committed. kv_share: a
 * cache goes on with a page that others hold, or that is kept. kv_replace: gives up its page i for
 * such a one, which holds the same. */
void kv_share(struct kv *kv, int number);
void kv_replace(struct kv *kv, int i, int number);

/* The number of page i of a cache in its pool. */
static inline int kv_number(const struct kv *kv, int i)
{
    return (int)((size_t)(kv->pages[i] - kv->pool->data) / kv->pool->page_bytes);
}

/* A page stays when no sequence holds it, until it is forgotten. */
void kv_keep(struct kv_pool *pool, int number);
void kv_forget(struct kv_pool *pool, int number);
/* Whether it is kept only. */
static inline bool kv_idle(const struct kv_pool *pool, int number)
{
    return pool->kept[number] && pool->refs[number] == 1;
}

/* Where a page keeps the chunk of head g of a block, in bytes. */
static inline size_t kv_head(const struct kv_pool *pool, int block, int g)
{
    return ((size_t)block * (size_t)pool->n_kv_heads + (size_t)g) * pool->head_bytes;
}

/* Write slot `slot` of head g: K floats. */
void kv_put_key(const struct kv *kv, int block, int g, int slot, const float *key);
void kv_put_value(const struct kv *kv, int block, int g, int slot, const float *value);

/* Copies the keys and values of a slot to another, in the first n_blocks blocks. */
void kv_move(const struct kv *kv, int n_blocks, int from, int to);

/* Copies a page to another. */
void kv_copy_page(const struct kv_pool *pool, int from, int to);

/* Writes a chunk of head g of a block as it would stand if position i of the chunk, 0 <= i < n,
 * were in place: its keys and values come from slot slots[i]. to: head_bytes, of which what belongs
 * to positions from n on is left as it is, or anything. */
void kv_copy_chunk(const struct kv *kv, int block, int g, const int *slots, int n, char *to);

#endif
