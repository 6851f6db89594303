/* Parallel heads in serving: see parallel.h. */
#include "heads/parallel.h"

/* H_i on every row; only the last layer may stop short of rows that nobody asked for, because the
 * layers before it feed its keys and values. */
static void head(struct lane *lane, const struct pass *pass, struct head_work *work, int i,
                 const float *z, const int *full, int n_full, float *h)
{
    int block = model_head_block(pass->model, i), layers = config_head_blocks(&pass->model->config);
    for (int j = 0; j < layers - 1; j++) {
        block_forward(lane, pass, block + j, &work->acts, z, NULL, 0, work->chain);
        z = work->chain;
    }
    block_forward(lane, pass, block + layers - 1, &work->acts, z, full, n_full, h);
}

static void verify(struct lane *lane, const struct pass *pass, struct head_work *work,
                   const float *z, const int *full, int n_full, float *h)
{
    head(lane, pass, work, 0, z, full, n_full, h);
}

const struct head_type head_parallel = {
    .name = "parallel",
    .independent = true,
    .verify = verify,
    .draft = head,
};
