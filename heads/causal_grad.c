/* Training causal heads: the next-token head stands next to the trunk. */
#include "heads/heads_grad.h"

static void train(struct lane *lane, const struct pass *pass, struct head_train *t, const float *z,
                  float *dz)
{
    head_train_chain(lane, pass, t, z, dz, 0, 1);
}

const struct head_trainer head_causal_trainer = {.train = train, .chain = true};
