/* The frozen trunk of heads in training: it runs as it serves, the same kernels on the same packed
 * weights and the same cache, so that heads learn from what they will see. */
#ifndef TRAIN_FROZEN_H
#define TRAIN_FROZEN_H

#include "model/kv.h"
#include "model/model.h"

struct frozen {
    const struct model *trunk; /* borrowed */
    struct kv_pool pool;
    struct kv *kv; /* (sequences) */
    int sequences;
    struct arena arena;
    struct row *rows; /* (FROZEN_ROWS) of a pass */
    struct block_acts acts;
    float *unembedding;  /* (draft vocabulary, D) */
    int32_t *ids, *slot; /* the draft vocabulary; (V) where a token stands in it, or -1 */
    int n_ids;
};

/* What heads of a kind have on that trunk: its shapes, none of its layers, its hash. n_predict
 * counts the next token, which stays the trunk's; layers: of a head, where the kind has any.
 * ERR_INVALID where that can't be. */
int frozen_config(struct config *config, const struct model *trunk, enum head_kind kind,
                  int n_predict, int layers, int context, struct err *err);

#define FROZEN_ROWS 256 /* of a pass of the trunk */

/* Room for so many sequences of up to `context` tokens. n_ids 0: all tokens. ERR_MEMORY,
 * ERR_INVALID. */
int frozen_init(struct frozen *frozen, const struct model *trunk, const int32_t *ids, int n_ids,
                int sequences, int context, struct team *team, struct err *err);
void frozen_release(struct frozen *frozen);

/* Empties the caches and makes room for sequences that begin at these rows. One thread. */
void frozen_begin(struct frozen *frozen, const int *first, int sequences);

/* z (T, D) of the rows 0..first[sequences]-1 with those tokens, by all lanes together, and what aux
 * asks for, unless it is NULL. */
void frozen_forward(struct lane *lane, struct frozen *frozen, const int *first, int sequences,
                    const int32_t *tokens, float *z, const struct aux_states *aux);

#endif
