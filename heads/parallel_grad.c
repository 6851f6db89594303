/* Training parallel heads. */
#include "heads/heads_grad.h"

static const float *forward(struct lane *lane, const struct pass *pass, struct head_train *t, int i,
                            const float *z)
{
    return head_layers_forward(lane, pass, t, i, 0, z);
}

static void backward(struct lane *lane, const struct pass *pass, struct head_train *t, int i,
                     const float *z, float *d, float *dz)
{
    head_layers_backward(lane, pass, t, i, 0, z, d);
    rows_add(lane, pass, d, dz);
}

static void train(struct lane *lane, const struct pass *pass, struct head_train *t, const float *z,
                  float *dz)
{
    head_train_each(lane, pass, t, z, dz, forward, backward);
}

const struct head_trainer head_parallel_trainer = {.train = train};
