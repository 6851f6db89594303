/* The prediction heads behind one small interface: how the trunk's output z becomes, for each head
 * i (0 = the next token, i = the token i further on), the hidden rows h_i that the shared final
 * norm and unembedding turn into logits (model_logits). Gloeckle et al. 2024, section 2 and
 * appendix B.
 *
 * A kind is one struct head_type in the table of heads.c and one gradient walk in heads_grad.c.
 * A kind never computes what it does not need: rows whose output nobody asked for only leave their
 * keys and values, and kinds without layers have none.
 *
 * All lanes call these functions together; each ends with a barrier. */
#ifndef HEADS_HEADS_H
#define HEADS_HEADS_H

#include "model/model.h"

/* Working memory of the heads in serving, for passes of up to `rows` rows. */
struct head_work {
    struct block_acts acts;
    float *chain; /* (rows, D) output of the last head or layer, where the next one reads it */
};

struct head_type {
    const char *name;
    /* Drafts of different heads need nothing of each other, so that lanes may take whole heads. */
    bool independent;
    /* The next-token head verifies: h_0 of the rows listed in `full` (rising, n_full of them), into
     * h (n_full, D); keys and values of all the pass's rows are kept. z (rows, D). */
    void (*verify)(struct lane *lane, const struct pass *pass, struct head_work *work,
                   const float *z, const int *full, int n_full, float *h);
    /* Head i >= 1 drafts: the same for h_i, over committed rows only. The engine calls it for i =
     * 1, 2, ... in order within a step, each with a `full` that is part of the one before. */
    void (*draft)(struct lane *lane, const struct pass *pass, struct head_work *work, int i,
                  const float *z, const int *full, int n_full, float *h);
};

/* The functions of a kind; NULL for a kind that this version cannot run yet. */
const struct head_type *head_type(enum head_kind kind);

void head_work_take(struct head_work *work, struct arena *arena, const struct config *config,
                    int rows);

#endif
