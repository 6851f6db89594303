/* Training anticausal heads: the next-token head is the furthest from the trunk. */
#include "heads/heads_grad.h"

static void train(struct lane *lane, const struct pass *pass, struct head_train *t, const float *z,
                  float *dz)
{
    head_train_chain(lane, pass, t, z, dz, pass->model->config.n_predict - 1, -1);
}

const struct head_trainer head_anticausal_trainer = {.train = train, .chain = true};
