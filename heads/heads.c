/* The table of head kinds, and what kinds made of layers share. */
#include "heads/heads.h"

#include <string.h>

const struct head_type *head_type(enum head_kind kind)
{
#define ENTRY(id, name, tensors) [HEAD_##id] = &head_##name,
    static const struct head_type *const types[HEAD_KINDS] = {HEAD_KIND_TABLE(ENTRY)};
#undef ENTRY
    return types[kind];
}

int head_states(const struct config *config)
{
    const struct head_type *type = head_type(config->kind);
    return type->states ? type->states(config) : 1 + config->n_aux;
}

bool heads_cached(const struct config *config)
{
    return config->prefix_layer || head_type(config->kind)->cached;
}

/* The layer before the heads, in x (T, D): the rows asked for, or, where heads have layers of their
 * own, all that leave keys and values there. */
static void prefix_layer(struct lane *lane, const struct pass *pass, struct head_work *work,
                         float *x, const int *out_rows, int n_out)
{
    const struct config *c = &pass->model->config;
    size_t dim = (size_t)c->dim;
    int begin, end;
    if (head_type(c->kind)->cached) {
        block_forward(lane, pass, c->n_layers, &work->acts, x, NULL, 0, x);
        return;
    }
    block_forward(lane, pass, c->n_layers, &work->acts, x, out_rows, n_out, work->inner);
    lane_share(lane, n_out, 1, &begin, &end);
    for (int j = begin; j < end; j++)
        memcpy(x + (size_t)out_rows[j] * dim, work->inner + (size_t)j * dim, dim * sizeof *x);
    lane_barrier(lane);
}

void heads_read(struct lane *lane, const struct pass *pass, struct head_work *work, float *x,
                const int *out_rows, int n_out)
{
    const struct aux_states aux = model_aux(pass->model, x, pass->n);
    const float *states[2 + AUX_LAYERS_MAX] = {x};
    for (int i = 0; i < aux.n; i++)
        states[1 + i] = aux.state[i];
    if (config_fused_states(&pass->model->config))
        states_fuse(lane, pass->model, states, pass->next, pass->n, work->joined, x);
    if (pass->model->config.prefix_layer)
        prefix_layer(lane, pass, work, x, out_rows, n_out);
}

void heads_verify(struct lane *lane, const struct pass *pass, struct head_work *work, float *x,
                  const int *out_rows, int n_out, bool drafting, float *h)
{
    const struct config *c = &pass->model->config;
    if (!c->next_is_trunk) {
        head_type(c->kind)->verify(lane, pass, work, x, out_rows, n_out, drafting, h);
        return;
    }
    rows_gather(lane, c, x, out_rows, n_out, h);
    lane_barrier(lane);
}

void head_work_take(struct head_work *work, struct arena *arena, const struct config *config,
                    int rows)
{
    block_acts_take(&work->acts, arena, config, rows, false);
    work->inner = arena_take(arena, (size_t)rows * (size_t)config->dim, sizeof(float));
    bool shared = head_kind_tensors(config->kind) == HEAD_SHARED;
    size_t fused = (size_t)config_fused_states(config);
    size_t joined = fused > 2 || !shared ? fused : 2;
    work->joined = arena_take(arena, (size_t)rows * joined * (size_t)config->dim, sizeof(float));
    work->rows = arena_take(arena, shared ? (size_t)rows : 0, sizeof *work->rows);
}

void head_layers(struct lane *lane, const struct pass *pass, struct head_work *work, int i,
                 const float *x, const int *out_rows, int n_out, float *y)
{
    /* Only the last layer may stop short of rows that nobody asked for, because the layers before
     * it feed its keys and values. */
    int block = model_head_block(pass->model, i), layers = config_head_blocks(&pass->model->config);
    for (int j = 0; j < layers - 1; j++) {
        block_forward(lane, pass, block + j, &work->acts, x, NULL, 0, work->inner);
        x = work->inner;
    }
    block_forward(lane, pass, block + layers - 1, &work->acts, x, out_rows, n_out, y);
}
