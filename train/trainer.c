/* The training step. */
#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "model/kernels/grad.h"
#include "train/frozen.h"
#include "train/ranks.h"

#define PIECE 65536 /* floats whose squares are summed by one lane */

/* ---- parameters ---- */

static float normal(uint64_t seed, uint64_t stream, uint64_t index)
{
    double u = rng_uniform(seed, stream, 2 * index), v = rng_uniform(seed, stream, 2 * index + 1);
    return (float)(sqrt(-2 * log(u)) * cos(2 * M_PI * v));
}

/* Gains are 1. Matrices are normal with the variance that keeps a row's size, 1 / inputs, those
 * that write to the residual stream smaller by the square root of how many do. */
static void draw(struct trainer *t, uint64_t seed)
{
    const struct params *p = &t->model.params;
    const struct config *c = &t->model.config;
    double writers = 2.0 * (c->n_layers + c->prefix_layer + config_head_blocks(c));
    for (int i = 0; i < p->n; i++) {
        const struct param *w = &p->list[i];
        int in_block = (i - p->blocks) % p->per_block;
        bool block = i >= p->blocks && i < p->blocks + p->n_blocks * p->per_block;
        double deviation = i == p->embed ? 0.5 : 1 / sqrt((double)w->shape[1]);
        if (block && (in_block == BLOCK_WO || in_block == BLOCK_W2))
            deviation /= sqrt(writers);
        for (size_t j = 0; j < w->count; j++)
            t->value[w->offset + j] = i == p->bigram ? 0
                                      : i == p->fuse ? j % w->shape[1] == j / w->shape[1]
                                      : w->n_dims == 1
                                          ? 1.0f
                                          : (float)deviation * normal(seed, (uint64_t)i, j);
    }
}

/* ---- memory ---- */

static void take(struct trainer *t, const struct params *params)
{
    struct arena *a = &t->arena;
    const struct config *c = &t->model.config;
    size_t rows = (size_t)t->most_rows, width = rows * (size_t)c->dim;
    int layers = c->n_layers;
    t->value = arena_take(a, t->total, sizeof(float));
    t->grad = arena_take(a, t->total, sizeof(float));
    t->m = arena_take(a, t->total, sizeof(float));
    t->v = arena_take(a, t->total, sizeof(float));
    t->row = arena_take(a, rows, sizeof *t->row);
    t->acts = arena_take(a, (size_t)layers + 1, sizeof *t->acts);
    t->x = arena_take(a, (size_t)layers + 1, sizeof *t->x);
    for (int l = 0; l <= layers; l++) {
        struct block_acts acts = {0};
        float *x = arena_take(a, width, sizeof(float));
        if (l < layers)
            block_acts_take(&acts, a, c, t->most_rows, true);
        if (a->base) {
            t->x[l] = x;
            t->acts[l] = acts;
        }
    }
    t->aux = (struct aux_states){.n = c->n_aux, .layers = t->model.config.aux_layers};
    for (int i = 0; i < c->n_aux; i++)
        t->aux.state[i] = arena_take(a, width, sizeof(float));
    size_t fused = (size_t)config_fused_states(c);
    t->joined = arena_take(a, width * fused, sizeof(float));
    t->fused = arena_take(a, fused ? width : 0, sizeof(float));
    t->prefixed = arena_take(a, c->prefix_layer ? width : 0, sizeof(float));
    if (c->prefix_layer)
        block_acts_take(&t->prefix, a, c, t->most_rows, true);
    t->dz = arena_take(a, width, sizeof(float));
    size_t ranks = (size_t)ranks_count();
    t->summed = arena_take(a, ranks > 1 ? t->total + ranks : 0, sizeof(float));
    block_work_take(&t->block, a, c, t->most_rows);
    loss_work_take(&t->loss, a, &t->model, t->most_rows, t->soft);
    head_train_take(&t->heads, a, c, t->most_rows);
    t->first = arena_take(a, (size_t)t->sequences + 1, sizeof *t->first);
    batch_take(&t->batch, a, t->team->n);
    t->tokens = arena_take(a, rows, sizeof *t->tokens);
    t->targets = arena_take(a, rows * (size_t)c->n_predict, sizeof *t->targets);
    t->next = arena_take(a, t->frozen ? rows * (size_t)c->n_predict : 0, sizeof *t->next);
    t->alive = arena_take(a, rows, 1);
    t->hit = arena_take(a, rows * (size_t)c->n_predict, 1);
    t->learned = arena_take(a, rows, 1);
    if (t->frozen)
        muon_work_take(&t->muon_work, a, params);
    t->partial = arena_take(a, (size_t)t->n_partial, sizeof *t->partial);
}

static void report(void *arg, int head, const struct loss_work *loss, int rows)
{
    struct trainer *t = arg;
    const int32_t *targets = t->targets + (size_t)head * (size_t)rows;
    double nats = 0, hits = 0, n = 0;
    for (int r = 0; r < rows; r++) {
        n += targets[r] >= 0;
        nats += loss->row[r];
        hits += loss->hit[r];
    }
    n = n > 0 ? n : 1;
    t->score[head] = (struct head_score){nats / n, hits / n, 0};
    memcpy(t->hit + (size_t)head * (size_t)rows, loss->hit, (size_t)rows);
}

/* How far the heads that draft are right one after another, when all have reported. */
static void score_runs(struct trainer *t)
{
    const struct config *c = &t->model.config;
    size_t rows = (size_t)t->rows;
    for (int i = c->next_is_trunk ? 1 : 0; i < c->n_predict; i++) {
        double run = 0;
        for (size_t r = 0; r < rows; r++) {
            t->alive[r] &= t->hit[(size_t)i * rows + r];
            run += t->alive[r];
        }
        t->score[i].run = run / (t->n_learned ? t->n_learned : 1);
    }
}

static int allocate(struct trainer *t, const struct config *config, int sequences,
                    struct team *team, struct err *err)
{
    struct params params;
    int rc = params_init(&params, config, err);
    if (rc)
        return rc;
    t->total = params.total;
    t->team = team;
    t->sequences = sequences;
    t->context = config->context;
    t->rows = t->most_rows = sequences * config->context;
    t->batch = (struct batch){.sequences = sequences, .context = config->context};
    t->n_partial = (int)((t->total + PIECE - 1) / PIECE);
    t->model.config = *config; /* what the counting pass reads */
    t->model.n_draft_ids = t->frozen ? t->frozen->n_ids : 0;
    take(t, &params);
    rc = arena_init(&t->arena, err);
    if (!rc)
        take(t, &params);
    params_release(&params);
    return rc;
}

static void connect(struct trainer *t)
{
    for (int r = 0; r < t->rows; r++)
        t->row[r] = (struct row){.pos = r % t->context};
    for (int b = 0; b <= t->sequences; b++)
        t->first[b] = b * t->context;
    t->batch.first = t->first;
    t->heads.block = &t->block;
    t->heads.loss = &t->loss;
    t->heads.targets = t->targets;
    t->heads.next = t->next;
    t->heads.grads = t->grad;
    t->heads.report = report;
    t->heads.report_arg = t;
}

int trainer_init(struct trainer *t, const struct config *config, int sequences, uint64_t seed,
                 struct team *team, struct err *err)
{
    memset(t, 0, sizeof *t);
    int rc = allocate(t, config, sequences, team, err);
    if (!rc)
        rc = model_over(&t->model, config, t->value, t->grad, err);
    if (rc) {
        arena_release(&t->arena);
        return rc;
    }
    connect(t);
    draw(t, seed);
    return 0;
}

int trainer_init_frozen(struct trainer *t, const struct config *config, const struct model *trunk,
                        const struct draft_targets *targets, int sequences, uint64_t seed,
                        struct team *team, struct err *err)
{
    memset(t, 0, sizeof *t);
    t->frozen = calloc(1, sizeof *t->frozen);
    if (!t->frozen)
        return err_set(err, ERR_MEMORY, "no memory for a trainer");
    t->soft = targets->soft;
    int rc = frozen_init(t->frozen, trunk, targets->ids, targets->n, sequences, config->context,
                         team, err);
    if (!rc)
        rc = allocate(t, config, sequences, team, err);
    if (!rc)
        rc = model_over(&t->model, config, t->value, t->grad, err);
    if (rc) {
        trainer_release(t);
        return rc;
    }
    /* What heads share with their trunk. */
    t->model.embed = trunk->embed;
    t->model.norm = trunk->norm;
    t->model.rope_cos = trunk->rope_cos;
    t->model.rope_sin = trunk->rope_sin;
    t->model.positions = trunk->positions;
    t->model.n_draft_ids = t->frozen->n_ids;
    t->model.output = (struct linear){
        .inputs = config->dim, .outputs = t->frozen->n_ids, .dense = t->frozen->unembedding};
    connect(t);
    draw(t, seed);
    return 0;
}

void trainer_release(struct trainer *t)
{
    model_release(&t->model);
    if (t->frozen)
        frozen_release(t->frozen);
    free(t->frozen);
    arena_release(&t->arena);
    memset(t, 0, sizeof *t);
}

/* ---- a step ---- */

void trainer_window(struct trainer *t, int b, const int32_t *window)
{
    size_t context = (size_t)t->context, at = (size_t)b * context;
    memcpy(t->tokens + at, window, context * sizeof *window);
    for (int i = 0; i < t->model.config.n_predict; i++)
        memcpy(t->targets + (size_t)i * (size_t)t->rows + at, window + i + 1,
               context * sizeof *window);
}

/* Row r of a text: what comes behind it, and what of that is learned. Soft targets are of rows. */
static void set_row(struct trainer *t, const struct sample *s, int pos, int r)
{
    int end = s->n < t->context ? s->n : t->context;
    for (int i = 0; i < t->model.config.n_predict; i++) {
        size_t at = (size_t)i * (size_t)t->rows + (size_t)r;
        int to = pos + i + 1;
        bool learned = to <= end && to < s->n && pos + 1 >= s->prompt;
        t->next[at] = to < s->n ? s->tokens[to] : 0;
        t->targets[at] = learned ? t->frozen->slot[s->tokens[to]] : -1;
    }
    t->tokens[r] = s->tokens[pos];
    t->row[r] = (struct row){.pos = pos};
    t->learned[r] = pos + 2 < s->n && pos + 2 <= end && pos + 1 >= s->prompt;
    t->n_learned += t->learned[r];
}

void trainer_samples(struct trainer *t, const struct sample *samples, int n)
{
    t->batch.sequences = n;
    t->n_learned = 0;
    for (int b = 0; b < n; b++)
        t->first[b + 1] = t->first[b] + (samples[b].n < t->context ? samples[b].n : t->context);
    t->rows = t->first[n];
    for (int b = 0; b < n; b++)
        for (int pos = 0; t->first[b] + pos < t->first[b + 1]; pos++)
            set_row(t, &samples[b], pos, t->first[b] + pos);
    frozen_begin(t->frozen, t->first, n);
}

void trainer_fuse(struct lane *lane, struct trainer *t)
{
    const float *states[2 + AUX_LAYERS_MAX] = {t->x[0]};
    for (int i = 0; i < t->aux.n; i++)
        states[1 + i] = t->aux.state[i];
    states_fuse(lane, &t->model, states, t->next, t->rows, t->joined, t->fused);
}

static void pass_lane(struct lane *lane, void *arg)
{
    struct trainer *t = arg;
    const struct model *m = &t->model;
    struct pass pass = {m, t->row, t->rows, attend_whole, &t->batch, NULL};
    int layers = m->config.n_layers;
    const float *z = t->x[layers];
    if (t->frozen)
        frozen_forward(lane, t->frozen, t->first, t->batch.sequences, t->tokens, t->x[0], &t->aux);
    if (t->loss.soft)
        model_soft_targets(lane, m, &t->loss, t->x[0], t->rows);
    if (!t->frozen)
        model_embed(lane, m, t->tokens, t->rows, t->x[0]);
    for (int l = 0; l < layers; l++)
        block_forward(lane, &pass, l, &t->acts[l], t->x[l], NULL, 0, t->x[l + 1]);
    bool fuses = config_fused_states(&m->config);
    if (fuses) {
        trainer_fuse(lane, t);
        z = t->fused;
    }
    const float *read = z;
    if (m->config.prefix_layer) {
        block_forward(lane, &pass, 0, &t->prefix, read, NULL, 0, t->prefixed);
        z = t->prefixed;
    }
    head_trainer(m->config.kind)->train(lane, &pass, &t->heads, z, t->dz);
    if (t->heads.factor != 0 && m->config.prefix_layer)
        block_backward(lane, &pass, 0, &t->prefix, &t->block, read, t->dz, t->grad);
    if (t->heads.factor != 0 && fuses)
        linear_backward_weight(lane, &m->fuse, t->joined, (size_t)m->fuse.inputs, t->dz,
                               (size_t)m->config.dim, t->rows);
    if (t->heads.factor == 0 || t->frozen)
        return;
    for (int l = layers - 1; l >= 0; l--)
        block_backward(lane, &pass, l, &t->acts[l], &t->block, t->x[l], t->dz, t->grad);
    model_embed_backward(lane, m, t->tokens, t->rows, t->dz, t->grad);
}

/* Rows whose heads may still be right. */
static void begin_pass(struct trainer *t)
{
    if (t->frozen) {
        memcpy(t->alive, t->learned, (size_t)t->rows);
        return;
    }
    memset(t->alive, 1, (size_t)t->rows);
    t->n_learned = t->rows;
}

void trainer_gradients(struct trainer *t)
{
    begin_pass(t);
    long learned = ranks_sum_long(t->n_learned);
    t->heads.factor = 1.0f / (float)(learned ? learned : 1);
    team_run_sized(t->team, t->rows, pass_lane, t);
    ranks_sum(t->grad, t->total, t->summed);
    score_runs(t);
}

void trainer_evaluate(struct trainer *t)
{
    begin_pass(t);
    t->heads.factor = 0;
    team_run_sized(t->team, t->rows, pass_lane, t);
    score_runs(t);
}

double schedule_rate(const struct schedule *s, int step)
{
    if (step < s->warmup)
        return s->rate * (step + 1) / s->warmup;
    double done = s->steps > s->warmup ? (double)(step - s->warmup) / (s->steps - s->warmup) : 1;
    double low = s->rate * s->final_rate;
    if (s->cooldown > 0) {
        double left = (double)(s->steps - step) / (s->cooldown * s->steps);
        return low + (s->rate - low) * fmax(0, fmin(left, 1));
    }
    return low + (s->rate - low) * 0.5 * (1 + cos(M_PI * (done < 1 ? done : 1)));
}

/* The gradient's norm over all tensors, then AdamW on each; norm weights are not decayed. */
static void update_lane(struct lane *lane, void *arg)
{
    struct trainer *t = arg;
    int begin, end;
    lane_share(lane, t->n_partial, 1, &begin, &end);
    for (int i = begin; i < end; i++) {
        size_t at = (size_t)i * PIECE, n = t->total - at < PIECE ? t->total - at : PIECE;
        t->partial[i] = grad_kernels.squares(t->grad + at, n);
    }
    lane_barrier(lane);
    if (lane->id == 0) {
        double sum = 0;
        for (int i = 0; i < t->n_partial; i++)
            sum += t->partial[i];
        t->grad_norm = sqrt(sum);
        t->adamw.clip = t->grad_norm > t->clip ? (float)(t->clip / t->grad_norm) : 1.0f;
        t->muon.clip = t->adamw.clip;
    }
    lane_barrier(lane);
    for (int i = 0; i < t->model.params.n; i++) {
        const struct param *p = &t->model.params.list[i];
        struct adamw step = t->adamw;
        if (p->n_dims == 1)
            step.decay = 0;
        else if (t->muon.rate > 0) {
            muon_step(lane, &t->muon, &t->muon_work, (int)p->shape[0], (int)p->shape[1],
                      t->value + p->offset, t->grad + p->offset, t->m + p->offset);
            continue;
        }
        lane_share(lane, (int)((p->count + 15) / 16), 1, &begin, &end);
        size_t at = p->offset + (size_t)begin * 16;
        grad_kernels.adamw(&step, (size_t)(end - begin) * 16, t->value + at, t->grad + at,
                           t->m + at, t->v + at);
    }
}

void trainer_step(struct trainer *t, const struct schedule *s, int step)
{
    trainer_gradients(t);
    double rate = schedule_rate(s, step);
    t->clip = s->clip;
    t->adamw = (struct adamw){
        .rate = (float)rate,
        .beta1 = (float)s->beta1,
        .beta2 = (float)s->beta2,
        .eps = 1e-8f,
        .decay = (float)(s->decay * rate),
        .correct1 = (float)(1 / (1 - pow(s->beta1, step + 1))),
        .correct2 = (float)(1 / (1 - pow(s->beta2, step + 1))),
    };
    t->muon = (struct muon){.rate = s->momentum > 0 ? (float)rate : 0,
                            .momentum = (float)s->momentum,
                            .decay = (float)(s->decay * rate)};
    team_run_sized(t->team, 0, update_lane, t);
}
