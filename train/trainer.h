/* One training step: trunk forward, heads in the memory-saving order, trunk backward, AdamW. Or, of
 * heads on a frozen trunk: the trunk as it serves, heads, AdamW on the heads.
 * Owns the parameters, their gradients and moments, and all activations. Its result depends on the
 * settings, the parameters, the tokens and the number of ranks (ranks.h) alone, not on the number
 * of threads. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include <stdint.h>

#include "heads/heads_grad.h"
#include "model/kernels/grad.h"
#include "model/model_grad.h"
#include "train/muon.h"

struct schedule {
    double rate, final_rate; /* peak, and the fraction of it at the end */
    double beta1, beta2, decay, clip;
    int warmup, steps;
    double cooldown; /* part of the steps in which the rate falls, linearly, from its peak; 0: it
                        falls from the first on, as a cosine does */
    double momentum; /* of Muon, which then takes the matrices of heads on a frozen trunk; 0: AdamW
                        takes all */
};

struct head_score {
    double nats; /* mean loss per predicted token */
    double top1; /* fraction where the target is the most likely token, */
    double run;  /* and where that is also so for the heads before it (of those that draft) */
};

/* A text that heads are trained on. */
struct sample {
    const int32_t *tokens; /* (n) */
    int n, prompt;         /* tokens before which nothing is learned */
};

/* What heads on a frozen trunk learn to draft. */
struct draft_targets {
    const int32_t *ids; /* (n) the draft vocabulary, rising, borrowed; n 0: every token */
    int n;
    bool soft; /* the trunk's probabilities of those tokens, not only the token of the text */
};

struct trainer {
    struct model model;
    struct team *team;           /* borrowed */
    int sequences, context;      /* at most, */
    int most_rows, rows;         /* sequences * context; rows of the batch that is set */
    size_t total;                /* floats of each array below */
    float *value, *grad, *m, *v; /* flat, laid out by model.params */
    struct arena arena;
    struct row *row;
    struct batch batch;
    int *first;              /* (sequences + 1) batch.first */
    bool soft;               /* there is room for soft targets */
    struct frozen *frozen;   /* the trunk's part, owned; NULL when it is trained too */
    struct block_acts *acts; /* (L) */
    float **x;               /* (L+1): x[l] is the input of layer l, x[L] is z */
    struct aux_states aux;   /* of a frozen trunk, where heads read them, */
    float *joined, *fused;   /* (T, (1+A)D), (T, D) and what they make of them, */
    float *prefixed;         /* (T, D) and a layer before them of that, if they have one */
    struct block_acts prefix;
    float *dz;
    float *summed; /* what ranks_sum works with */
    struct block_work block;
    struct loss_work loss;
    struct head_train heads;
    int32_t *tokens;                /* (T) */
    int32_t *targets;               /* (N, T) */
    int32_t *next;                  /* (N, T) tokens behind the rows, -1 beyond the text (frozen) */
    unsigned char *learned, *alive; /* (T) 1: the row has a loss; all heads so far were right; */
    unsigned char *hit;             /* (N, T) which were */
    int n_learned;                  /* rows of the former */
    double *partial;                /* sums of squares, one per piece of the gradient */
    int n_partial;
    struct head_score score[HEADS_MAX];
    double grad_norm;
    struct adamw adamw; /* of the step under way, */
    struct muon muon;   /* and its matrices', with a rate of 0 if they are AdamW's too */
    struct muon_work muon_work;
    double clip;
};

/* Room for `sequences` sequences of config->context tokens; parameters are drawn from the seed. The
 * team must outlive the trainer. ERR_MEMORY, ERR_INVALID. */
int trainer_init(struct trainer *trainer, const struct config *config, int sequences, uint64_t seed,
                 struct team *team, struct err *err);
/* The same for heads on a trunk that stays as it is, an open model without heads, which must
 * outlive the trainer: config is the trunk's but for the heads (config.trunk set, no layers), texts
 * have up to config->context tokens. The team's lanes get the working memory that the trunk needs.
 */
int trainer_init_frozen(struct trainer *trainer, const struct config *config,
                        const struct model *trunk, const struct draft_targets *targets,
                        int sequences, uint64_t seed, struct team *team, struct err *err);
void trainer_release(struct trainer *trainer);

/* Sets the batch to n texts, at most as many as there is room for; what is beyond the context of a
 * text is left out. On a frozen trunk only. */
void trainer_samples(struct trainer *trainer, const struct sample *samples, int n);

/* Sets sequence b to the tokens of `window`: context + N of them. */
void trainer_window(struct trainer *trainer, int b, const int32_t *window);

/* One step, number `step` from 0, on the windows that were set; fills score and grad_norm. */
void trainer_step(struct trainer *trainer, const struct schedule *schedule, int step);

/* Forward only: fills score. */
void trainer_evaluate(struct trainer *trainer);

/* Forward and backward without the optimiser's step: leaves gradients of the mean loss over all
 * ranks' rows, summed over heads, in trainer->grad (cleared by the caller). */
void trainer_gradients(struct trainer *trainer);

/* What heads take for the trunk's output, into trainer->fused, by all lanes, behind a pass of the
 * frozen trunk. */
void trainer_fuse(struct lane *lane, struct trainer *trainer);

/* Learning rate of a step. */
double schedule_rate(const struct schedule *schedule, int step);

#endif
