/* Linear heads: h_i = A_i z, one D x D matrix each. No cache; a draft costs one row. */
#include "heads/heads.h"

static void head(struct lane *lane, const struct pass *pass, struct head_work *work, int i,
                 const float *x, const int *full, int n_full, float *h)
{
    size_t dim = (size_t)pass->model->config.dim;
    if (n_full < pass->n) {
        rows_gather(lane, &pass->model->config, x, full, n_full, work->inner);
        lane_barrier(lane);
        x = work->inner;
    }
    linear_forward(lane, &pass->model->head_linear[i], x, dim, n_full, NULL, h, dim);
    lane_barrier(lane);
}

static void verify(struct lane *lane, const struct pass *pass, struct head_work *work, float *x,
                   const int *full, int n_full, bool drafting, float *h)
{
    (void)drafting;
    head(lane, pass, work, 0, x, full, n_full, h);
}

static void draft(struct lane *lane, const struct pass *pass, struct head_work *work, int i,
                  float *x, const int *full, int n_full, bool last, float *h)
{
    (void)last;
    head(lane, pass, work, i, x, full, n_full, h);
}

const struct head_type head_linear = {
    .independent = true,
    .verify = verify,
    .draft = draft,
};
