/* Training recurrent heads on a frozen trunk: all steps forward, each with the true token in hand,
 * then back from the last. Step i is head i; its state is the output of the step before. */
#include <string.h>

#include "heads/heads_grad.h"
#include "model/kernels/grad.h"

void recurrent_work_take(struct recurrent_work *w, struct arena *arena, const struct config *c,
                         int rows)
{
    size_t n = (size_t)rows, dim = (size_t)c->dim, steps = (size_t)c->n_predict;
    size_t qkv = (size_t)(c->n_heads + 2 * c->n_kv_heads) * (size_t)c->head_dim;
    float **const arrays[] = {w->out = arena_take(arena, steps, sizeof *w->out),
                              w->joined = arena_take(arena, steps, sizeof *w->joined),
                              w->scale = arena_take(arena, steps, sizeof *w->scale)};
    const size_t sizes[] = {n * dim, 2 * n * dim, 2 * n};
    for (size_t a = 0; a < 3; a++)
        for (size_t i = 1; i < steps; i++) {
            float *taken = arena_take(arena, sizes[a], sizeof(float));
            if (arena->base)
                arrays[a][i] = taken;
        }
    w->embedded = arena_take(arena, n * dim, sizeof(float));
    w->djoined = arena_take(arena, 2 * n * dim, sizeof(float));
    w->half = arena_take(arena, n * dim, sizeof(float));
    w->dkeys = arena_take(arena, n * qkv, sizeof(float));
}

/* One step's pass over the rows: those of the first attend to their own keys, the others to them.
 */
struct step {
    int i;
    struct batch batch;
    struct pass pass;
};

static void begin_step(struct step *s, const struct pass *pass, const struct head_train *t, int i,
                       bool more)
{
    s->i = i;
    s->batch = *(const struct batch *)pass->attend_arg;
    s->batch.ahead = i - 1;
    s->batch.keys = i > 1 ? &t->acts[0] : NULL;
    s->batch.dkeys = more ? t->recurrent->dkeys : NULL;
    s->pass = *pass;
    s->pass.attend_arg = &s->batch;
}

static const int32_t *tokens_of(const struct head_train *t, const struct pass *pass, int i)
{
    return t->next + (size_t)(i - 1) * (size_t)pass->n;
}

static const float *state_before(const struct head_train *t, int i, const float *z)
{
    return i > 1 ? t->recurrent->out[i - 1] : z;
}

/* Joined attention: the token's embedding comes first, and is normalised by the layer's norm. */
static bool token_first(const struct model *m)
{
    return m->config.joined_attention;
}

static int token_norm_param(const struct model *m)
{
    return m->config.joined_attention
               ? params_of_block(&m->params, model_head_block(m, 1), BLOCK_ATTN_NORM)
               : m->params.shared + 1;
}

static const float *token_norm(const struct model *m)
{
    return m->config.joined_attention ? m->blocks[model_head_block(m, 1)].attn_norm : m->token_norm;
}

/* ---- forward ---- */

static void join(struct lane *lane, const struct pass *pass, struct head_train *t, int i,
                 const float *state)
{
    const struct model *m = pass->model;
    const struct config *c = &m->config;
    struct recurrent_work *w = t->recurrent;
    size_t dim = (size_t)c->dim, n = (size_t)pass->n, token_at = token_first(m) ? 0 : dim;
    int begin, end;
    model_embed(lane, m, tokens_of(t, pass, i), pass->n, w->embedded);
    lane_share(lane, pass->n, 1, &begin, &end);
    for (size_t r = (size_t)begin; r < (size_t)end; r++) {
        float *to = w->joined[i] + r * 2 * dim;
        w->scale[i][r] = kernels.rmsnorm(state + r * dim, m->state_norm, c->dim, c->norm_eps,
                                         to + (dim - token_at));
        w->scale[i][n + r] = kernels.rmsnorm(w->embedded + r * dim, token_norm(m), c->dim,
                                             c->norm_eps, to + token_at);
    }
    lane_barrier(lane);
}

static void layer(struct lane *lane, struct step *s, struct head_train *t, const float *state)
{
    const struct model *m = s->pass.model;
    struct recurrent_work *w = t->recurrent;
    int i = s->i, block = model_head_block(m, i);
    size_t dim = (size_t)m->config.dim;
    if (m->config.joined_attention) {
        block_forward_normed(lane, &s->pass, block, &t->acts[i - 1], w->joined[i], state, NULL, 0,
                             w->out[i]);
        return;
    }
    linear_forward(lane, &m->project, w->joined[i], 2 * dim, s->pass.n, NULL, t->in[i - 1], dim);
    lane_barrier(lane);
    block_forward(lane, &s->pass, block, &t->acts[i - 1], t->in[i - 1], NULL, 0, w->out[i]);
}

/* ---- backward ---- */

/* One half of djoined, and what it makes of a norm: adds to dx. */
static void norm_backward(struct lane *lane, const struct pass *pass, struct head_train *t, int i,
                          bool token, const float *x, float *dx)
{
    const struct model *m = pass->model;
    struct recurrent_work *w = t->recurrent;
    size_t dim = (size_t)m->config.dim, n = (size_t)pass->n;
    int begin, end;
    lane_share(lane, pass->n, 1, &begin, &end);
    int half = token != token_first(m), norm = token ? token_norm_param(m) : m->params.shared;
    for (size_t r = (size_t)begin; r < (size_t)end; r++)
        memcpy(w->half + r * dim, w->djoined + (2 * r + (size_t)half) * dim, dim * sizeof(float));
    lane_barrier(lane);
    rows_norm_backward(lane, &m->config, x, token ? token_norm(m) : m->state_norm,
                       w->scale[i] + token * n, w->half, pass->n, dx,
                       t->grads + m->params.list[norm].offset);
}

/* d: on entry the gradient of h_i, on return that of the state before. */
static void step_backward(struct lane *lane, struct step *s, struct head_train *t, const float *z,
                          float *d)
{
    const struct model *m = s->pass.model;
    struct recurrent_work *w = t->recurrent;
    int i = s->i, n = s->pass.n, block = model_head_block(m, i);
    size_t dim = (size_t)m->config.dim;
    if (m->config.joined_attention) {
        block_backward_normed(lane, &s->pass, block, &t->acts[i - 1], t->block, w->joined[i], d,
                              w->djoined, t->grads);
    } else {
        block_backward(lane, &s->pass, block, &t->acts[i - 1], t->block, t->in[i - 1], d, t->grads);
        linear_backward_input(lane, &m->project, d, dim, n, false, w->djoined, 2 * dim);
        linear_backward_weight(lane, &m->project, w->joined[i], 2 * dim, d, dim, n);
        lane_barrier(lane);
        rows_clear(lane, &s->pass, d);
    }
    norm_backward(lane, &s->pass, t, i, false, state_before(t, i, z), d);
    /* The embedding is frozen: its gradient is only written where nobody reads it. */
    model_embed(lane, m, tokens_of(t, &s->pass, i), n, w->embedded);
    norm_backward(lane, &s->pass, t, i, true, w->embedded, t->dh);
}

static void train(struct lane *lane, const struct pass *pass, struct head_train *t, const float *z,
                  float *dz)
{
    const struct model *m = pass->model;
    struct recurrent_work *w = t->recurrent;
    int last = m->config.n_predict - 1;
    size_t qkv =
        (size_t)(m->config.n_heads + 2 * m->config.n_kv_heads) * (size_t)m->config.head_dim;
    struct step s;
    for (int i = 1; i <= last; i++) {
        begin_step(&s, pass, t, i, false);
        join(lane, pass, t, i, state_before(t, i, z));
        layer(lane, &s, t, state_before(t, i, z));
    }
    rows_clear(lane, pass, dz);
    if (lane->id == 0)
        memset(w->dkeys, 0, (size_t)pass->n * qkv * sizeof(float));
    lane_barrier(lane);
    for (int i = last; i >= 1; i--) {
        head_loss(lane, pass, t, i, w->out[i]);
        if (t->factor == 0)
            continue;
        rows_add(lane, pass, t->dh, dz);
        begin_step(&s, pass, t, i, true);
        step_backward(lane, &s, t, z, dz);
    }
}

const struct head_trainer head_recurrent_trainer = {.train = train, .chain = true};
