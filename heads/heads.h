/* The prediction heads behind one small interface: how the trunk's output z becomes, for each head
 * i (0 = the next token, i = the token i further on), the hidden rows h_i that the final norm and
 * an unembedding turn into logits (model_logits). Gloeckle et al. 2024, section 2 and appendix B.
 *
 * A kind is one line in HEAD_KIND_TABLE (weights/config.h), heads/NAME.c with a struct head_type
 * head_NAME, and heads/NAME_grad.c with its training (heads_grad.h). A kind never computes what it
 * does not need: rows whose output nobody asked for only leave their keys and values, and kinds
 * without layers have none.
 *
 * All lanes call these functions together; each ends with a barrier. */
#ifndef HEADS_HEADS_H
#define HEADS_HEADS_H

#include "model/model.h"

/* Working memory of the heads in serving, for passes of up to `rows` rows. */
struct head_work {
    struct block_acts acts;
    float *inner;     /* (rows, D) between the layers of a head */
    float *joined;    /* (rows, 2D or (1+A)D) recurrent: states and tokens; states to be fused */
    struct row *rows; /* recurrent: the rows that draft */
};

struct head_type {
    /* Drafts of different heads need nothing of each other, not even the token that the one before
     * chose: their logits come from one product. */
    bool independent;
    /* All heads take part in verify(), so that their keys and values of accepted drafts are right.
     */
    bool all_verify;
    /* Heads that draft keep keys and values of their own: all committed rows pass through each of
     * them. Other kinds' draft() sees only the rows that draft. */
    bool cached;
    /* How many D-sized rows verify() leaves for draft() per row of its pass; NULL means one. */
    int (*states)(const struct config *config);
    /* The next-token head verifies: h_0 of the rows listed in `out_rows` (rising, n_out of them),
     * into h (n_out, D); keys and values of all the pass's rows are kept. x (states, T, D) holds z
     * in its first state and, on return, what draft() reads; without `drafting` nothing will. NULL
     * for kinds that leave the next token to the trunk. */
    void (*verify)(struct lane *lane, const struct pass *pass, struct head_work *work, float *x,
                   const int *out_rows, int n_out, bool drafting, float *h);
    /* Head i >= 1 drafts: h_i of the rows in out_rows, over committed rows only. x (states, T, D):
     * those rows of what verify() left. tokens (n_out): the token chosen last behind each of
     * out_rows: for head 1 the one just committed, then the draft of head i - 1. Within a step the
     * calls come for i = 1, 2, ..., each with out_rows that are part of the ones before; `last` is
     * the last of them. pass->next has the token behind each row. Heads that are independent get no
     * tokens but the committed ones, may be called by one lane each, and in any order. */
    void (*draft)(struct lane *lane, const struct pass *pass, struct head_work *work, int i,
                  const int32_t *tokens, float *x, const int *out_rows, int n_out, bool last,
                  float *h);
};

const struct head_type *head_type(enum head_kind kind);
int head_states(const struct config *config);

/* verify() of the model's kind, or, where the trunk itself predicts the next token, h_0 = z of the
 * rows asked for. */
void heads_verify(struct lane *lane, const struct pass *pass, struct head_work *work, float *x,
                  const int *out_rows, int n_out, bool drafting, float *h);

/* Heads keep keys and values of committed rows: their own, or those of the layer before them. */
bool heads_cached(const struct config *config);

/* Before draft(): of heads that read more than the trunk's output, x (1+A, T, D), what they take
 * for it comes to stand in the first; with a layer before them, in the n_out rows of out_rows,
 * while all leave it their keys and values. Nothing for others. */
void heads_read(struct lane *lane, const struct pass *pass, struct head_work *work, float *x,
                const int *out_rows, int n_out);

/* Bigram: y (n, D) = what the tokens drafted before add to a head's normalised rows. embedded (n,
 * D): what it works with. */
void head_bigram(struct lane *lane, const struct model *model, const int32_t *tokens, int n,
                 float *embedded, float *y);

/* Some tokens that a head may choose, and their logits. */
#define HEAD_FEW 16
struct head_few {
    float logits[HEAD_FEW];
    int32_t ids[HEAD_FEW]; /* rising */
    int n;
};

/* Adds to them what the token drafted before does. scratch (2, D). By one lane, alone. */
void head_bigram_add(struct lane *lane, const struct model *model, int32_t before, float *scratch,
                     struct head_few *few);

void head_work_take(struct head_work *work, struct arena *arena, const struct config *config,
                    int rows);

/* ---- for the kinds ---- */

#define HEAD_TYPE(id, name, tensors) extern const struct head_type head_##name;
HEAD_KIND_TABLE(HEAD_TYPE)
#undef HEAD_TYPE

/* y (n_out, D) = the layers of head i on x (T, D), as block_forward: out_rows NULL means all rows,
 * and then y may be x. */
void head_layers(struct lane *lane, const struct pass *pass, struct head_work *work, int i,
                 const float *x, const int *out_rows, int n_out, float *y);

#endif
