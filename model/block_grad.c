/* Gradients of block.c. */
#include "model/kernels/grad.h"
#include "model/model_grad.h"

void block_work_take(struct block_work *work, struct arena *arena, const struct config *c, int rows)
{
    size_t n = (size_t)rows, dim = (size_t)c->dim, hidden = (size_t)c->hidden;
    size_t qkv = (size_t)(c->n_heads + 2 * c->n_kv_heads) * (size_t)c->head_dim;
    work->dnorm = arena_take(arena, n * dim, sizeof(float));
    work->dqkv = arena_take(arena, n * qkv, sizeof(float));
    work->datt = arena_take(arena, n * (size_t)(c->n_heads * c->head_dim), sizeof(float));
    work->dgate_up = arena_take(arena, n * 2 * hidden, sizeof(float));
    work->dact = arena_take(arena, n * hidden, sizeof(float));
}

void rows_norm_backward(struct lane *lane, const struct config *config, const float *x,
                        const float *norm_weight, const float *scale, const float *dy, int rows,
                        float *dx, float *dgain)
{
    int begin, end;
    size_t dim = (size_t)config->dim;
    lane_share(lane, config->dim, 16, &begin, &end);
    if (dgain)
        grad_kernels.norm_weight(dy + begin, x + begin, scale, rows, dim, end - begin,
                                 dgain + begin);
    lane_share(lane, rows, 1, &begin, &end);
    for (int r = begin; r < end; r++)
        grad_kernels.rmsnorm(dy + (size_t)r * dim, x + (size_t)r * dim, norm_weight, scale[r],
                             config->dim, dx + (size_t)r * dim);
    lane_barrier(lane);
}

static void rows_swiglu_backward(struct lane *lane, const struct config *c, const float *gate_up,
                                 const float *dact, int rows, float *dgate_up)
{
    size_t hidden = (size_t)c->hidden;
    int begin, end;
    lane_share(lane, rows, 1, &begin, &end);
    for (int r = begin; r < end; r++) {
        size_t at = (size_t)r * 2 * hidden;
        grad_kernels.swiglu(gate_up + at, gate_up + at + hidden, dact + (size_t)r * hidden,
                            c->hidden, dgate_up + at, dgate_up + at + hidden);
    }
}

void block_backward_normed(struct lane *lane, const struct pass *pass, int index,
                           struct block_acts *acts, struct block_work *work, const float *normed,
                           float *d, float *dnormed, float *grads)
{
    const struct model *model = pass->model;
    const struct config *c = &model->config;
    const struct block *b = &model->blocks[index];
    const struct param *p = &model->params.list[params_of_block(&model->params, index, 0)];
    size_t dim = (size_t)c->dim, hidden = (size_t)c->hidden, qkv = (size_t)b->wqkv.outputs;
    size_t att = (size_t)b->wo.inputs, inputs = (size_t)b->wqkv.inputs;
    int n = pass->n;

    /* y = mid + W2 act */
    linear_backward_input(lane, &b->w2, d, dim, n, false, work->dact, hidden);
    linear_backward_weight(lane, &b->w2, acts->act, hidden, d, dim, n);
    lane_barrier(lane);
    rows_swiglu_backward(lane, c, acts->gate_up, work->dact, n, work->dgate_up);
    lane_barrier(lane);
    linear_backward_input(lane, &b->w13, work->dgate_up, 2 * hidden, n, false, work->dnorm, dim);
    linear_backward_weight(lane, &b->w13, acts->norm2, dim, work->dgate_up, 2 * hidden, n);
    lane_barrier(lane);
    rows_norm_backward(lane, c, acts->mid, b->ffn_norm, acts->scale2, work->dnorm, n, d,
                       grads + p[BLOCK_FFN_NORM].offset);
    /* mid = x + Wo att */
    linear_backward_input(lane, &b->wo, d, dim, n, false, work->datt, att);
    linear_backward_weight(lane, &b->wo, acts->att, att, d, dim, n);
    lane_barrier(lane);
    attend_whole_backward(lane, pass, acts, work->datt, work->dqkv);
    lane_barrier(lane);
    rows_rotate(lane, pass, work->dqkv, grad_kernels.rope);
    lane_barrier(lane);
    linear_backward_input(lane, &b->wqkv, work->dqkv, qkv, n, false, dnormed, inputs);
    linear_backward_weight(lane, &b->wqkv, normed, inputs, work->dqkv, qkv, n);
    lane_barrier(lane);
}

void block_backward(struct lane *lane, const struct pass *pass, int index, struct block_acts *acts,
                    struct block_work *work, const float *x, float *d, float *grads)
{
    const struct model *m = pass->model;
    int norm = params_of_block(&m->params, index, BLOCK_ATTN_NORM);
    block_backward_normed(lane, pass, index, acts, work, acts->norm1, d, work->dnorm, grads);
    rows_norm_backward(lane, &m->config, x, m->blocks[index].attn_norm, acts->scale1, work->dnorm,
                       pass->n, d, grads + m->params.list[norm].offset);
}
