/* Replicated unembeddings: h_i = z for every head; the heads differ in the V x D matrix that makes
 * logits of it (model_logits). No cache, no layers. */
#include "heads/heads.h"

static void verify(struct lane *lane, const struct pass *pass, struct head_work *work, float *x,
                   const int *out_rows, int n_out, bool drafting, float *h)
{
    (void)work;
    (void)drafting;
    rows_gather(lane, &pass->model->config, x, out_rows, n_out, h);
    lane_barrier(lane);
}

static void draft(struct lane *lane, const struct pass *pass, struct head_work *work, int i,
                  const int32_t *tokens, float *x, const int *out_rows, int n_out, bool last,
                  float *h)
{
    (void)tokens;
    (void)i;
    verify(lane, pass, work, x, out_rows, n_out, last, h);
}

const struct head_type head_replicated = {
    .independent = true,
    .verify = verify,
    .draft = draft,
};
