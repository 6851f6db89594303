/* The key/value cache of one sequence, for every block of the model. What is committed is the
 * owner's knowledge: positions past it may hold values of rejected drafts, which the next rows
 * overwrite before anything reads them.
 *
 * Keys and values are f32 or bf16, laid out for the attention kernels (kernels.h). */
#ifndef MODEL_KV_H
#define MODEL_KV_H

#include <stddef.h>

#include "base/err.h"
#include "weights/config.h"
#include "weights/quant.h"

struct kv {
    char *data;    /* zero-filled; pages are taken from the system when first written */
    size_t size;   /* bytes */
    size_t keys;   /* bytes of the keys of a head in a block */
    size_t values; /* of its values */
    enum weight_type type;
    int positions;  /* room, a multiple of 16 */
    int n_kv_heads; /* G */
    int head_dim;   /* K */
};

#define KV_TYPE_NAMES "bf16|f32"

/* One of KV_TYPE_NAMES, or NULL for the first. ERR_INVALID. */
int kv_type_parse(const char *name, enum weight_type *type, struct err *err);

/* Bytes of the keys and values of one position, all blocks. */
size_t kv_position_bytes(const struct config *config, int n_blocks, enum weight_type type);

/* Room for `positions` positions of `n_blocks` blocks; type: f32 or bf16. ERR_MEMORY. */
int kv_init(struct kv *kv, const struct config *config, int n_blocks, int positions,
            enum weight_type type, struct err *err);
void kv_release(struct kv *kv);

/* Keys and values of head g in a block. */
static inline void *kv_keys(const struct kv *kv, int block, int g)
{
    size_t head = (size_t)block * (size_t)kv->n_kv_heads + (size_t)g;
    return kv->data + head * (kv->keys + kv->values);
}

static inline void *kv_values(const struct kv *kv, int block, int g)
{
    return (char *)kv_keys(kv, block, g) + kv->keys;
}

/* Write position pos of head g: K floats. */
void kv_put_key(struct kv *kv, int block, int g, int pos, const float *key);
void kv_put_value(struct kv *kv, int block, int g, int pos, const float *value);

#endif
