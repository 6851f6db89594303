/* Parallel heads: h_i = H_i(z), transformer layers of their own straight on the trunk's output.
 * Each head keeps keys and values of every committed row and computes only the rows that draft. */
#include "heads/heads.h"

static void verify(struct lane *lane, const struct pass *pass, struct head_work *work, float *x,
                   const int *out_rows, int n_out, bool drafting, float *h)
{
    (void)drafting;
    head_layers(lane, pass, work, 0, x, out_rows, n_out, h);
}

static void draft(struct lane *lane, const struct pass *pass, struct head_work *work, int i,
                  const int32_t *tokens, float *x, const int *out_rows, int n_out, bool last,
                  float *h)
{
    (void)tokens;
    (void)last;
    head_layers(lane, pass, work, i, x, out_rows, n_out, h);
}

const struct head_type head_parallel = {
    .independent = true,
    .cached = true,
    .verify = verify,
    .draft = draft,
};
