/* The two walks over heads in the memory-saving order, and what they share. */
#include "heads/heads_grad.h"

#include <string.h>

#include "model/kernels/grad.h"

const struct head_trainer *head_trainer(enum head_kind kind)
{
#define ENTRY(id, name, tensors) [HEAD_##id] = &head_##name##_trainer,
    static const struct head_trainer *const trainers[HEAD_KINDS] = {HEAD_KIND_TABLE(ENTRY)};
#undef ENTRY
    return trainers[kind];
}

/* ---- the walks ---- */

void head_loss(struct lane *lane, const struct pass *pass, struct head_train *t, int i,
               const float *h)
{
    const struct model *m = pass->model;
    size_t rows = (size_t)pass->n, dim = (size_t)m->config.dim;
    bool bigram = m->config.bigram && i > 1;
    if (bigram)
        head_bigram(lane, m, t->next + (size_t)(i - 1) * rows, pass->n, t->embedded, t->added);
    model_loss(lane, m, i, t->loss, h, bigram ? t->added : NULL, t->targets + (size_t)i * rows,
               pass->n, t->factor * t->weight[i], t->factor != 0 ? t->dh : NULL, t->grads);
    if (bigram && t->factor != 0)
        linear_backward_weight(lane, &m->bigram, t->embedded, dim, t->loss->dnormed, dim, pass->n);
    if (lane->id == 0)
        t->report(t->report_arg, i, t->loss, pass->n);
    lane_barrier(lane);
}

void rows_clear(struct lane *lane, const struct pass *pass, float *x)
{
    size_t dim = (size_t)pass->model->config.dim;
    int begin, end;
    lane_share(lane, pass->n, 1, &begin, &end);
    memset(x + (size_t)begin * dim, 0, (size_t)(end - begin) * dim * sizeof(float));
    lane_barrier(lane);
}

/* Figure 2: forward, loss, backward, add to dz, and on to the next head. */
void head_train_each(struct lane *lane, const struct pass *pass, struct head_train *t,
                     const float *z, float *dz, head_forward_fn *forward,
                     head_backward_fn *backward)
{
    rows_clear(lane, pass, dz);
    const struct config *c = &pass->model->config;
    for (int i = config_first_head(c); i < c->n_predict; i++) {
        head_loss(lane, pass, t, i, forward(lane, pass, t, i, z));
        if (t->factor != 0)
            backward(lane, pass, t, i, z, t->dh, dz);
    }
}

/* Figure S11: all heads forward, then back from the head furthest from the trunk. Into the output
 * of each flow the gradient from its successor, which dz holds, and that of its own loss. */
void head_train_chain(struct lane *lane, const struct pass *pass, struct head_train *t,
                      const float *z, float *dz, int first, int step)
{
    int n = pass->model->config.n_predict - config_first_head(&pass->model->config);
    const float *out[HEADS_MAX];
    for (int p = 0; p < n; p++)
        out[p] = head_layers_forward(lane, pass, t, first + p * step, p, z);
    rows_clear(lane, pass, dz);
    for (int p = n - 1; p >= 0; p--) {
        head_loss(lane, pass, t, first + p * step, out[p]);
        if (t->factor == 0)
            continue;
        rows_add(lane, pass, t->dh, dz);
        head_layers_backward(lane, pass, t, first + p * step, p, z, dz);
    }
}

/* ---- layers, rows ---- */

static const float *input(const struct head_train *t, int slot, const float *z)
{
    return slot ? t->in[slot] : z;
}

const float *head_layers_forward(struct lane *lane, const struct pass *pass, struct head_train *t,
                                 int i, int p, const float *z)
{
    const struct config *c = &pass->model->config;
    int layers = config_head_blocks(c), heads = head_trainer(c->kind)->chain ? c->n_predict : 1;
    float *out = t->h;
    for (int j = 0; j < layers; j++) {
        int slot = p * layers + j;
        out = slot + 1 < heads * layers ? t->in[slot + 1] : t->h;
        block_forward(lane, pass, model_head_block(pass->model, i) + j, &t->acts[slot],
                      input(t, slot, z), NULL, 0, out);
    }
    return out;
}

void head_layers_backward(struct lane *lane, const struct pass *pass, struct head_train *t, int i,
                          int p, const float *z, float *d)
{
    int layers = config_head_blocks(&pass->model->config);
    for (int j = layers - 1; j >= 0; j--) {
        int slot = p * layers + j;
        block_backward(lane, pass, model_head_block(pass->model, i) + j, &t->acts[slot], t->block,
                       input(t, slot, z), d, t->grads);
    }
}

void rows_add(struct lane *lane, const struct pass *pass, const float *x, float *y)
{
    size_t dim = (size_t)pass->model->config.dim;
    int begin, end;
    lane_share(lane, pass->n, 1, &begin, &end);
    grad_kernels.add(x + (size_t)begin * dim, (size_t)(end - begin) * dim, y + (size_t)begin * dim);
    lane_barrier(lane);
}

/* ---- memory ---- */

void head_train_take(struct head_train *t, struct arena *arena, const struct config *c, int rows)
{
    size_t n = (size_t)rows * (size_t)c->dim;
    int slots = config_head_blocks(c) * (head_trainer(c->kind)->chain ? c->n_predict : 1);
    t->acts = arena_take(arena, (size_t)slots, sizeof *t->acts);
    t->in = arena_take(arena, (size_t)slots, sizeof *t->in);
    for (int k = 0; k < slots; k++) {
        struct block_acts counted;
        block_acts_take(arena->base ? &t->acts[k] : &counted, arena, c, rows, true);
        float *in = k || c->kind == HEAD_RECURRENT ? arena_take(arena, n, sizeof(float)) : NULL;
        if (arena->base)
            t->in[k] = in;
    }
    t->recurrent = arena_take(arena, 1, sizeof *t->recurrent);
    if (c->kind == HEAD_RECURRENT) {
        struct recurrent_work work;
        recurrent_work_take(&work, arena, c, rows);
        if (arena->base)
            *t->recurrent = work;
    }
    t->embedded = arena_take(arena, c->bigram ? n : 0, sizeof(float));
    t->added = arena_take(arena, c->bigram ? n : 0, sizeof(float));
    t->h = arena_take(arena, n, sizeof(float));
    t->dh = arena_take(arena, n, sizeof(float));
    for (int i = 0; i < HEADS_MAX; i++)
        t->weight[i] = 1;
}
