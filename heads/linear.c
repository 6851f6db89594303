/* Linear heads: h_i = A_i z, one D x D matrix each. No cache; a draft costs one row. */
#include "heads/heads.h"

static void head(struct lane *lane, const struct pass *pass, struct head_work *work, int i,
                 const float *x, const int *out_rows, int n_out, float *h)
{
    size_t dim = (size_t)pass->model->config.dim;
    if (!n_out)
        return;
    if (n_out < pass->n) {
        rows_gather(lane, &pass->model->config, x, out_rows, n_out, work->inner);
        lane_barrier(lane);
        x = work->inner;
    }
    linear_forward(lane, &pass->model->head_linear[i], x, dim, n_out, NULL, h, dim);
    lane_barrier(lane);
}

static void verify(struct lane *lane, const struct pass *pass, struct head_work *work, float *x,
                   const int *out_rows, int n_out, bool drafting, float *h)
{
    (void)drafting;
    head(lane, pass, work, 0, x, out_rows, n_out, h);
}

static void draft(struct lane *lane, const struct pass *pass, struct head_work *work, int i,
                  const int32_t *tokens, float *x, const int *out_rows, int n_out, bool last,
                  float *h)
{
    (void)tokens;
    (void)last;
    head(lane, pass, work, i, x, out_rows, n_out, h);
}

const struct head_type head_linear = {
    .independent = true,
    .verify = verify,
    .draft = draft,
};
