/* Causal heads: h_i = H_i(h_(i-1)), h_0 = H_0(z). Each head reads the output of the one before on
 * every committed row, so every head but the last that drafts computes all of them. */
#include "heads/heads.h"

/* h_i takes the place of h_(i-1) in x, unless no head comes after it. */
static void head(struct lane *lane, const struct pass *pass, struct head_work *work, int i,
                 float *x, const int *out_rows, int n_out, bool last, float *h)
{
    if (last) {
        head_layers(lane, pass, work, i, x, out_rows, n_out, h);
        return;
    }
    head_layers(lane, pass, work, i, x, NULL, 0, x);
    rows_gather(lane, &pass->model->config, x, out_rows, n_out, h);
    lane_barrier(lane);
}

static void verify(struct lane *lane, const struct pass *pass, struct head_work *work, float *x,
                   const int *out_rows, int n_out, bool drafting, float *h)
{
    head(lane, pass, work, 0, x, out_rows, n_out, !drafting, h);
}

static void draft(struct lane *lane, const struct pass *pass, struct head_work *work, int i,
                  const int32_t *tokens, float *x, const int *out_rows, int n_out, bool last,
                  float *h)
{
    (void)tokens;
    head(lane, pass, work, i, x, out_rows, n_out, last, h);
}

const struct head_type head_causal = {
    .cached = true,
    .verify = verify,
    .draft = draft,
};
