/* The key/value cache of one sequence, for every block of the model. What is committed is the
 * owner's knowledge: positions past it may hold values of rejected drafts, which the next rows
 * overwrite before anything reads them.
 *
 * Keys of one head: blocks of 16 positions, element (pos, d) at [(pos/16) K + d] 16 + pos%16, so
 * that scores of 16 positions are summed side by side. Values: (positions, K). Floats. */
#ifndef MODEL_KV_H
#define MODEL_KV_H

#include <stddef.h>

#include "base/err.h"
#include "weights/config.h"

struct kv {
    float *data;    /* zero-filled; pages are taken from the system when first written */
    size_t size;    /* bytes */
    int positions;  /* room, a multiple of 16 */
    int n_kv_heads; /* G */
    int head_dim;   /* K */
};

/* Room for `positions` positions of `n_blocks` blocks. ERR_MEMORY. */
int kv_init(struct kv *kv, const struct config *config, int n_blocks, int positions,
            struct err *err);
void kv_release(struct kv *kv);

/* Keys and values of head g in a block: positions * K floats each. */
static inline float *kv_keys(const struct kv *kv, int block, int g)
{
    size_t head = (size_t)kv->positions * (size_t)kv->head_dim;
    return kv->data + ((size_t)block * (size_t)kv->n_kv_heads + (size_t)g) * 2 * head;
}

static inline float *kv_values(const struct kv *kv, int block, int g)
{
    return kv_keys(kv, block, g) + (size_t)kv->positions * (size_t)kv->head_dim;
}

/* Writes position pos of head g: key and value (K floats each). */
void kv_put(struct kv *kv, int block, int g, int pos, const float *key, const float *value);

#endif
