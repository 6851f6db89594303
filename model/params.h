/* The list of a model's tensors: names, shapes, and their places in one flat array of floats. The
 * loader, the trainer, checkpoints and converters all walk this list, so a tensor is declared once.
 *
 * Names follow the released checkpoints (PAPER.md): tok_embeddings.weight, layers.L.*, norm.weight,
 * output.weight (absent when tied); the heads are heads.I.layers.J.* with I from 0 (next token; on
 * a trunk that predicts it, the layer before all heads, if they have one), heads.I.linear.weight
 * for the linear kind, heads.I.output.weight for the replicated kind. */
#ifndef MODEL_PARAMS_H
#define MODEL_PARAMS_H

#include <stdbool.h>
#include <stddef.h>

#include "weights/config.h"
#include "weights/source.h"

struct param {
    struct place place;
    char name[64];   /* place_name */
    int n_dims;      /* 1: a norm weight; 2: (outputs, inputs) */
    size_t shape[2]; /* shape[1] is 1 for a norm weight */
    size_t count;    /* floats */
    size_t offset;   /* floats from the start of the flat array, a multiple of 16 */
};

/* The tensors of one transformer layer, in this order; the first after `wq` and after `w1` continue
 * it, so that each group is one matrix in the flat array. Behind them come three biases and two
 * norms of heads, in models that have them (params.biases, params.head_norms). */
enum {
    BLOCK_ATTN_NORM,
    BLOCK_WQ,
    BLOCK_WK,
    BLOCK_WV,
    BLOCK_WO,
    BLOCK_FFN_NORM,
    BLOCK_W1, /* gate */
    BLOCK_W3, /* up */
    BLOCK_W2, /* down */
    BLOCK_PARAMS
};

struct params {
    struct param *list;
    int n;
    size_t total; /* floats of the flat array */
    size_t count; /* floats that are parameters (total without padding) */
    int blocks;   /* first param of the first block: trunk layers, then head blocks */
    int n_blocks;
    int per_block;
    int biases,
        head_norms;      /* of a block: of queries (then keys, values), (then keys); -1 for none */
    int embed, norm;     /* indices into list; norm -1 where every head has its own; both -1 for
                            heads apart from their trunk */
    int head_first_norm; /* the first of those, else -1 */
    int output;          /* -1 when tied, replicated or apart */
    int rope_factors;    /* -1 for none */
    int head_linear;     /* first of the matrices of heads without layers (params_head), else -1 */
    int fuse;            /* of heads that read several states of the trunk; else -1 */
    int bigram;          /* -1 for none */
    int shared;          /* of recurrent heads: two norms, then the projection, or, with joined
                            attention, the state's norm alone; else -1 */
    int draft_output;    /* the heads' own unembedding; else -1 */
};

/* Builds the list for a checked config. ERR_MEMORY. */
int params_init(struct params *params, const struct config *config, struct err *err);
void params_release(struct params *params);

/* The tensor of a block: BLOCK_*, or params.biases or head_norms and what follows. */
static inline int params_of_block(const struct params *params, int block, int which)
{
    return params->blocks + block * params->per_block + which;
}

/* Transformer blocks per head of this kind, or that all share: head_layers, or 0 for kinds without
 * layers. */
int config_head_blocks(const struct config *config);

/* The first head that has tensors of its own: 1 where the trunk itself predicts the next token. */
static inline int config_first_head(const struct config *config)
{
    return config->next_is_trunk;
}

#endif
