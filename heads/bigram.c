/* The bigram term of heads that don't know the token drafted before theirs. What a matrix makes of
 * its embedding is added to their normalised rows before the unembedding: logits_i += U M e, a
 * bigram table of rank D that needs no other tables than the model's own. Serving has the logits of
 * all heads from one product before any draft is chosen, so it adds the term to the best of them
 * alone (arXiv 2607.05147 has tables of their own, and shows that 16 lose nothing). */
#include "heads/heads.h"

void head_bigram(struct lane *lane, const struct model *m, const int32_t *tokens, int n,
                 float *embedded, float *y)
{
    const struct config *c = &m->config;
    size_t dim = (size_t)c->dim;
    int begin, end;
    lane_share(lane, n, 1, &begin, &end);
    for (int r = begin; r < end; r++) {
        float *row = embedded + (size_t)r * dim;
        matrix_row(&m->embed, (size_t)tokens[r], row);
        kernels.rmsnorm(row, m->unit, c->dim, c->norm_eps, row);
    }
    lane_barrier(lane);
    linear_forward(lane, &m->bigram, embedded, dim, n, NULL, y, dim);
    lane_barrier(lane);
}

void head_bigram_add(struct lane *lane, const struct model *m, int32_t before, float *scratch,
                     struct head_few *few)
{
    size_t dim = (size_t)m->config.dim;
    float *row = scratch, *added = scratch + dim;
    head_bigram(lane, m, &before, 1, row, added);
    for (int i = 0; i < few->n; i++) {
        double sum = few->logits[i];
        matrix_row(&m->unembedding, (size_t)few->ids[i], row);
        for (size_t d = 0; d < dim; d++)
            sum += (double)row[d] * added[d];
        few->logits[i] = (float)sum;
    }
}
