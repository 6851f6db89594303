/* The transformer that server, trainer, bench and tests share: a Llama-style decoder with RMSNorm,
 * rotary positions on adjacent pairs, grouped-query attention and SwiGLU, whose last layers are the
 * prediction heads (heads/). The trunk's output z is what Gloeckle et al. 2024, section 2, call
 * f_s(x); the final norm and the unembedding together are f_u.
 *
 * Shape letters, here and everywhere: B sequences, T rows, D width, H query heads, G key/value
 * heads, K head size, F hidden, V vocab, N prediction heads, L layers.
 *
 * A pass works on rows: row r is one token of one sequence at one position. Every function that
 * takes a lane is called by all lanes of a team together; each ends with a barrier unless it says
 * otherwise. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/linear.h"
#include "model/params.h"
#include "model/team.h"
#include "weights/config.h"
#include "weights/source.h"

struct kv;

/* One token of one sequence. It attends to its own path: the tokens committed before it, which
 * stand in the cache at their positions, and the drafts of this pass that it follows. */
struct row {
    struct kv *kv; /* the sequence's cache; NULL in the trainer, whose rows are whole sequences */
    int pos;       /* position in the sequence, from 0 */
    int slot;      /* where the cache takes its keys and values (kv.h); at least pos */
    int parent;    /* the row before it on its path when that one's slot is not its position either,
                      else -1: all before it are in place */
};

/* A row of which all that comes before it is in place, and itself. */
static inline struct row row_in_place(struct kv *kv, int pos)
{
    return (struct row){kv, pos, pos, -1};
}

struct block {
    const float *attn_norm, *ffn_norm; /* (D) */
    const float *q_norm, *k_norm;      /* (K) of each head; NULL for none */
    const float *qkv_bias;             /* ((H+2G)K); NULL for none */
    struct linear wqkv;                /* ((H+2G)K, D): queries, keys, values */
    struct linear wo;                  /* (D, HK) */
    struct linear w13;                 /* (2F, D): gate, up */
    struct linear w2;                  /* (D, F) */
};

struct model {
    struct config config;
    struct params params;
    struct source source; /* serving: the embedding is read from the mapping */
    struct source heads;  /* where heads apart from it come from; no type: there are none */
    struct matrix embed;  /* (V, D) */
    struct block *blocks; /* (L, then the layers of heads): trunk, then head by head */
    int n_blocks;
    struct linear *head_linear;           /* (N) A_i or U_i; NULL for heads of layers */
    struct linear fuse;                   /* (D, (1+A)D) of heads that read several states */
    struct linear bigram;                 /* (D, D), of heads that have it, */
    struct matrix unembedding;            /* and in serving (V, D), for the rows of few tokens */
    float *unit;                          /* (D) ones, for both */
    struct linear project;                /* recurrent heads: (D, 2D) joins the state before, */
    const float *state_norm, *token_norm; /* each (D) normalised, and the token's embedding */
    const float *norm;                    /* (D) before the unembedding, */
    const float **head_norms;             /* (N) or each head's own; NULL: all have `norm` */
    struct linear output;       /* (V, D); unused where heads have unembeddings of their own */
    struct linear draft_output; /* (n_draft_ids, D) its rows that drafts are chosen from, */
    int32_t *draft_ids;         /* and their tokens, rising; NULL: drafts may be any token */
    int n_draft_ids;
    float *rope_cos, *rope_sin; /* (positions, K): each cosine twice; -sin, +sin */
    int positions;
    int weights;          /* enum weight_type or WEIGHT_STORED */
    struct region memory; /* of packed weights, vectors and angles */
};

/* Loads a model for serving from whatever source_open reads. heads: a folder of heads that were
 * trained for it, or NULL. weights: the type that matrices get while loading, or WEIGHT_STORED; the
 * embedding keeps its own. positions: how many rotary positions to prepare, 0: the model's. team:
 * shares the loading, or NULL. ERR_IO, ERR_INVALID (also heads of another trunk), ERR_MEMORY. */
int model_open(struct model *model, const char *path, const char *heads, int weights, int positions,
               struct team *team, struct err *err);

/* A model over one flat array of floats laid out by params_init, borrowed (the trainer, tests).
 * grads: the same layout, or NULL. */
int model_over(struct model *model, const struct config *config, float *values, float *grads,
               struct err *err);
/* A model of that shape with random weights, packed as for serving: what a pass costs does not
 * depend on them (headway-bench). config is checked; its sizes must suit linear_random.
 * ERR_MEMORY, also when the system has less memory left than the weights take. */
int model_random(struct model *model, const struct config *config, enum weight_type type,
                 int positions, uint64_t seed, struct err *err);
void model_release(struct model *model);

/* First block of prediction head i (0 = next token), head_layers of them. */
static inline int model_head_block(const struct model *m, int i)
{
    bool shared = head_kind_tensors(m->config.kind) == HEAD_SHARED;
    return m->config.n_layers + m->config.prefix_layer +
           (shared ? 0 : (i - config_first_head(&m->config)) * config_head_blocks(&m->config));
}

/* The (V, D) matrix with which head i ends. */
static inline const struct linear *model_unembedding(const struct model *m, int i)
{
    bool own = head_kind_tensors(m->config.kind) == HEAD_UNEMBEDDING;
    return own && i >= config_first_head(&m->config) ? &m->head_linear[i] : &m->output;
}

/* ---- one pass ---- */

/* What one block computes on T rows. Serving uses one for all blocks; the trainer keeps one per
 * block, because gradients need them. */
struct block_acts {
    float *norm1;   /* (T, D) */
    float *scale1;  /* (T) 1 / rms */
    float *qkv;     /* (T, (H+2G)K), queries and keys rotated */
    float *lse;     /* (T, H) log of the softmax sum; trainer only */
    float *att;     /* (T, HK) */
    float *mid;     /* (T, D) after attention and residual */
    float *norm2;   /* (T, D) */
    float *scale2;  /* (T) */
    float *gate_up; /* (T, 2F), trainer only */
    void *act;      /* (T, F); the trainer's are floats, serving's what w2 reads (linear.h) */
};
/* Carves the arrays out of an arena. */
void block_acts_take(struct block_acts *acts, struct arena *arena, const struct config *config,
                     int rows, bool training);

struct pass;
/* Attention of one block: rotates queries and keys in acts->qkv of all rows by their positions, and
 * writes acts->att for the rows in out_rows. */
typedef void attend_fn(struct lane *lane, const struct pass *pass, int block,
                       struct block_acts *acts, const int *out_rows, int n_out);

struct pass {
    const struct model *model;
    const struct row *rows; /* (T) */
    int n;                  /* T */
    attend_fn *attend;      /* attend_cached, attend_ahead, or the trainer's */
    void *attend_arg;
    const int32_t *next; /* (T) the token behind each row, for heads that read it; else NULL */
};

/* One transformer layer. Every row's keys and values are kept; only the n_out rows whose indices
 * stand in `out_rows`, in rising order, are computed to the end, into rows 0..n_out-1 of y.
 * out_rows NULL means all rows. x (T, D), y (n_out, D); y may be x when out_rows is NULL. */
void block_forward(struct lane *lane, const struct pass *pass, int block, struct block_acts *acts,
                   const float *x, const int *out_rows, int n_out, float *y);

/* The same of rows that are normalised for its queries, keys and values: normed (T, its inputs),
 * complete; x is the residual. */
void block_forward_normed(struct lane *lane, const struct pass *pass, int block,
                          struct block_acts *acts, const float *normed, const float *x,
                          const int *out_rows, int n_out, float *y);

/* Serving's attention: puts keys and values into each row's slot, then attends over its path. */
attend_fn attend_cached;

/* Rows that leave no keys and values: their queries, *(const int *)attend_arg positions further on
 * than the rows, attend to what is committed up to the rows. */
attend_fn attend_ahead;

/* x[r] = embedding of tokens[r]. Tokens must be within 0..V-1. */
void model_embed(struct lane *lane, const struct model *model, const int32_t *tokens, int rows,
                 float *x);

/* What enters some layers of the trunk, for heads that read it. */
struct aux_states {
    int n;
    const int *layers;            /* (n) rising */
    float *state[AUX_LAYERS_MAX]; /* (n) each (T, D) */
};

/* Those of the model's heads, behind z in x (1 + n, rows, D). */
struct aux_states model_aux(const struct model *model, float *x, int rows);

/* The trunk: embeds and runs layers 0..L-1, in place in z (T, D). acts: one, used by all. */
void trunk_forward(struct lane *lane, const struct pass *pass, struct block_acts *acts,
                   const int32_t *tokens, float *z, const struct aux_states *aux);

/* What heads that read more than the trunk's output take for it: y (T, D) = fuse [norm x[0]; norm
 * x[1]; ...; norm embedding(next)], x (1 + aux) of (T, D), next (T) the token behind each row,
 * where they read it. y may be x[0]. joined: scratch (T, S D), S = config_fused_states. */
void states_fuse(struct lane *lane, const struct model *model, const float *const *x,
                 const int32_t *next, int rows, float *joined, float *y);

/* f_u of n prediction heads from `head` on, each on `rows` rows of its own: h (n, rows, D) becomes
 * logits (n, rows, stride) = unembedding(norm(h)), stride = model_logits_stride. Heads that share
 * an unembedding go through it together, so that its weights are read once. Heads behind the first
 * have a draft vocabulary when the model has one. normed: scratch (n, rows, D). */
void model_logits(struct lane *lane, const struct model *model, int head, int n, const float *h,
                  int rows, float *normed, float *logits);
size_t model_logits_stride(const struct model *model);

/* Heads behind the first predict these tokens only (rising ids, copied), which makes drafts
 * cheaper: their rows of the unembedding are packed once more. Before any pass. ERR_INVALID where
 * heads have unembeddings of their own, ERR_MEMORY. */
int model_draft_vocabulary(struct model *model, const int32_t *ids, int n, struct err *err);

/* y[r] = rmsnorm(x[r]) for this lane's share of the rows; scale (rows) or NULL. No barrier. */
void rows_norm(struct lane *lane, const struct config *config, const float *x,
               const float *norm_weight, int rows, float *y, float *scale);

/* y[i] = x[out_rows[i]] for this lane's share of the n rows, or x[i] when out_rows is NULL. No
 * barrier. */
void rows_gather(struct lane *lane, const struct config *config, const float *x,
                 const int *out_rows, int n, float *y);

/* Serving: every lane has working memory (team_reserve) for so many normalised rows and, behind
 * them, for linear_forward; at other times for the end of a path in attention. */
#define LANE_ROWS 16
size_t model_lane_bytes(const struct model *model);

/* Longest path of rows that are not in place. */
#define PATH_MOST ATTENTION_CHUNK

#endif
