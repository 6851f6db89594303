/* Anticausal heads: h_i = H_i(h_(i+1)), the last head reads z. The next-token head stands at the
 * end of the chain, so that verifying runs all heads on all rows; the drafts come with that, and
 * all that drafting has left to do is to fetch them. State i of x is h_i. */
#include "heads/heads.h"

static int states(const struct config *config)
{
    return config->n_predict;
}

static float *state(const struct pass *pass, float *x, int i)
{
    return x + (size_t)i * (size_t)pass->n * (size_t)pass->model->config.dim;
}

static void verify(struct lane *lane, const struct pass *pass, struct head_work *work, float *x,
                   const int *out_rows, int n_out, bool drafting, float *h)
{
    const float *before = x;
    (void)drafting;
    for (int i = pass->model->config.n_predict - 1; i > 0; i--) {
        head_layers(lane, pass, work, i, before, NULL, 0, state(pass, x, i));
        before = state(pass, x, i);
    }
    head_layers(lane, pass, work, 0, before, out_rows, n_out, h);
}

static void draft(struct lane *lane, const struct pass *pass, struct head_work *work, int i,
                  const int32_t *tokens, float *x, const int *out_rows, int n_out, bool last,
                  float *h)
{
    (void)tokens;
    (void)work;
    (void)last;
    rows_gather(lane, &pass->model->config, state(pass, x, i), out_rows, n_out, h);
    lane_barrier(lane);
}

const struct head_type head_anticausal = {
    .independent = true,
    .all_verify = true,
    .states = states,
    .verify = verify,
    .draft = draft,
};
