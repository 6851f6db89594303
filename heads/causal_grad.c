/* Training causal heads: the first one stands next to the trunk. */
#include "heads/heads_grad.h"

static void train(struct lane *lane, const struct pass *pass, struct head_train *t, const float *z,
                  float *dz)
{
    head_train_chain(lane, pass, t, z, dz, config_first_head(&pass->model->config), 1);
}

const struct head_trainer head_causal_trainer = {.train = train, .chain = true};
