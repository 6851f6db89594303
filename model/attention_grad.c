/* Attention of the trainer, forward and backward: for one sequence and head the scores of a strip
 * of query rows against all keys before its end are one matrix product. */
#include <math.h>
#include <string.h>

#include "model/kernels/grad.h"
#include "model/model_grad.h"

static size_t padded(int context)
{
    return ((size_t)context + 15) & ~(size_t)15;
}

void batch_take(struct batch *batch, struct arena *arena, int lanes)
{
    for (int i = 0; i < lanes; i++)
        batch->scores[i] =
            arena_take(arena, 2 * ATTENTION_STRIP * padded(batch->context), sizeof(float));
}

/* Where the columns of one query head and its key/value head stand in a row of qkv. */
struct columns {
    size_t stride, q, k, v;
};

static struct columns columns(const struct config *c, int h)
{
    size_t size = (size_t)c->head_dim, g = (size_t)(h / (c->n_heads / c->n_kv_heads));
    size_t heads = (size_t)c->n_heads, kv = (size_t)c->n_kv_heads;
    return (struct columns){(heads + 2 * kv) * size, (size_t)h * size, (heads + g) * size,
                            (heads + kv + g) * size};
}

static int length(const struct batch *batch, int sequence)
{
    return batch->first[sequence + 1] - batch->first[sequence];
}

/* What the sequence that begins at row `first` attends to. */
static const float *keys_of(const struct batch *batch, const struct block_acts *own, size_t first,
                            const struct columns *at)
{
    return (batch->keys ? batch->keys : own)->qkv + first * at->stride;
}

void rows_rotate(struct lane *lane, const struct pass *pass, float *qkv, rope_kernel *rotate)
{
    const struct model *m = pass->model;
    const struct config *c = &m->config;
    int begin, end;
    size_t size = (size_t)c->head_dim, stride = columns(c, 0).stride;
    lane_share(lane, pass->n, 1, &begin, &end);
    for (int r = begin; r < end; r++) {
        int pos = pass->rows[r].pos + ((const struct batch *)pass->attend_arg)->ahead;
        size_t at = (size_t)(pos < m->positions ? pos : m->positions - 1) * size;
        rotate(qkv + (size_t)r * stride, m->rope_cos + at, m->rope_sin + at,
               c->n_heads + c->n_kv_heads, c->head_dim);
    }
}

void attend_whole(struct lane *lane, const struct pass *pass, int block, struct block_acts *acts,
                  const int *out_rows, int n_out)
{
    (void)block, (void)out_rows, (void)n_out; /* training computes every row */
    const struct config *c = &pass->model->config;
    const struct batch *batch = pass->attend_arg;
    int begin, end, size = c->head_dim, heads = c->n_heads;
    size_t width = padded(batch->context), out = (size_t)heads * (size_t)size;
    float *s = batch->scores[lane->id], scale = 1.0f / sqrtf((float)size);
    rows_rotate(lane, pass, acts->qkv, kernels.rope);
    lane_barrier(lane);
    lane_share(lane, batch->sequences * heads, 1, &begin, &end);
    for (int task = begin; task < end; task++) {
        int h = task % heads, rows = length(batch, task / heads);
        size_t first = (size_t)batch->first[task / heads];
        struct columns at = columns(c, h);
        const float *own = acts->qkv + first * at.stride, *keys = keys_of(batch, acts, first, &at);
        for (int from = 0; from < rows; from += ATTENTION_STRIP) {
            int to = from + ATTENTION_STRIP < rows ? from + ATTENTION_STRIP : rows;
            const float *q = own + (size_t)from * at.stride + at.q;
            gemm(lane, false, true, to - from, to, size, q, at.stride, keys + at.k, at.stride,
                 false, s, width);
            for (int i = from; i < to; i++)
                acts->lse[(first + (size_t)i) * (size_t)heads + (size_t)h] = grad_kernels.softmax(
                    s + (size_t)(i - from) * width, scale, i + 1, (int)padded(to));
            gemm(lane, false, false, to - from, size, to, s, width, keys + at.v, at.stride, false,
                 acts->att + (first + (size_t)from) * out + (size_t)h * (size_t)size, out);
        }
    }
}

/* In the forward pass O = P V with P = softmax(scale Q K^T), so
 * dV = P^T dO, dP = dO V^T, dS = P (dP - rowsum(dO O)) scale, dQ = dS K, dK = dS^T Q. */
static void backward_strip(struct lane *lane, const struct config *c, const struct batch *batch,
                           int h, int from, int to, const float *qkv, const float *keys,
                           const float *o, const float *lse, const float *d_out, float *dqkv,
                           float *dkeys)
{
    struct columns at = columns(c, h);
    size_t width = padded(batch->context), out = (size_t)c->n_heads * (size_t)c->head_dim;
    int m = to - from, size = c->head_dim, cut = (int)padded(to);
    float *p = batch->scores[lane->id], *dp = p + ATTENTION_STRIP * width;
    float scale = 1.0f / sqrtf((float)size);
    const float *q = qkv + (size_t)from * at.stride + at.q;

    gemm(lane, false, true, m, to, size, q, at.stride, keys + at.k, at.stride, false, p, width);
    gemm(lane, false, true, m, to, size, d_out, out, keys + at.v, at.stride, false, dp, width);
    for (int i = 0; i < m; i++) {
        float *pi = p + (size_t)i * width, *dpi = dp + (size_t)i * width;
        grad_kernels.softmax_again(pi, scale, lse[(size_t)i * (size_t)c->n_heads], from + i + 1,
                                   cut);
        memset(dpi + to, 0, (size_t)(cut - to) * sizeof(float));
        float delta = grad_kernels.dot(d_out + (size_t)i * out, o + (size_t)i * out, size);
        grad_kernels.softmax_back(pi, dpi, delta, scale, cut);
    }
    gemm(lane, true, false, to, size, m, p, width, d_out, out, true, dkeys + at.v, at.stride);
    gemm(lane, false, false, m, size, to, dp, width, keys + at.k, at.stride, false,
         dqkv + (size_t)from * at.stride + at.q, at.stride);
    gemm(lane, true, false, to, size, m, dp, width, q, at.stride, true, dkeys + at.k, at.stride);
}

/* The gradients of a sequence's own keys and values of one head, before rows add to them. */
static void begin_keys(const struct config *c, const struct batch *batch, const struct columns *at,
                       int rows, size_t first, float *d)
{
    size_t bytes = (size_t)c->head_dim * sizeof(float);
    for (size_t i = 0; i < (size_t)rows; i++) {
        float *k = d + i * at->stride + at->k, *v = d + i * at->stride + at->v;
        if (!batch->keys && batch->dkeys) {
            const float *from = batch->dkeys + (first + i) * at->stride;
            memcpy(k, from + at->k, bytes);
            memcpy(v, from + at->v, bytes);
        } else {
            memset(k, 0, bytes);
            memset(v, 0, bytes);
        }
    }
}

void attend_whole_backward(struct lane *lane, const struct pass *pass, struct block_acts *acts,
                           const float *datt, float *dqkv)
{
    const struct config *c = &pass->model->config;
    const struct batch *batch = pass->attend_arg;
    int begin, end, groups = c->n_kv_heads, per_group = c->n_heads / groups;
    size_t out = (size_t)c->n_heads * (size_t)c->head_dim;
    /* A lane takes whole key/value heads, because all their query heads add to dK and dV. */
    lane_share(lane, batch->sequences * groups, 1, &begin, &end);
    for (int task = begin; task < end; task++) {
        size_t first = (size_t)batch->first[task / groups];
        int rows = length(batch, task / groups);
        struct columns at = columns(c, task % groups * per_group);
        float *d = dqkv + first * at.stride;
        begin_keys(c, batch, &at, rows, first, d);
        for (int j = 0; j < per_group; j++)
            for (int from = 0; from < rows; from += ATTENTION_STRIP) {
                int h = task % groups * per_group + j;
                int to = from + ATTENTION_STRIP < rows ? from + ATTENTION_STRIP : rows;
                size_t row = first + (size_t)from, col = (size_t)h * (size_t)c->head_dim;
                backward_strip(lane, c, batch, h, from, to, acts->qkv + first * at.stride,
                               keys_of(batch, acts, first, &at), acts->att + row * out + col,
                               acts->lse + row * (size_t)c->n_heads + (size_t)h,
                               datt + row * out + col, d,
                               batch->keys ? batch->dkeys + first * at.stride : d);
            }
    }
}
