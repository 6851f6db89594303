/* Training linear heads. */
#include "heads/heads_grad.h"

static const float *forward(struct lane *lane, const struct pass *pass, struct head_train *t, int i,
                            const float *z)
{
    size_t dim = (size_t)pass->model->config.dim;
    linear_forward(lane, &pass->model->head_linear[i], z, dim, pass->n, NULL, t->h, dim);
    lane_barrier(lane);
    return t->h;
}

static void backward(struct lane *lane, const struct pass *pass, struct head_train *t, int i,
                     const float *z, float *d, float *dz)
{
    const struct linear *a = &pass->model->head_linear[i];
    (void)t;
    size_t dim = (size_t)pass->model->config.dim;
    linear_backward_input(lane, a, d, dim, pass->n, true, dz, dim);
    linear_backward_weight(lane, a, z, dim, d, dim, pass->n);
    lane_barrier(lane);
}

static void train(struct lane *lane, const struct pass *pass, struct head_train *t, const float *z,
                  float *dz)
{
    head_train_each(lane, pass, t, z, dz, forward, backward);
}

const struct head_trainer head_linear_trainer = {.train = train};
