/* Gradients of model.h, in the order of its functions. Each *_backward takes what the forward
 * function read and wrote, and the gradient of what it wrote. Not linked into the server.
 *
 * All lanes call each function together; each ends with a barrier. Weight gradients are added to
 * the model's dense_grad arrays and, for norm_weights and the embedding, at the same offsets. */
#ifndef MODEL_MODEL_GRAD_H
#define MODEL_MODEL_GRAD_H

#include "model/gemm.h"
#include "model/model.h"

/* The trainer's rows are B whole sequences, one behind the other. */
struct batch {
    int sequences;           /* B */
    int context;             /* rows of a sequence, at most */
    const int *first;        /* (B+1) the first row of each, and behind the last */
    float *scores[TEAM_MAX]; /* per lane: 2 ATTENTION_STRIP * padded context floats */
    /* Rows that attend to keys and values of others: recurrent heads, each row to those that its
     * sequence's rows up to itself have left in `keys`. NULL: to their own. */
    const struct block_acts *keys;
    int ahead;    /* by so much are positions further on than the rows' */
    float *dkeys; /* (T, (H+2G)K) gradients of such keys and values: the rows that attend add to
                     them, the rows that left them begin with them; NULL: there are none */
};
#define ATTENTION_STRIP 128 /* query rows whose scores are held at once */

/* Working memory of one block's gradients, shared by all blocks. */
struct block_work {
    float *dnorm;    /* (T, D) */
    float *dqkv;     /* (T, (H+2G)K) */
    float *datt;     /* (T, HK) */
    float *dgate_up; /* (T, 2F) */
    float *dact;     /* (T, F) */
};
void block_work_take(struct block_work *work, struct arena *arena, const struct config *config,
                     int rows);
void batch_take(struct batch *batch, struct arena *arena, int lanes);

/* The attend_fn of the trainer: whole sequences, scores as matrix products. pass->attend_arg is the
 * struct batch. Writes acts->lse too. */
attend_fn attend_whole;

/* Turns queries and keys of this lane's share of the rows by their positions (and
 * pass->attend_arg's ahead) with kernels.rope, or their gradients back with grad_kernels.rope. qkv:
 * the whole rows. No barrier. */
void rows_rotate(struct lane *lane, const struct pass *pass, float *qkv, rope_kernel *rotate);

void attend_whole_backward(struct lane *lane, const struct pass *pass, struct block_acts *acts,
                           const float *datt, float *dqkv);

/* x: what block_forward read. d: on entry the gradient of its result, on return that of x. */
void block_backward(struct lane *lane, const struct pass *pass, int block, struct block_acts *acts,
                    struct block_work *work, const float *x, float *d, float *grads);

/* normed (T, inputs of the queries, keys and values): what block_forward_normed read. d: on return
 * the gradient of its residual. dnormed (T, inputs): that of normed. Ends with a barrier. */
void block_backward_normed(struct lane *lane, const struct pass *pass, int block,
                           struct block_acts *acts, struct block_work *work, const float *normed,
                           float *d, float *dnormed, float *grads);

/* Gradient of rows_norm: adds to dx and, unless it is NULL, to dgain. Ends with a barrier. */
void rows_norm_backward(struct lane *lane, const struct config *config, const float *x,
                        const float *norm_weight, const float *scale, const float *dy, int rows,
                        float *dx, float *dgain);

void model_embed_backward(struct lane *lane, const struct model *model, const int32_t *tokens,
                          int rows, const float *dx, float *grads);

/* Loss of one prediction head, its logits held for LOSS_ROWS rows at a time (the paper's memory-
 * saving order needs them for one head only; this cuts them further). */
#define LOSS_ROWS 256
struct loss_work {
    float *normed;  /* (T, D) */
    float *scale;   /* (T) */
    float *dnormed; /* (T, D) */
    float *logits;  /* (LOSS_ROWS, logits stride) */
    float *row;     /* (T) loss of each row, nats */
    float *soft;    /* (T, logits stride) soft targets: behind each row, the trunk's probabilities
                       of the tokens that drafts are chosen from; NULL: targets are hard */
    unsigned char *hit; /* (T) 1 where the target is the most likely token */
};
void loss_work_take(struct loss_work *work, struct arena *arena, const struct model *model,
                    int rows, bool soft);

/* The soft targets of rows whose trunk gave z (T, D). */
void model_soft_targets(struct lane *lane, const struct model *model, struct loss_work *work,
                        const float *z, int rows);

/* -log P(targets[r]) of every row into work->row, and work->hit; 0 where the target is -1. With
 * soft targets: the cross-entropy from those of row r + head, where there is a target. added (T, D)
 * is added to the normalised rows, or NULL; its gradient is work->dnormed. With dh: the gradient of
 * `factor` times the sum of the rows' losses, into dh (T, D) and the gradients of those weights
 * that have any. */
void model_loss(struct lane *lane, const struct model *model, int head, struct loss_work *work,
                const float *h, const float *added, const int32_t *targets, int rows, float factor,
                float *dh, float *grads);

#endif
