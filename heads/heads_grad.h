/* Training the heads: each kind's walk over its heads in the memory-saving order (Gloeckle et al.
 * 2024, section 2, figures 2 and S11): a head's logits are gone before the next head's exist, and
 * what returns to the trunk is one D-sized gradient per row. Not linked into the server. */
#ifndef HEADS_HEADS_GRAD_H
#define HEADS_HEADS_GRAD_H

#include "heads/heads.h"
#include "model/model_grad.h"

/* What one training pass over T rows works with; all memory is the trainer's. */
struct head_train {
    struct block_acts *acts; /* parallel: one per layer of one head */
    float **in;              /* input (T, D) of each of those layers; in[0] is unused: it is z */
    float *h;                /* (T, D) a head's output, then the gradient on its way back */
    float *dh;               /* (T, D) */
    struct block_work *block;
    struct loss_work *loss;
    const int32_t *targets; /* (N, T) targets[i] of head i */
    float factor;           /* on the sum of the rows' losses; 0 = evaluate only, no gradients */
    float *grads;           /* flat, as struct params */
    /* Called by lane 0 after each head's loss, while loss->row and loss->hit are that head's. */
    void (*report)(void *arg, int head, const struct loss_work *loss, int rows);
    void *report_arg;
};

/* Losses of all heads and, when factor is not 0, the gradient with respect to z (T, D) into dz and
 * all weight gradients of heads and unembedding. */
typedef void head_train_fn(struct lane *lane, const struct pass *pass, struct head_train *train,
                           const float *z, float *dz);

/* NULL for a kind that this version cannot train yet. */
head_train_fn *head_trainer(enum head_kind kind);

/* Carves the arrays of one kind out of an arena (all but loss, block, targets, grads). Pointers in
 * `list` have room for head_layers entries. */
void head_train_take(struct head_train *train, struct arena *arena, const struct config *config,
                     int rows);

#endif
