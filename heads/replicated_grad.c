/* Training replicated unembeddings: h_i is z, so its gradient goes straight to the trunk; the
 * matrices' gradients are model_loss's work. */
#include "heads/heads_grad.h"

static const float *forward(struct lane *lane, const struct pass *pass, struct head_train *t, int i,
                            const float *z)
{
    (void)lane;
    (void)pass;
    (void)t;
    (void)i;
    return z;
}

static void backward(struct lane *lane, const struct pass *pass, struct head_train *t, int i,
                     const float *z, float *d, float *dz)
{
    (void)t;
    (void)i;
    (void)z;
    rows_add(lane, pass, d, dz);
}

static void train(struct lane *lane, const struct pass *pass, struct head_train *t, const float *z,
                  float *dz)
{
    head_train_each(lane, pass, t, z, dz, forward, backward);
}

const struct head_trainer head_replicated_trainer = {.train = train};
