/* Heads on a frozen trunk: the gradients of every tensor against differences of the loss, texts of
 * different lengths, targets outside of the draft vocabulary; and the states that they learn from
 * against a pass of the server's. */
#include <math.h>

#include "base/rng.h"
#include "model/gemm.h"
#include "tests/unit/gguf_model.h"
#include "tests/unit/unit.h"
#include "train/checkpoint.h"
#include "train/fit.h"
#include "train/frozen.h"
#include "train/trainer.h"

#define ENTRIES 8 /* of a tensor that are checked */
#define IDS 300

static struct folder folder;
static struct team team;
static struct model trunk;

static int open_trunk(void **state)
{
    static const struct gguf_shape shape = {
        "qwen2",     64,          2,           4,           2,           16,
        96,          49152,       WEIGHT_Q8,   WEIGHT_Q8,   WEIGHT_Q4_1, WEIGHT_Q4_1,
        WEIGHT_Q4_1, WEIGHT_Q4_1, WEIGHT_Q4_1, WEIGHT_Q4_1, WEIGHT_Q4_1};
    struct err err;
    (void)state;
    folder_make(&folder);
    gguf_model_write(folder_file(&folder, "trunk.gguf"), &shape, 3);
    assert_ok(kernels_init("auto", &err), err);
    assert_ok(gemm_init("f32", &err), err);
    grad_kernels_init();
    assert_ok(team_init(&team, 2, &err), err);
    assert_ok(model_open(&trunk, folder.file, NULL, WEIGHT_STORED, 64, &team, &err), err);
    return 0;
}

static int close_trunk(void **state)
{
    (void)state;
    model_release(&trunk);
    team_release(&team);
    folder_remove(&folder);
    return 0;
}

static int32_t draw_token(uint64_t i, uint64_t j)
{
    /* Most of them in the draft vocabulary, which has every 160th. */
    int32_t token = (int32_t)rng_below(5, i, j, 49000);
    return rng_below(6, i, j, 4) ? token / 160 * 160 : token;
}

enum reads { OUTPUT, AUX, EAGLE3 }; /* what heads read */

static void open_trainer(struct trainer *t, enum head_kind kind, int heads, bool soft,
                         enum reads reads)
{
    struct err err;
    struct config c;
    int32_t ids[IDS];
    static int32_t tokens[3][40];
    static const struct sample samples[] = {
        {tokens[0], 40, 5}, {tokens[1], 3, 0}, {tokens[2], 22, 20}};
    for (int i = 0; i < IDS; i++)
        ids[i] = 160 * i;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 40; j++)
            tokens[i][j] = draw_token((uint64_t)i, (uint64_t)j);
    assert_ok(frozen_config(&c, &trunk, kind, heads, 1, 36, &err), err);
    c.hidden += reads ? 48 : -16;
    c.fuse_next = reads == AUX && kind != HEAD_PARALLEL;
    c.bigram = c.prefix_layer = kind != HEAD_RECURRENT && heads > 2 && reads == AUX;
    c.n_aux = reads != OUTPUT; /* its layer 1 */
    c.joined_attention = c.fuse_raw = reads == EAGLE3;
    c.aux_layers[0] = 1;
    assert_ok(trainer_init_frozen(t, &c, &trunk, &(struct draft_targets){ids, IDS, soft}, 4, 9,
                                  &team, &err),
              err);
    trainer_samples(t, samples, 3);
    for (int i = 0; i < IDS * c.dim; i++) /* a random trunk is sure of nothing */
        t->frozen->unembedding[i] *= 8;
    for (int i = 0; i < heads; i++)
        t->heads.weight[i] = 1.0f / (float)(i + 1);
    for (size_t i = 0; i < t->total; i++) /* norms that are not 1, larger matrices */
        t->value[i] *= 1 + 0.3f * (float)(rng_uniform(8, 0, i) - 0.5);
    int fuse = t->model.params.fuse; /* begins as (I 0 ..); -1: none */
    for (size_t i = 0; fuse >= 0 && i < t->model.params.list[fuse].count; i++)
        t->value[t->model.params.list[fuse].offset + i] +=
            0.2f * (float)(rng_uniform(8, 1, i) - 0.5);
}

static double loss(struct trainer *t)
{
    double sum = 0;
    trainer_evaluate(t);
    for (int i = 1; i < t->model.config.n_predict; i++) {
        int n = 0;
        for (int r = 0; r < t->rows; r++)
            n += t->targets[i * t->rows + r] >= 0;
        sum += t->heads.weight[i] * t->score[i].nats * n / t->n_learned;
    }
    return sum;
}

static void check_tensor(struct trainer *t, const struct param *p)
{
    double largest = 0, worst = 0;
    for (size_t j = 0; j < p->count; j++)
        largest = fmax(largest, fabs(t->grad[p->offset + j]));
    for (uint64_t e = 0; e < ENTRIES; e++) {
        size_t at = p->offset + (size_t)rng_below(7, p->offset, e, p->count);
        float was = t->value[at], h = p->n_dims == 1 ? 1e-2f : 4e-3f;
        t->value[at] = was + h;
        double above = loss(t);
        t->value[at] = was - h;
        double below = loss(t);
        t->value[at] = was;
        worst = fmax(worst, fabs((above - below) / (2 * (double)h) - t->grad[at]));
    }
    print_message("  %s: largest %.1e, off by %.1e\n", p->name, largest, worst);
    assert_true(largest > 1e-4);
    assert_true(worst < 0.02 * largest + 2e-5);
}

static void test_gradients(void **state)
{
    static const enum head_kind kinds[] = {HEAD_RECURRENT, HEAD_PARALLEL, HEAD_CAUSAL, HEAD_LINEAR};
    (void)state;
    for (int k = 0; k < 9; k++) {
        static struct trainer t;
        open_trainer(&t, kinds[k % 4], 4, k >= 4, k == 8 ? EAGLE3 : (k + k / 4) & 1 ? AUX : OUTPUT);
        print_message("%s, %s targets, %d states\n", head_kind_name(kinds[k % 4]),
                      k < 4 ? "hard" : "soft", config_fused_states(&t.model.config));
        trainer_gradients(&t);
        assert_true(isfinite(loss(&t)));
        for (int i = 0; i < t.model.params.n; i++)
            check_tensor(&t, &t.model.params.list[i]);
        trainer_release(&t);
    }
}

struct states {
    struct pass pass;
    struct block_acts acts;
    int32_t tokens[40];
    float *z;
};

static void states_lane(struct lane *lane, void *arg)
{
    struct states *s = arg;
    trunk_forward(lane, &s->pass, &s->acts, s->tokens, s->z, NULL);
}

/* The same bits as a pass over the text alone. */
static void test_states(void **state)
{
    static struct trainer t;
    static struct states s;
    struct arena arena = {0};
    struct kv_pool pool;
    struct kv kv;
    struct err err;
    struct row rows[40];
    (void)state;
    open_trainer(&t, HEAD_LINEAR, 2, false, OUTPUT);
    trainer_evaluate(&t);
    block_acts_take(&s.acts, &arena, &trunk.config, 40, false);
    assert_ok(arena_init(&arena, &err), err);
    block_acts_take(&s.acts, &arena, &trunk.config, 40, false);
    assert_ok(kv_pool_init(&pool, &trunk.config, trunk.n_blocks, 1, WEIGHT_BF16, &err), err);
    assert_ok(kv_init(&kv, &pool, 40, &err), err);
    s.z = mem_alloc(40 * 64 * sizeof(float));
    for (int b = 0; b < 3; b++) {
        int first = t.first[b], n = t.first[b + 1] - first;
        assert_int_equal(n, b == 0 ? 36 : b == 1 ? 3 : 22);
        kv_truncate(&kv, 0);
        assert_true(kv_reserve(&kv, n));
        for (int r = 0; r < n; r++) {
            rows[r] = row_in_place(&kv, r);
            s.tokens[r] = draw_token((uint64_t)b, (uint64_t)r);
        }
        s.pass = (struct pass){&trunk, rows, n, attend_cached, NULL, NULL};
        team_run(&team, states_lane, &s);
        assert_memory_equal(s.z, t.x[0] + (size_t)first * 64, (size_t)n * 64 * sizeof(float));
    }
    free(s.z);
    kv_release(&kv);
    kv_pool_release(&pool);
    arena_release(&arena);
    trainer_release(&t);
}

/* ---- served ---- */

struct served {
    struct model model;
    struct pass pass;
    struct block_acts acts;
    struct head_work work;
    int32_t tokens[41];
    int all[40];
    float *z, *h, *normed, *logits;
    int head;
    struct head_few few[40];
    float scratch[2 * 64];
};

static void served_lane(struct lane *lane, void *arg)
{
    struct served *s = arg;
    const struct model *m = &s->model;
    struct aux_states aux = model_aux(m, s->z, s->pass.n);
    trunk_forward(lane, &s->pass, &s->acts, s->tokens, s->z, &aux);
    heads_read(lane, &s->pass, &s->work, s->z, s->all, s->pass.n);
    head_type(m->config.kind)
        ->draft(lane, &s->pass, &s->work, s->head, s->tokens + 1, s->z, s->all, s->pass.n, true,
                s->h);
    model_logits(lane, m, s->head, 1, s->h, s->pass.n, s->normed, s->logits);
    if (!m->config.bigram || lane->id)
        return;
    struct lane only = lane_alone(lane);
    for (int r = 0; r + s->head <= s->pass.n; r++) {
        struct head_few *few = &s->few[r];
        few->n = HEAD_FEW;
        for (int j = 0; j < HEAD_FEW; j++) {
            int id = 18 * j + r % 18;
            few->ids[j] = m->draft_ids[id];
            few->logits[j] = s->logits[(size_t)r * model_logits_stride(m) + (size_t)id];
        }
        head_bigram_add(&only, m, s->tokens[r + s->head], s->scratch, few);
    }
}

/* The logits of a row with the bigram term, added here from the matrices; those that the server
 * adds it to are the best ones without it, and become the same. */
static void add_bigram(struct served *s, int r, float *x)
{
    const struct model *m = &s->model;
    const struct param *p = &m->params.list[m->params.bigram];
    static float e[64], row[64], added[64];
    struct matrix bigram;
    struct err err;
    matrix_row(&m->embed, (size_t)s->tokens[r + s->head], e);
    double size = 0;
    for (int d = 0; d < 64; d++)
        size += (double)e[d] * e[d] / 64;
    assert_ok(source_find(&m->heads, &p->place, p->n_dims, p->shape, &bigram, &err), err);
    for (int o = 0; o < 64; o++) {
        matrix_row(&bigram, (size_t)o, row);
        double sum = 0;
        for (int d = 0; d < 64; d++)
            sum += (double)row[d] * e[d] / sqrt(size + (double)m->config.norm_eps);
        added[o] = (float)sum;
    }
    for (int j = 0; j < IDS; j++) {
        matrix_row(&m->unembedding, (size_t)m->draft_ids[j], row);
        for (int d = 0; d < 64; d++)
            x[j] += row[d] * added[d];
    }
    for (int j = 0; j < HEAD_FEW; j++)
        assert_true(fabsf(s->few[r].logits[j] - x[18 * j + r % 18]) < 1e-3f);
}

static void served_take(struct served *s, struct arena *arena)
{
    const struct config *c = &s->model.config;
    size_t width = 40 * (size_t)c->dim * (size_t)head_states(c);
    block_acts_take(&s->acts, arena, c, 40, false);
    head_work_take(&s->work, arena, c, 40);
    s->z = arena_take(arena, width, sizeof(float));
    s->h = arena_take(arena, width, sizeof(float));
    s->normed = arena_take(arena, width, sizeof(float));
    s->logits = arena_take(arena, 40 * model_logits_stride(&s->model), sizeof(float));
}

/* Mean loss of a head on the first n tokens of a text, of which `prompt` are not learned, as the
 * server computes the head. */
static double served_nats(const char *heads, int head, const int32_t *tokens, int n, int prompt)
{
    static struct served s;
    struct arena arena = {0};
    struct kv_pool pool;
    struct kv kv;
    struct err err;
    struct row rows[40];
    double nats = 0, counted = 0;
    assert_ok(model_open(&s.model, folder_file(&folder, "trunk.gguf"), heads, WEIGHT_STORED, 64,
                         &team, &err),
              err);
    assert_ok(team_reserve(&team, model_lane_bytes(&s.model), &err), err);
    served_take(&s, &arena);
    assert_ok(arena_init(&arena, &err), err);
    served_take(&s, &arena);
    assert_ok(kv_pool_init(&pool, &s.model.config, s.model.n_blocks, 1, WEIGHT_F32, &err), err);
    assert_ok(kv_init(&kv, &pool, 40, &err), err);
    assert_true(kv_reserve(&kv, n));
    for (int r = 0; r < n; r++) {
        rows[r] = row_in_place(&kv, r);
        s.tokens[r] = tokens[r];
        s.all[r] = r;
    }
    s.tokens[n] = 0;
    s.head = head;
    s.pass = (struct pass){&s.model, rows, n, attend_cached, NULL, s.tokens + 1};
    team_run(&team, served_lane, &s);
    for (int r = prompt - 1; r + head + 1 < n; r++) {
        float *x = s.logits + (size_t)r * model_logits_stride(&s.model);
        if (s.model.config.bigram && head > 1)
            add_bigram(&s, r, x);
        for (int i = 0; i < IDS; i++)
            if (s.model.draft_ids[i] == tokens[r + head + 1]) {
                nats += (double)kernels.logsumexp(x, IDS) - (double)x[i];
                counted++;
            }
    }
    kv_release(&kv);
    kv_pool_release(&pool);
    arena_release(&arena);
    model_release(&s.model);
    return nats / counted;
}

/* What heads learn is what the server computes of them, whatever they read. */
static void test_served(void **state)
{
    static const enum head_kind kinds[] = {HEAD_RECURRENT, HEAD_PARALLEL, HEAD_CAUSAL, HEAD_LINEAR};
    static struct trainer t;
    static int32_t tokens[40];
    struct folder heads;
    struct err err;
    (void)state;
    for (int j = 0; j < 40; j++)
        tokens[j] = draw_token(0, (uint64_t)j);
    const struct sample sample = {tokens, 30, 5};
    folder_make(&heads);
    for (int k = 0; k < 9; k++) {
        open_trainer(&t, kinds[k % 4], 3, false, k < 4 ? AUX : k < 8 ? OUTPUT : EAGLE3);
        for (int i = 0; i < IDS * 64; i++) /* as it is served */
            t.frozen->unembedding[i] /= 8;
        trainer_samples(&t, &sample, 1);
        trainer_evaluate(&t);
        assert_ok(checkpoint_export(&t, heads.path, DTYPE_F32, &err), err);
        for (int head = 1; head < (kinds[k % 4] == HEAD_LINEAR ? 3 : 2); head++) {
            double nats = served_nats(heads.path, head, tokens, 30, 5);
            print_message("%s, head %d, %d states: trained %.5f nats, served %.5f\n",
                          head_kind_name(kinds[k % 4]), head, config_fused_states(&t.model.config),
                          t.score[head].nats, nats);
            assert_true(fabs(nats - t.score[head].nats) < 2e-4 * nats);
        }
        trainer_release(&t);
    }
    folder_remove(&heads);
}

static double size_of(const float *x, int n)
{
    double sum = 0;
    for (int d = 0; d < n; d++)
        sum += (double)x[d] * x[d];
    return sqrt(sum / n);
}

/* How far y = w [x's first D; x's last] (D) is from the state `ahead` rows further on, all at size
 * 1, in the mean over rows of the first text that learn. A random trunk's states are much alike. */
static double miss(const struct trainer *t, const float *w, int width, int ahead)
{
    double sum = 0, rows = 0;
    for (int r = 5; r + ahead < t->first[1] - 4; r++, rows++) {
        const float *to = t->x[0] + (r + ahead) * 64;
        float x[128];
        for (int d = 0; d < 64; d++)
            x[d] = t->x[0][r * 64 + d] / (float)size_of(t->x[0] + r * 64, 64);
        matrix_row(&t->model.embed, (size_t)t->tokens[r + 1], x + 64);
        double size = size_of(x + 64, 64);
        for (int d = 64; d < 128; d++)
            x[d] /= (float)size;
        for (int o = 0; o < 64; o++) {
            double y = 0;
            for (int d = 0; d < width; d++)
                y += (double)w[o * width + d] * x[d];
            double off = to[o] / size_of(to, 64) - y;
            sum += off * off / 64;
        }
    }
    return sum / rows;
}

/* The least-squares start explains the states that it was fitted to. */
static void test_fit(void **state)
{
    static struct trainer t;
    struct err err;
    static int32_t tokens[40];
    (void)state;
    for (int j = 0; j < 40; j++)
        tokens[j] = draw_token(0, (uint64_t)j);
    const struct sample sample = {tokens, 40, 5};
    open_trainer(&t, HEAD_LINEAR, 4, false, OUTPUT);
    assert_ok(fit_heads(&t, &sample, 1, &err), err);
    for (int i = 1; i < 4; i++) {
        const struct param *p = &t.model.params.list[t.model.params.head_linear + i - 1];
        double right = miss(&t, t.value + p->offset, 64, i);
        double wrong = miss(&t, t.value + p->offset, 64, i + 1);
        print_message("linear %d: %.1e, a row further %.1e\n", i, right, wrong);
        assert_true(right < wrong / 10);
    }
    trainer_release(&t);
    open_trainer(&t, HEAD_RECURRENT, 3, false, OUTPUT);
    assert_ok(fit_heads(&t, &sample, 1, &err), err);
    const struct param *p = &t.model.params.list[t.model.params.shared + 2];
    double right = miss(&t, t.value + p->offset, 128, 1);
    double wrong = miss(&t, t.value + p->offset, 128, 2);
    print_message("recurrent: %.1e, a row further %.1e\n", right, wrong);
    assert_true(right < wrong / 10);
    trainer_release(&t);
    /* EAGLE-3's structure: what is made of a layer's raw input. */
    open_trainer(&t, HEAD_RECURRENT, 3, false, EAGLE3);
    assert_ok(fit_heads(&t, &sample, 1, &err), err);
    trainer_samples(&t, &sample, 1);
    trainer_evaluate(&t);
    right = wrong = 0;
    for (int r = 5; r < 36 - 2; r++)
        for (int d = 0; d < 64; d++) {
            const float *x = t.x[0] + (r + 1) * 64, *further = x + 64;
            double y = (double)t.fused[r * 64 + d];
            right += pow(y - (double)x[d] / size_of(x, 64), 2);
            wrong += pow(y - (double)further[d] / size_of(further, 64), 2);
        }
    print_message("EAGLE-3: %.1e, a row further %.1e\n", right, wrong);
    assert_true(right < wrong / 10);
    trainer_release(&t);
}

/* Some steps on the same texts make all drafts right that can be. */
static void test_learns(void **state)
{
    static struct trainer t;
    struct schedule schedule = {.rate = 1e-2,
                                .final_rate = 0.1,
                                .beta1 = 0.9,
                                .beta2 = 0.95,
                                .clip = 1,
                                .warmup = 1,
                                .steps = 60};
    (void)state;
    open_trainer(&t, HEAD_RECURRENT, 3, false, OUTPUT);
    double before = loss(&t);
    for (int i = 0; i < schedule.steps; i++)
        trainer_step(&t, &schedule, i);
    double after = loss(&t);
    print_message("loss %.3f, then %.3f; right %.3f %.3f, runs %.3f %.3f\n", before, after,
                  t.score[1].top1, t.score[2].top1, t.score[1].run, t.score[2].run);
    assert_true(after < before);
    assert_true(t.score[1].top1 > 0.95 && t.score[2].top1 > 0.95);
    /* What is not in the draft vocabulary is never right. */
    assert_true(t.score[1].run < 0.8 && t.score[2].run < 0.9 * t.score[1].run);
    trainer_release(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients),
                                       cmocka_unit_test(test_states), cmocka_unit_test(test_served),
                                       cmocka_unit_test(test_fit), cmocka_unit_test(test_learns)};
    return cmocka_run_group_tests(tests, open_trunk, close_trunk);
}
