/* Recurrent heads: one layer for all of them, h_i = H(P [norm h_(i-1); norm e]), h_0 = z, where e
 * is the embedding of the token that the draft before chose (for head 1 the token just committed):
 * DeepSeek-V3's multi-token prediction modules, EAGLE. Head 1 keeps keys and values of every
 * committed row; the others leave none and attend to those. */
#include "heads/heads.h"

#include <string.h>

/* work->joined (n, 2D) = [norm x[from[j]]; norm embedding(tokens[j])], from NULL: j. Or, as others
 * trained them, with the embedding first, or none at position 0. */
static void join(struct lane *lane, const struct pass *pass, struct head_work *work,
                 const int32_t *tokens, const float *x, const int *from, int n)
{
    const struct model *m = pass->model;
    const struct config *c = &m->config;
    const float *token_norm =
        c->joined_attention ? m->blocks[model_head_block(m, 1)].attn_norm : m->token_norm;
    bool token_first = c->token_first || c->joined_attention;
    size_t dim = (size_t)c->dim;
    int begin, end;
    lane_share(lane, n, 1, &begin, &end);
    for (int j = begin; j < end; j++) {
        float *first = work->joined + (size_t)j * 2 * dim;
        float *state = first + (token_first ? dim : 0);
        float *token = first + (token_first ? 0 : dim);
        size_t r = (size_t)(from ? from[j] : j);
        kernels.rmsnorm(x + r * dim, m->state_norm, c->dim, c->norm_eps, state);
        matrix_row(&m->embed, (size_t)tokens[j], token);
        if (c->first_token_zero && !pass->rows[r].pos)
            memset(token, 0, dim * sizeof *token);
        kernels.rmsnorm(token, token_norm, c->dim, c->norm_eps, token);
        if (from)
            work->rows[j] = pass->rows[r];
    }
    lane_barrier(lane);
}

/* The layer on n joined rows: on their projection, or, with joined attention, on them, their states
 * x (n, D) the residual. */
static void layer(struct lane *lane, const struct pass *pass, int i, struct head_work *work,
                  const float *x, const int *out_rows, int n_out, float *h)
{
    const struct model *m = pass->model;
    size_t dim = (size_t)m->config.dim;
    int block = model_head_block(m, i);
    if (m->config.joined_attention) {
        block_forward_normed(lane, pass, block, &work->acts, work->joined, x, out_rows, n_out, h);
        return;
    }
    linear_forward(lane, &m->project, work->joined, 2 * dim, pass->n, NULL, work->inner, dim);
    lane_barrier(lane);
    block_forward(lane, pass, block, &work->acts, work->inner, out_rows, n_out, h);
}

/* h_i of a row that drafts takes the place of its state in x. */
static void draft(struct lane *lane, const struct pass *pass, struct head_work *work, int i,
                  const int32_t *tokens, float *x, const int *out_rows, int n_out, bool last,
                  float *h)
{
    const struct model *m = pass->model;
    int ahead = i - 1, begin, end;
    size_t dim = (size_t)m->config.dim;
    if (i == 1) {
        join(lane, pass, work, pass->next, x, NULL, pass->n);
        layer(lane, pass, i, work, x, out_rows, n_out, h);
    } else if (n_out) {
        struct pass drafting = {m, work->rows, n_out, attend_ahead, &ahead, NULL};
        join(lane, pass, work, tokens, x, out_rows, n_out);
        if (m->config.joined_attention) {
            rows_gather(lane, &m->config, x, out_rows, n_out, work->inner);
            lane_barrier(lane);
        }
        layer(lane, &drafting, i, work, work->inner, NULL, 0, h);
    }
    lane_share(lane, last ? 0 : n_out, 1, &begin, &end);
    for (int j = begin; j < end; j++)
        for (size_t d = 0; d < dim; d++)
            x[(size_t)out_rows[j] * dim + d] = h[(size_t)j * dim + d];
    lane_barrier(lane);
}

const struct head_type head_recurrent = {
    .cached = true,
    .draft = draft,
};
