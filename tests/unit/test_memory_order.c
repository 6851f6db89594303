/* The memory-saving order against the naive one. Gloeckle et al. 2024, section 2, figure 2: there
 * the logits of one head are gone before those of the next exist; in the naive order the trunk and
 * all heads run forward, the logits of all heads stand in memory at once, become their gradients in
 * place, and then everything runs backward. Both are sums of the same products, in another order.
 *
 * The naive order is written here on its own, over the layers' and products' gradients alone: it
 * uses neither the walks of heads_grad.c nor model_loss. Its arrays are what a program would hold
 * that keeps every activation for the way back, and no more.
 *
 *   test_memory_order                                    the test
 *   test_memory_order KIND HEADS VOCAB naive|saving      gradients twice, for
 * tools/train_memory.sh, which measures this process; prints the bytes of parameters, gradients and
 * moments, and those of the activations of heads, as this order keeps them. */
#include "heads/heads_grad.h"
#include "tests/unit/numbers.h"
#include "tests/unit/unit.h"
#include "train/trainer.h"

#define BLOCKS_MAX 64 /* layers of trunk and heads in a model of this file */

/* ---- the naive order ---- */

struct naive {
    struct model model;
    struct team *team; /* borrowed */
    struct arena arena;
    size_t total, head_bytes; /* floats of each array below; activations of heads */
    float *value, *grad, *m, *v;
    int rows;
    struct row *row;
    struct batch batch;
    int *first;
    struct block_work work;
    float *embedded;                    /* (T, D) */
    float *out[BLOCKS_MAX];             /* (T, D) of each layer of trunk and heads */
    struct block_acts acts[BLOCKS_MAX]; /* of each */
    float *product;                     /* (N, T, D) A_i z of linear heads */
    float *normed, *scale;              /* (N, T, D), (N, T) */
    float *dh;                          /* (N, T, D) gradients of the heads' outputs */
    float *logits;                      /* (N, T, logits stride), then their gradients */
    float *dnormed, *dz;                /* (T, D) */
    float *loss;                        /* (N, T) */
    int32_t *tokens, *targets;          /* (T), (N, T) */
    float weight[HEADS_MAX];
};

static void take_block(struct naive *n, int b)
{
    const struct config *c = &n->model.config;
    block_acts_take(&n->acts[b], &n->arena, c, n->rows, true);
    n->out[b] = arena_take(&n->arena, (size_t)n->rows * (size_t)c->dim, sizeof(float));
}

static void take(struct naive *n)
{
    struct arena *a = &n->arena;
    const struct config *c = &n->model.config;
    size_t rows = (size_t)n->rows, width = rows * (size_t)c->dim, heads = (size_t)c->n_predict;
    float **const flat[] = {&n->value, &n->grad, &n->m, &n->v};
    for (int i = 0; i < 4; i++)
        *flat[i] = arena_take(a, n->total, sizeof(float));
    n->row = arena_take(a, rows, sizeof *n->row);
    n->embedded = arena_take(a, width, sizeof(float));
    for (int b = 0; b < c->n_layers; b++)
        take_block(n, b);
    size_t before = a->used;
    for (int b = c->n_layers; b < c->n_layers + c->n_predict * config_head_blocks(c); b++)
        take_block(n, b);
    if (head_kind_tensors(c->kind) == HEAD_MATRIX)
        n->product = arena_take(a, heads * width, sizeof(float));
    n->normed = arena_take(a, heads * width, sizeof(float));
    n->scale = arena_take(a, heads * rows, sizeof(float));
    n->dh = arena_take(a, heads * width, sizeof(float));
    n->head_bytes = a->used - before;
    n->logits = arena_take(a, heads * rows * model_logits_stride(&n->model), sizeof(float));
    n->dnormed = arena_take(a, width, sizeof(float));
    n->dz = arena_take(a, width, sizeof(float));
    n->loss = arena_take(a, heads * rows, sizeof(float));
    n->tokens = arena_take(a, rows, sizeof *n->tokens);
    n->targets = arena_take(a, heads * rows, sizeof *n->targets);
    block_work_take(&n->work, a, c, n->rows);
    batch_take(&n->batch, a, n->team->n);
    n->first = arena_take(a, (size_t)n->batch.sequences + 1, sizeof *n->first);
}

static int naive_init(struct naive *n, const struct config *c, int sequences, struct team *team,
                      struct err *err)
{
    struct params params;
    memset(n, 0, sizeof *n);
    int rc = params_init(&params, c, err);
    if (rc)
        return rc;
    n->total = params.total;
    params_release(&params);
    n->team = team;
    n->rows = sequences * c->context;
    n->batch = (struct batch){.sequences = sequences, .context = c->context};
    n->model.config = *c; /* what the counting pass reads */
    take(n);
    rc = arena_init(&n->arena, err);
    if (rc)
        return rc;
    take(n);
    rc = model_over(&n->model, c, n->value, n->grad, err);
    if (rc) {
        arena_release(&n->arena);
        return rc;
    }
    for (int r = 0; r < n->rows; r++)
        n->row[r] = (struct row){.pos = r % c->context};
    for (int b = 0; b <= sequences; b++)
        n->first[b] = b * c->context;
    n->batch.first = n->first;
    return 0;
}

static void naive_release(struct naive *n)
{
    model_release(&n->model);
    arena_release(&n->arena);
    memset(n, 0, sizeof *n);
}

/* The head whose output head i reads; -1 is the trunk. */
static int source(const struct config *c, int i)
{
    if (c->kind == HEAD_CAUSAL)
        return i - 1;
    return c->kind == HEAD_ANTICAUSAL && i + 1 < c->n_predict ? i + 1 : -1;
}

/* The p-th head on the way forward. */
static int head_at(const struct config *c, int p)
{
    return c->kind == HEAD_ANTICAUSAL ? c->n_predict - 1 - p : p;
}

static float *plane(const struct naive *n, float *x, int i)
{
    return x + (size_t)i * (size_t)n->rows * (size_t)n->model.config.dim;
}

static float *logits_of(const struct naive *n, int i)
{
    return n->logits + (size_t)i * (size_t)n->rows * model_logits_stride(&n->model);
}

static const float *head_output(const struct naive *n, int i)
{
    const struct config *c = &n->model.config;
    int layers = config_head_blocks(c);
    if (i >= 0 && layers)
        return n->out[model_head_block(&n->model, i) + layers - 1];
    if (i >= 0 && c->kind == HEAD_LINEAR)
        return plane(n, n->product, i);
    return c->n_layers ? n->out[c->n_layers - 1] : n->embedded; /* z */
}

static const float *block_input(const struct naive *n, int b)
{
    const struct config *c = &n->model.config;
    int layers = config_head_blocks(c), in_heads = b - c->n_layers;
    if (in_heads >= 0 && in_heads % layers == 0)
        return head_output(n, source(c, in_heads / layers));
    return b ? n->out[b - 1] : n->embedded;
}

static void forward(struct lane *lane, struct naive *n, const struct pass *pass)
{
    const struct model *m = &n->model;
    const struct config *c = &m->config;
    size_t dim = (size_t)c->dim;
    model_embed(lane, m, n->tokens, n->rows, n->embedded);
    for (int b = 0; b < c->n_layers; b++)
        block_forward(lane, pass, b, &n->acts[b], block_input(n, b), NULL, 0, n->out[b]);
    for (int p = 0; p < c->n_predict; p++) {
        int i = head_at(c, p), first = model_head_block(m, i);
        for (int b = first; b < first + config_head_blocks(c); b++)
            block_forward(lane, pass, b, &n->acts[b], block_input(n, b), NULL, 0, n->out[b]);
        if (c->kind == HEAD_LINEAR)
            linear_forward(lane, &m->head_linear[i], head_output(n, -1), dim, n->rows, NULL,
                           plane(n, n->product, i), dim);
        lane_barrier(lane);
    }
    for (int i = 0; i < c->n_predict; i++) {
        rows_norm(lane, c, head_output(n, i), m->norm, n->rows, plane(n, n->normed, i),
                  n->scale + (size_t)i * (size_t)n->rows);
        lane_barrier(lane);
        linear_forward(lane, model_unembedding(m, i), plane(n, n->normed, i), dim, n->rows, NULL,
                       logits_of(n, i), model_logits_stride(m));
        lane_barrier(lane);
    }
}

/* Losses of all heads and rows; logits become gradients. */
static void losses(struct lane *lane, struct naive *n)
{
    int begin, end, vocab = n->model.config.vocab;
    lane_share(lane, n->model.config.n_predict * n->rows, 1, &begin, &end);
    for (int k = begin; k < end; k++) {
        float *x = n->logits + (size_t)k * model_logits_stride(&n->model);
        float lse = kernels.logsumexp(x, vocab);
        n->loss[k] = lse - x[n->targets[k]];
        grad_kernels.cross_entropy(x, lse, n->targets[k], n->weight[k / n->rows] / (float)n->rows,
                                   vocab);
    }
    lane_barrier(lane);
}

/* From the gradients of head i's logits and of what read its output, to what it read itself. */
static void head_backward(struct lane *lane, struct naive *n, const struct pass *pass, int i)
{
    const struct model *m = &n->model;
    const struct config *c = &m->config;
    const struct linear *u = model_unembedding(m, i);
    size_t dim = (size_t)c->dim, stride = model_logits_stride(m);
    int first = model_head_block(m, i), from = source(c, i), begin, end;
    float *d = plane(n, n->dh, i), *to = from < 0 ? n->dz : plane(n, n->dh, from);

    linear_backward_input(lane, u, logits_of(n, i), stride, n->rows, false, n->dnormed, dim);
    linear_backward_weight(lane, u, plane(n, n->normed, i), dim, logits_of(n, i), stride, n->rows);
    lane_barrier(lane);
    rows_norm_backward(lane, c, head_output(n, i), m->norm, n->scale + (size_t)i * (size_t)n->rows,
                       n->dnormed, n->rows, d, n->grad + m->params.list[m->params.norm].offset);
    if (c->kind == HEAD_LINEAR) {
        linear_backward_input(lane, &m->head_linear[i], d, dim, n->rows, true, to, dim);
        linear_backward_weight(lane, &m->head_linear[i], head_output(n, -1), dim, d, dim, n->rows);
    } else {
        for (int b = first + config_head_blocks(c) - 1; b >= first; b--)
            block_backward(lane, pass, b, &n->acts[b], &n->work, block_input(n, b), d, n->grad);
        lane_share(lane, n->rows, 1, &begin, &end);
        grad_kernels.add(d + (size_t)begin * dim, (size_t)(end - begin) * dim,
                         to + (size_t)begin * dim);
    }
    lane_barrier(lane);
}

static void naive_lane(struct lane *lane, void *arg)
{
    struct naive *n = arg;
    const struct config *c = &n->model.config;
    struct pass pass = {&n->model, n->row, n->rows, attend_whole, &n->batch, NULL};
    size_t width = (size_t)n->rows * (size_t)c->dim;
    if (lane->id == 0) {
        memset(n->dh, 0, (size_t)c->n_predict * width * sizeof(float));
        memset(n->dz, 0, width * sizeof(float));
    }
    forward(lane, n, &pass);
    losses(lane, n);
    for (int p = c->n_predict - 1; p >= 0; p--)
        head_backward(lane, n, &pass, head_at(c, p));
    for (int b = c->n_layers - 1; b >= 0; b--)
        block_backward(lane, &pass, b, &n->acts[b], &n->work, block_input(n, b), n->dz, n->grad);
    model_embed_backward(lane, &n->model, n->tokens, n->rows, n->dz, n->grad);
}

/* ---- the test: both orders, one result ---- */

#define SEEDS 32     /* per kind; any 8 in a row have 1 to 4 heads, each on 1 and on 2 threads */
#define LONG_SEEDS 8 /* the first have more rows than model_loss takes at a time */

/* Floats' roundings, 6e-8 of each term, in sums of some hundred terms that partly cancel, passed on
 * through several layers: six times the largest difference that was seen, 1.6e-6. */
#define TOLERANCE 1e-5

static struct config config_of(struct draws *d, enum head_kind kind, int heads)
{
    static const int groups[][2] = {{1, 1}, {2, 1}, {4, 2}};
    int g = draw_below(d, 3), layers = 1 + draw_below(d, 2);
    bool layered = head_kind_tensors(kind) == HEAD_LAYERS;
    return (struct config){
        .n_heads = groups[g][0],
        .n_kv_heads = groups[g][1],
        .dim = groups[g][0] * 16 * (1 + draw_below(d, 2)),
        .n_layers = draw_below(d, 3),
        .hidden = 16 * (1 + draw_below(d, 5)),
        .vocab = 3 + draw_below(d, 300),
        .context = 2 + draw_below(d, 60),
        .norm_eps = 1e-5f,
        .rope_theta = 100,
        .tied = draw_below(d, 2),
        .kind = kind,
        .n_predict = heads,
        .head_layers = layered ? layers : 0,
        .bos = -1,
        .eos = -1,
    };
}

static void draw_tokens(struct draws *d, int vocab, int32_t *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++)
        tokens[i] = draw_below(d, vocab);
}

/* max |a - b| / max |b|, 0 when both are 0 everywhere */
static double difference(const float *a, const float *b, size_t n)
{
    double most = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)a[i] - b[i]);
        most = off > most || isnan(off) ? off : most;
        size = fmax(size, fabs((double)b[i]));
    }
    return most == 0 ? 0 : most / size;
}

/* The largest difference of any tensor's gradient, and of any head's loss. */
static double compare(const struct trainer *t, const struct naive *n)
{
    double worst = 0;
    for (int i = 0; i < t->model.params.n; i++) {
        const struct param *p = &t->model.params.list[i];
        double off = difference(t->grad + p->offset, n->grad + p->offset, p->count);
        if (!(off < TOLERANCE))
            print_error("%s: the gradients differ by %g\n", p->name, off);
        worst = off > worst || isnan(off) ? off : worst;
    }
    for (int i = 0; i < t->model.config.n_predict; i++) {
        double sum = 0;
        for (int r = 0; r < n->rows; r++)
            sum += n->loss[i * n->rows + r];
        double off = fabs(t->score[i].nats / (sum / n->rows) - 1);
        if (!(off < TOLERANCE))
            print_error("head %d: the losses differ by %g\n", i, off);
        worst = off > worst || isnan(off) ? off : worst;
    }
    return worst;
}

static double run_both(enum head_kind kind, uint64_t seed, int heads, int threads)
{
    struct err err;
    struct draws d = {seed, 0};
    struct team team;
    struct trainer t;
    struct naive n;
    struct config config = config_of(&d, kind, heads);
    int sequences = 1 + draw_below(&d, 3);
    if (seed <= LONG_SEEDS) {
        sequences = 3;
        config.context = LOSS_ROWS / 2 - 11;
    }
    assert_ok(config_check(&config, &err), err);
    assert_ok(team_init(&team, threads, &err), err);
    assert_ok(trainer_init(&t, &config, sequences, seed, &team, &err), err);
    assert_ok(naive_init(&n, &config, sequences, &team, &err), err);
    memcpy(n.value, t.value, t.total * sizeof *t.value);
    draw_tokens(&d, config.vocab, t.tokens, (size_t)t.rows);
    draw_tokens(&d, config.vocab, t.targets, (size_t)t.rows * (size_t)heads);
    memcpy(n.tokens, t.tokens, (size_t)t.rows * sizeof *t.tokens);
    memcpy(n.targets, t.targets, (size_t)(t.rows * heads) * sizeof *t.targets);
    for (int i = 0; i < heads; i++) /* one in five does not count, but those that read it do */
        n.weight[i] = t.heads.weight[i] = 0.5f * (float)draw_below(&d, 5);
    trainer_gradients(&t);
    team_run(&team, naive_lane, &n);
    double worst = compare(&t, &n);
    naive_release(&n);
    trainer_release(&t);
    team_release(&team);
    return worst;
}

static void both_orders_give_the_same_gradients(void **state)
{
    (void)state;
    double worst = 0;
    for (int kind = 0; kind < HEAD_KINDS_WHOLE; kind++) {
        double of_kind = 0;
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            int heads = 1 + (int)(seed * 3 % 4), threads = 1 + (int)(seed % 8 / 4);
            double off = run_both((enum head_kind)kind, seed, heads, threads);
            of_kind = off > of_kind || isnan(off) ? off : of_kind;
        }
        print_message("%s: %.1e\n", head_kind_name((enum head_kind)kind), of_kind);
        worst = of_kind > worst || isnan(of_kind) ? of_kind : worst;
    }
    assert_true(worst < TOLERANCE);
}

/* ---- the program that tools/train_memory.sh measures ---- */

#define SEQUENCES 4

static int measure_saving(const struct config *c, struct team *team, struct err *err)
{
    struct trainer t;
    struct draws d = {1, 0};
    int rc = trainer_init(&t, c, SEQUENCES, 1, team, err);
    if (rc)
        return rc;
    draw_tokens(&d, c->vocab, t.tokens, (size_t)t.rows);
    draw_tokens(&d, c->vocab, t.targets, (size_t)t.rows * (size_t)c->n_predict);
    trainer_gradients(&t);
    trainer_gradients(&t);
    struct head_train counted;
    struct arena heads = {0};
    head_train_take(&counted, &heads, c, t.rows);
    printf("%zu %zu\n", t.total * 4 * sizeof(float), heads.used);
    trainer_release(&t);
    return 0;
}

static int measure_naive(const struct config *c, struct team *team, struct err *err)
{
    static struct naive n;
    struct draws d = {1, 0};
    int rc = naive_init(&n, c, SEQUENCES, team, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < n.total; i++)
        n.value[i] = (float)(rng_uniform(1, 1, i) - 0.5) / 8;
    for (int i = 0; i < c->n_predict; i++)
        n.weight[i] = 1;
    draw_tokens(&d, c->vocab, n.tokens, (size_t)n.rows);
    draw_tokens(&d, c->vocab, n.targets, (size_t)n.rows * (size_t)c->n_predict);
    team_run(team, naive_lane, &n);
    team_run(team, naive_lane, &n);
    printf("%zu %zu\n", n.total * 4 * sizeof(float), n.head_bytes);
    naive_release(&n);
    return 0;
}

static int measure(char **argv)
{
    struct err err;
    struct team team;
    struct config c = {.dim = 256,
                       .n_layers = 4,
                       .n_heads = 4,
                       .n_kv_heads = 4,
                       .hidden = 704,
                       .vocab = atoi(argv[3]),
                       .context = 256,
                       .norm_eps = 1e-5f,
                       .rope_theta = 10000,
                       .n_predict = atoi(argv[2]),
                       .bos = -1,
                       .eos = -1};
    bool naive = !strcmp(argv[4], "naive");
    int rc = head_kind_parse(argv[1], &c.kind, &err);
    c.head_layers = !rc && head_kind_tensors(c.kind) == HEAD_LAYERS;
    if (!rc && !naive && strcmp(argv[4], "saving"))
        rc = err_set(&err, ERR_INVALID, "the order is '%s', but must be naive or saving", argv[4]);
    if (rc || (rc = config_check(&c, &err)) || (rc = team_init(&team, 2, &err))) {
        fprintf(stderr, "test_memory_order: %s\n", err.text);
        return 1;
    }
    rc = naive ? measure_naive(&c, &team, &err) : measure_saving(&c, &team, &err);
    if (rc)
        fprintf(stderr, "test_memory_order: %s\n", err.text);
    team_release(&team);
    return rc ? 1 : 0;
}

static int choose(void **state)
{
    (void)state;
    struct err err;
    int rc = kernels_init("auto", &err);
    grad_kernels_init();
    return rc ? rc : gemm_init("f32", &err);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_orders_give_the_same_gradients),
    };
    if (argc == 1)
        return cmocka_run_group_tests_name("memory_order", tests, choose, NULL);
    if (argc != 5 || choose(NULL)) {
        fprintf(stderr, "use: test_memory_order KIND HEADS VOCAB naive|saving\n");
        return 2;
    }
    return measure(argv);
}
