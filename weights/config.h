/* What config.json says: the shape of a model. Parsing trusts nothing: every field is checked by
 * name and range, so that code after it may multiply shapes without fear. Any thread. */
#ifndef WEIGHTS_CONFIG_H
#define WEIGHTS_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* What a prediction head owns besides what all heads share. */
enum head_tensors {
    HEAD_LAYERS,      /* transformer layers: heads.I.layers.J.* */
    HEAD_MATRIX,      /* heads.I.linear.weight (D, D) */
    HEAD_UNEMBEDDING, /* heads.I.output.weight (V, D), in place of output.weight */
    HEAD_SHARED /* heads.1.*, the same for all: transformer layers, a projection and two norms */
};

/* The kinds of heads: a constant, the name in files and options, what a head owns. A kind is one
 * line here and the pair heads/NAME.c, heads/NAME_grad.c. */
#define HEAD_KIND_WHOLE_TABLE(KIND)                                                                \
    KIND(PARALLEL, parallel, HEAD_LAYERS)                                                          \
    KIND(CAUSAL, causal, HEAD_LAYERS)                                                              \
    KIND(ANTICAUSAL, anticausal, HEAD_LAYERS)                                                      \
    KIND(LINEAR, linear, HEAD_MATRIX)                                                              \
    KIND(REPLICATED, replicated, HEAD_UNEMBEDDING)
/* And what needs a trunk that predicts the next token, and cannot be trained together with it. */
#define HEAD_KIND_TABLE(KIND)                                                                      \
    HEAD_KIND_WHOLE_TABLE(KIND)                                                                    \
    KIND(RECURRENT, recurrent, HEAD_SHARED)

#define HEAD_KIND_CONSTANT(id, name, tensors) HEAD_##id,
enum head_kind { HEAD_KIND_TABLE(HEAD_KIND_CONSTANT) HEAD_KINDS };

/* How many those of the first table are. */
#define HEAD_KINDS_WHOLE HEAD_RECURRENT

/* " parallel causal ...", a literal. */
#define HEAD_KIND_NAME(id, name, tensors) " " #name
#define HEAD_KIND_NAMES HEAD_KIND_TABLE(HEAD_KIND_NAME)

#define HEADS_MAX 32
#define HEAD_DIM_MAX 256
#define AUX_LAYERS_MAX 4

/* Shape letters: D width, H heads, G key/value heads, K head size, F hidden, V vocab, L layers,
 * N prediction heads. */
struct config {
    int dim;            /* D, 16..16384, a multiple of 16 */
    int n_layers;       /* L, layers of the trunk, without those of the heads; 0..512 */
    int n_heads;        /* H, 1..256 */
    int n_kv_heads;     /* G, divides H */
    int head_dim;       /* K, a multiple of 16, at most HEAD_DIM_MAX; 0 becomes D / H */
    int hidden;         /* F, 16..65536, a multiple of 16 */
    int head_hidden;    /* F of the heads' layers; 0: the same. Heads apart say it as hidden */
    int vocab;          /* V, 2..1048576 */
    int context;        /* positions the model was trained for, 2..1048576 */
    float norm_eps;     /* RMSNorm's epsilon, above 0, at most 0.1 */
    float rope_theta;   /* at least 1 */
    bool tied;          /* the unembedding is the embedding */
    bool qkv_bias;      /* queries, keys and values have biases */
    bool qk_norm;       /* each query and key is normalised before it is rotated */
    bool rope_factors;  /* frequencies of rotation are divided by factors of the file */
    bool head_norms;    /* each head has a norm of its own before the unembedding */
    bool next_is_trunk; /* the next-token head is the trunk's end itself, f_u(z), without tensors of
                           its own: every public model. Serving only. */
    uint64_t trunk;     /* of heads that lie apart from their trunk, which has the other shapes too:
                           its hash (model/trunk_hash.h), never 0; else 0 */
    enum head_kind kind;
    int n_predict;    /* N, prediction heads, next-token head included; 1..HEADS_MAX */
    int head_layers;  /* transformer layers per prediction head, 1..8; 0 for kinds without layers */
    bool token_first; /* recurrent heads join the token's embedding and the state in that order, */
    bool first_token_zero; /* and take zeros for the embedding at position 0 */
    bool joined_attention; /* recurrent heads' queries, keys and values read the token's embedding
                              and the state side by side, without a projection before (EAGLE-3) */
    bool fuse_raw;  /* aux_layers' states alone are fused, without the output, not normalised */
    bool fuse_next; /* heads on a trunk read, besides its output, the embedding of the token behind
                       their row */
    bool prefix_layer; /* heads on a trunk read what a layer of their own makes of its output */
    bool bigram;       /* heads from the second on add what the token drafted before them tells: a
                          matrix makes of its embedding a row that is added to the normalised one */
    int draft_output;  /* rows of the heads' own unembedding; 0: they share the trunk's */
    int n_aux; /* heads on a trunk read, besides its output, what enters these of its layers */
    int aux_layers[AUX_LAYERS_MAX]; /* (n_aux) rising, from 1 */
    int bos; /* token put before a prompt and read at a document's end; -1 for none */
    int eos; /* token that ends a text; -1 for none */
};

/* 0 where heads read the trunk's output alone. States of the trunk that heads with aux_layers fuse.
 */
static inline int config_fused_states(const struct config *config)
{
    int more = config->n_aux + config->fuse_next;
    return more ? more + !config->fuse_raw : 0;
}

static inline int config_widest_hidden(const struct config *config)
{
    return config->head_hidden > config->hidden ? config->head_hidden : config->hidden;
}

const char *head_kind_name(enum head_kind kind);
enum head_tensors head_kind_tensors(enum head_kind kind);
/* 0, or ERR_INVALID with a sentence that lists the names. */
int head_kind_parse(const char *name, enum head_kind *kind, struct err *err);

/* Checks ranges and fills head_dim. ERR_INVALID names the field, its value and what is allowed. */
int config_check(struct config *config, struct err *err);

/* Reads FOLDER/config.json. Unknown fields are ignored. ERR_IO, ERR_INVALID. */
int config_read(struct config *config, const char *folder, struct err *err);
/* The same from text in memory of `size` bytes; `where` names it in errors. */
int config_parse(struct config *config, const char *text, size_t size, const char *where,
                 struct err *err);
/* Writes FOLDER/config.json atomically (temporary file, fsync, rename). */
int config_write(const struct config *config, const char *folder, struct err *err);

#endif
