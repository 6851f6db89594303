/* Training the heads: each kind's walk over its heads in the memory-saving order (Gloeckle et al.
 * 2024, section 2, figures 2 and S11): a head's logits are gone before the next head's exist, and
 * what returns to the trunk is one D-sized gradient per row. Not linked into the server. */
#ifndef HEADS_HEADS_GRAD_H
#define HEADS_HEADS_GRAD_H

#include "heads/heads.h"
#include "model/model_grad.h"

/* What one training pass over T rows works with; all memory is the trainer's. Layers of heads whose
 * activations are kept at the same time have slots: those of one head, or of a whole chain. */
struct head_train {
    struct block_acts *acts; /* (slots) */
    float **in;              /* (slots) input (T, D) of each; in[0] is unused where it is z */
    float *h;                /* (T, D) output of the last slot, or of a head without layers */
    float *dh;               /* (T, D) gradient of one head's output */
    struct block_work *block;
    struct loss_work *loss;
    const int32_t *targets; /* (N, T) targets[i] of head i; -1: none, the row has no loss */
    const int32_t *next;    /* (N, T) recurrent, bigram: the token i + 1 behind each row */
    struct recurrent_work *recurrent;
    float *embedded, *added; /* (T, D) bigram: of the tokens before, what they add */
    float weight[HEADS_MAX]; /* of each head's loss in the sum */
    float factor;            /* on the sum of the rows' losses; 0 = evaluate only, no gradients */
    float *grads;            /* flat, as struct params */
    /* Called by lane 0 after each head's loss, while loss->row and loss->hit are that head's. */
    void (*report)(void *arg, int head, const struct loss_work *loss, int rows);
    void *report_arg;
};

/* Losses of all heads and, when factor is not 0, the gradient with respect to z (T, D) into dz and
 * all weight gradients of heads and unembedding. */
typedef void head_train_fn(struct lane *lane, const struct pass *pass, struct head_train *train,
                           const float *z, float *dz);

struct head_trainer {
    head_train_fn *train;
    bool chain; /* the activations of all heads are kept at the same time, not of one */
};

const struct head_trainer *head_trainer(enum head_kind kind);

/* Carves the arrays of one kind out of an arena (all but loss, block, targets, grads), with equal
 * weights. */
void head_train_take(struct head_train *train, struct arena *arena, const struct config *config,
                     int rows);

/* Recurrent heads: what each of their N-1 steps keeps, and gradients. */
struct recurrent_work {
    float **out;           /* (N) h_i (T, D), from i = 1 */
    float **joined;        /* (N) (T, 2D) */
    float **scale;         /* (N) (2, T) 1 / rms of states and of embeddings */
    float *embedded;       /* (T, D) */
    float *djoined, *half; /* (T, 2D), (T, D) */
    float *dkeys;          /* (T, (H+2G)K) */
};

/* ---- for the kinds ---- */

#define HEAD_TRAINER(id, name, tensors) extern const struct head_trainer head_##name##_trainer;
HEAD_KIND_TABLE(HEAD_TRAINER)
#undef HEAD_TRAINER

/* Heads that know nothing of each other, one after the other in the same memory. forward returns
 * h_i (T, D); backward adds to dz what d, the gradient of h_i, makes of it, and may overwrite d. */
typedef const float *head_forward_fn(struct lane *lane, const struct pass *pass,
                                     struct head_train *train, int i, const float *z);
typedef void head_backward_fn(struct lane *lane, const struct pass *pass, struct head_train *train,
                              int i, const float *z, float *d, float *dz);
void head_train_each(struct lane *lane, const struct pass *pass, struct head_train *train,
                     const float *z, float *dz, head_forward_fn *forward,
                     head_backward_fn *backward);

/* Heads of which each reads the output of the one before: head `first` reads z, then come first +
 * step, first + 2 step, ... */
void head_train_chain(struct lane *lane, const struct pass *pass, struct head_train *train,
                      const float *z, float *dz, int first, int step);

/* The layers of head i, the p-th whose activations are kept. Returns its output. backward: d (T, D)
 * is the gradient of the output on entry, of the input on return. */
const float *head_layers_forward(struct lane *lane, const struct pass *pass,
                                 struct head_train *train, int i, int p, const float *z);
void head_layers_backward(struct lane *lane, const struct pass *pass, struct head_train *train,
                          int i, int p, const float *z, float *d);

void recurrent_work_take(struct recurrent_work *work, struct arena *arena,
                         const struct config *config, int rows);

/* The loss of head i on its output h; its gradient goes to t->dh. */
void head_loss(struct lane *lane, const struct pass *pass, struct head_train *train, int i,
               const float *h);

/* x (T, D) = 0. Ends with a barrier. */
void rows_clear(struct lane *lane, const struct pass *pass, float *x);

/* y += x (T, D). Ends with a barrier. */
void rows_add(struct lane *lane, const struct pass *pass, const float *x, float *y);

#endif
