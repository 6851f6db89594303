/* The memory-saving walk of each kind. */
#include "heads/heads_grad.h"

#include <string.h>

#include "model/kernels/grad.h"

/* The loss of head i on h, its gradient into dh. */
static void head_loss(struct lane *lane, const struct pass *pass, struct head_train *t, int i,
                      const float *h, float *dh)
{
    model_loss(lane, pass->model, i, t->loss, h, t->targets + (size_t)i * (size_t)pass->n, pass->n,
               t->factor, dh, t->grads);
    if (lane->id == 0)
        t->report(t->report_arg, i, t->loss, pass->n);
    lane_barrier(lane);
}

static void rows_add(struct lane *lane, const struct pass *pass, const float *x, float *y)
{
    size_t dim = (size_t)pass->model->config.dim;
    int begin, end;
    lane_share(lane, pass->n, 1, &begin, &end);
    grad_kernels.add(x + (size_t)begin * dim, (size_t)(end - begin) * dim, y + (size_t)begin * dim);
    lane_barrier(lane);
}

/* Parallel heads know nothing of each other: forward, loss, backward, add to dz; the next head then
 * uses the same memory. */
static void train_parallel(struct lane *lane, const struct pass *pass, struct head_train *t,
                           const float *z, float *dz)
{
    const struct config *c = &pass->model->config;
    int layers = config_head_blocks(c), begin, end;
    bool gradient = t->factor != 0;
    lane_share(lane, pass->n, 1, &begin, &end);
    if (gradient)
        memset(dz + (size_t)begin * (size_t)c->dim, 0,
               (size_t)(end - begin) * (size_t)c->dim * sizeof(float));
    lane_barrier(lane);
    for (int i = 0; i < c->n_predict; i++) {
        int block = model_head_block(pass->model, i);
        for (int j = 0; j < layers; j++)
            block_forward(lane, pass, block + j, &t->acts[j], j ? t->in[j] : z, NULL, 0,
                          j + 1 < layers ? t->in[j + 1] : t->h);
        head_loss(lane, pass, t, i, t->h, gradient ? t->dh : NULL);
        if (!gradient)
            continue;
        for (int j = layers - 1; j >= 0; j--)
            block_backward(lane, pass, block + j, &t->acts[j], t->block, j ? t->in[j] : z, t->dh,
                           t->grads);
        rows_add(lane, pass, t->dh, dz);
    }
}

static head_train_fn *const trainers[HEAD_KINDS] = {
    [HEAD_PARALLEL] = train_parallel,
};

head_train_fn *head_trainer(enum head_kind kind)
{
    return trainers[kind];
}

void head_train_take(struct head_train *t, struct arena *arena, const struct config *c, int rows)
{
    size_t n = (size_t)rows * (size_t)c->dim;
    int layers = config_head_blocks(c);
    t->acts = arena_take(arena, (size_t)layers, sizeof *t->acts);
    t->in = arena_take(arena, (size_t)layers, sizeof *t->in);
    for (int j = 0; j < layers; j++) {
        struct block_acts counted;
        block_acts_take(arena->base ? &t->acts[j] : &counted, arena, c, rows, true);
        float *in = j ? arena_take(arena, n, sizeof(float)) : NULL;
        if (arena->base)
            t->in[j] = in;
    }
    t->h = arena_take(arena, n, sizeof(float));
    t->dh = arena_take(arena, n, sizeof(float));
}
