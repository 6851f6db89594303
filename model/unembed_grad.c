/* The loss of a prediction head, and the gradients of embedding and unembedding. */
#include <string.h>

#include "model/kernels/grad.h"
#include "model/model_grad.h"

void model_embed_backward(struct lane *lane, const struct model *m, const int32_t *tokens, int rows,
                          const float *dx, float *grads)
{
    /* Rows of the same token add to one place, so lanes share columns, not rows. */
    float *dembed = grads + m->params.list[m->params.embed].offset;
    size_t dim = (size_t)m->config.dim;
    int begin, end;
    lane_share(lane, m->config.dim, 16, &begin, &end);
    for (int r = 0; r < rows; r++)
        grad_kernels.add(dx + (size_t)r * dim + begin, (size_t)(end - begin),
                         dembed + (size_t)tokens[r] * dim + begin);
    lane_barrier(lane);
}

/* The tokens that heads choose from. */
static int loss_tokens(const struct model *m)
{
    return m->n_draft_ids ? m->n_draft_ids : m->config.vocab;
}

/* Floats of a row of logits. */
static size_t loss_stride(const struct model *m)
{
    return ((size_t)loss_tokens(m) + PANEL - 1) / PANEL * PANEL;
}

void loss_work_take(struct loss_work *work, struct arena *arena, const struct model *m, int rows,
                    bool soft)
{
    size_t n = (size_t)rows, dim = (size_t)m->config.dim;
    work->normed = arena_take(arena, n * dim, sizeof(float));
    work->scale = arena_take(arena, n, sizeof(float));
    work->dnormed = arena_take(arena, n * dim, sizeof(float));
    work->logits = arena_take(arena, LOSS_ROWS * loss_stride(m), sizeof(float));
    work->soft = soft ? arena_take(arena, n * loss_stride(m), sizeof(float)) : NULL;
    work->row = arena_take(arena, n, sizeof(float));
    work->hit = arena_take(arena, n, 1);
}

static int largest(const float *x, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

void model_soft_targets(struct lane *lane, const struct model *m, struct loss_work *work,
                        const float *z, int rows)
{
    size_t stride = loss_stride(m);
    int begin, end, tokens = loss_tokens(m);
    rows_norm(lane, &m->config, z, m->norm, rows, work->normed, NULL);
    lane_barrier(lane);
    linear_forward(lane, &m->output, work->normed, (size_t)m->config.dim, rows, NULL, work->soft,
                   stride);
    lane_barrier(lane);
    lane_share(lane, rows, 1, &begin, &end);
    for (int r = begin; r < end; r++)
        grad_kernels.softmax(work->soft + (size_t)r * stride, 1, tokens, (int)stride);
    lane_barrier(lane);
}

/* Losses of rows first..first+n-1, whose logits become their gradients if `gradient`. */
static void loss_rows(struct lane *lane, const struct model *m, int head, struct loss_work *work,
                      const int32_t *targets, int first, int n, float factor, bool gradient)
{
    int begin, end, vocab = loss_tokens(m);
    size_t stride = loss_stride(m);
    lane_share(lane, n, 1, &begin, &end);
    for (int r = begin; r < end; r++) {
        float *x = work->logits + (size_t)r * stride;
        int target = targets[first + r];
        if (target < 0) {
            work->row[first + r] = work->hit[first + r] = 0;
            memset(x, 0, stride * sizeof *x);
            continue;
        }
        float lse = kernels.logsumexp(x, vocab);
        const float *p = work->soft ? work->soft + (size_t)(first + r + head) * stride : NULL;
        work->row[first + r] = lse - (p ? grad_kernels.dot(p, x, (int)stride) : x[target]);
        work->hit[first + r] = largest(x, vocab) == target;
        if (gradient && p)
            grad_kernels.soft_cross_entropy(x, lse, p, factor, vocab);
        else if (gradient)
            grad_kernels.cross_entropy(x, lse, target, factor, vocab);
    }
}

void model_loss(struct lane *lane, const struct model *m, int head, struct loss_work *work,
                const float *h, const float *added, const int32_t *targets, int rows, float factor,
                float *dh, float *grads)
{
    const struct linear *u = model_unembedding(m, head);
    size_t dim = (size_t)m->config.dim, stride = loss_stride(m);
    int begin, end, norm = m->params.norm;
    rows_norm(lane, &m->config, h, m->norm, rows, work->normed, work->scale);
    lane_share(lane, rows, 1, &begin, &end);
    if (added) /* to the rows that this lane has normalised */
        grad_kernels.add(added + (size_t)begin * dim, (size_t)(end - begin) * dim,
                         work->normed + (size_t)begin * dim);
    lane_barrier(lane);
    for (int first = 0; first < rows; first += LOSS_ROWS) {
        int n = rows - first < LOSS_ROWS ? rows - first : LOSS_ROWS;
        size_t at = (size_t)first * dim;
        linear_forward(lane, u, work->normed + at, dim, n, NULL, work->logits, stride);
        lane_barrier(lane);
        loss_rows(lane, m, head, work, targets, first, n, factor, dh != NULL);
        lane_barrier(lane);
        if (!dh)
            continue;
        linear_backward_input(lane, u, work->logits, stride, n, false, work->dnormed + at, dim);
        if (u->dense_grad)
            linear_backward_weight(lane, u, work->normed + at, dim, work->logits, stride, n);
        lane_barrier(lane);
    }
    if (!dh)
        return;
    lane_share(lane, rows, 1, &begin, &end);
    memset(dh + (size_t)begin * dim, 0, (size_t)(end - begin) * dim * sizeof(float));
    lane_barrier(lane);
    rows_norm_backward(lane, &m->config, h, m->norm, work->scale, work->dnormed, rows, dh,
                       norm < 0 ? NULL : grads + m->params.list[norm].offset);
}
