/* Gradients of the model: each *_backward against differences of its forward function. The forward
 * functions run as they are, in floats with f32 products; only their results are summed in double
 * precision, with random weights, into one number f. All of one argument x is moved at once along a
 * random direction v, and
 *
 *     (f(x - 2hv) - 8 f(x - hv) + 8 f(x + hv) - f(x + 2hv)) / 12h   =   sum_i g_i v_i
 *
 * must come out, up to a tolerance with two reasons. Where hv is 1 % of x, this formula leaves out
 * some 1e-7 of f's change through one matrix product or norm, and 1e-4 through a deep model, which
 * bends more. And the floats' roundings, about 1e-7 of f, are 1e-5 of f's change, more where f
 * hardly depends on x. For whole models the largest difference is 12e-4, where heads form a chain;
 * with half the step roundings make it 15e-4, with twice the step bends make it 99e-4. A random v
 * of unit size gives sums of the size of |g|, so differences are measured by that. Tolerances are
 * at least four times what was seen. */
#include "heads/heads_grad.h"
#include "tests/unit/numbers.h"
#include "tests/unit/unit.h"
#include "train/trainer.h"

#define STEP 0.01
#define SEEDS 12

static double tolerance, worst; /* of the test that runs */
static int failed;

typedef double value_fn(void *arg);

static double norm(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sqrt(sum);
}

/* Whether g is the gradient of f at x (n floats, which f reads), along one random direction. */
static void check(value_fn *f, void *arg, float *x, const float *g, size_t n, struct draws *d,
                  const char *what)
{
    float *at = malloc(n * sizeof *at), *v = malloc(n * sizeof *v);
    assert_true(at && v);
    static const double points[] = {-2, -1, 1, 2}, factors[] = {1, -8, 8, -1};
    double size = norm(x, n) / sqrt((double)n), h = STEP * size, slope = 0, right = 0;
    memcpy(at, x, n * sizeof *x);
    draw_normals(d, 1, v, n);
    for (int p = 0; p < 4; p++) {
        for (size_t i = 0; i < n; i++)
            x[i] = (float)(at[i] + points[p] * h * v[i]);
        slope += factors[p] * f(arg) / (12 * h);
    }
    memcpy(x, at, n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        right += (double)g[i] * v[i];
    double off = fabs(slope - right) / norm(g, n);
    free(at);
    free(v);
    worst = fmax(worst, off);
    if (!(off < tolerance)) {
        print_error("%s: the slope is %g, the gradient says %g: off by %g\n", what, slope, right,
                    off);
        failed++; /* not a jump out of here: the team's threads work on the caller's stack */
    }
}

/* ---- what all tests work with: a trainer of random shape and weights ---- */

struct setup {
    struct draws d;
    struct config config;
    struct team team;
    struct trainer t;
    struct pass pass;
    float *x, *y, *weight, *d_in, *d_out; /* (T, width most) input, result, its weights in f */
    size_t room;                          /* floats of each */
    int head;
};

static void config_draw(struct config *c, struct draws *d, enum head_kind kind, bool is_long)
{
    static const int groups[][2] = {{1, 1}, {2, 1}, {2, 2}, {4, 2}, {3, 1}};
    int g = draw_below(d, 5);
    bool layered = head_kind_tensors(kind) == HEAD_LAYERS;
    *c = (struct config){
        .n_heads = groups[g][0],
        .n_kv_heads = groups[g][1],
        .dim = groups[g][0] * 16 * (1 + draw_below(d, 2)),
        .n_layers = draw_below(d, 3),
        .hidden = 16 * (1 + draw_below(d, 5)),
        .vocab = 3 + draw_below(d, 80),
        .context = is_long ? 140 : 2 + draw_below(d, 40),
        .norm_eps = 1e-3f,
        .rope_theta = 100,
        .tied = draw_below(d, 2),
        .kind = kind,
        .n_predict = 1 + draw_below(d, 4),
        .head_layers = layered ? 1 + draw_below(d, 2) : 0,
        .bos = -1,
        .eos = -1,
    };
}

static void setup_init(struct setup *s, enum head_kind kind, uint64_t seed)
{
    struct err err;
    memset(s, 0, sizeof *s);
    s->d.seed = seed;
    bool is_long = seed == 1; /* more rows than LOSS_ROWS, and than ATTENTION_STRIP in a sequence */
    int sequences = is_long ? 2 : 1 + draw_below(&s->d, 3);
    config_draw(&s->config, &s->d, kind, is_long);
    assert_ok(config_check(&s->config, &err), err);
    assert_ok(team_init(&s->team, seed % 4 ? 1 : 3, &err), err);
    assert_ok(trainer_init(&s->t, &s->config, sequences, seed, &s->team, &err), err);
    const struct params *p = &s->t.model.params;
    for (int i = 0; i < p->n; i++) {
        float *value = s->t.value + p->list[i].offset;
        bool norm_weight = p->list[i].n_dims == 1;
        double deviation = norm_weight ? 0.3 : 1 / sqrt((double)p->list[i].shape[1]);
        draw_normals(&s->d, deviation, value, p->list[i].count);
        for (size_t j = 0; norm_weight && j < p->list[i].count; j++)
            value[j] += 1;
    }
    for (int i = 0; i < s->t.rows; i++)
        s->t.tokens[i] = draw_below(&s->d, s->config.vocab);
    for (int i = 0; i < s->t.rows * s->config.n_predict; i++)
        s->t.targets[i] = draw_below(&s->d, s->config.vocab);
    for (int i = 0; i < s->config.n_predict; i++)
        s->t.heads.weight[i] = 0.25f * (float)(1 + draw_below(&s->d, 8));
    s->pass = (struct pass){&s->t.model, s->t.row, s->t.rows, attend_whole, &s->t.batch, NULL};

    s->room = (size_t)s->t.rows * (size_t)s->config.dim * 3;
    float **const arrays[] = {&s->x, &s->y, &s->weight, &s->d_in, &s->d_out};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        *arrays[i] = mem_alloc(s->room * sizeof(float));
        assert_non_null(*arrays[i]);
        draw_normals(&s->d, 1, *arrays[i], s->room);
    }
}

static void setup_release(struct setup *s)
{
    trainer_release(&s->t);
    team_release(&s->team);
    free(s->x);
    free(s->y);
    free(s->weight);
    free(s->d_in);
    free(s->d_out);
}

static double weighted(const float *y, const float *weight, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)y[i] * weight[i];
    return sum;
}

/* Runs the test on random models with heads of that kind; prints the largest difference. */
static void seeds_of_kind(void (*test)(struct setup *s), enum head_kind kind, const char *what)
{
    struct setup s;
    worst = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        setup_init(&s, kind, seed);
        test(&s);
        setup_release(&s);
    }
    print_message("%s: %.1e\n", what, worst);
}

/* For functions that know nothing of the kinds; these heads' layers are blocks to test. */
static void each_seed(void (*test)(struct setup *s), const char *what, double allowed)
{
    tolerance = allowed;
    failed = 0;
    seeds_of_kind(test, HEAD_PARALLEL, what);
    assert_int_equal(failed, 0);
}

static void each_kind(void (*test)(struct setup *s), const char *what, double allowed)
{
    char title[64];
    tolerance = allowed;
    failed = 0;
    for (int kind = 0; kind < HEAD_KINDS_WHOLE; kind++) {
        snprintf(title, sizeof title, "%s, %s", what, head_kind_name((enum head_kind)kind));
        seeds_of_kind(test, (enum head_kind)kind, title);
    }
    assert_int_equal(failed, 0);
}

/* Checks the gradient of tensor i against f. */
static void check_param(struct setup *s, value_fn *f, int i)
{
    const struct param *p = &s->t.model.params.list[i];
    check(f, s, s->t.value + p->offset, s->t.grad + p->offset, p->count, &s->d, p->name);
}

/* ---- linear ---- */

struct product {
    struct setup *s;
    struct linear l;
    int rows;
    size_t x_stride, y_stride;
    float *w, *dw;
    bool accumulate;
};

static void product_forward(struct lane *lane, void *arg)
{
    struct product *p = arg;
    linear_forward(lane, &p->l, p->s->x, p->x_stride, p->rows, NULL, p->s->y, p->y_stride);
}

static double product_value(void *arg)
{
    struct product *p = arg;
    double sum = 0;
    team_run(&p->s->team, product_forward, p);
    for (int r = 0; r < p->rows; r++)
        sum += weighted(p->s->y + (size_t)r * p->y_stride, p->s->weight + (size_t)r * p->y_stride,
                        (size_t)p->l.outputs);
    return sum;
}

static void product_backward(struct lane *lane, void *arg)
{
    struct product *p = arg;
    linear_backward_input(lane, &p->l, p->s->weight, p->y_stride, p->rows, p->accumulate,
                          p->s->d_in, p->x_stride);
    linear_backward_weight(lane, &p->l, p->s->x, p->x_stride, p->s->weight, p->y_stride, p->rows);
}

/* Gradients are added to what is there, which is then taken off again. */
static void product_test(struct setup *s)
{
    struct product p = {.s = s, .rows = 1 + draw_below(&s->d, 40)};
    p.accumulate = draw_below(&s->d, 2);
    p.l.inputs = 1 + draw_below(&s->d, 60);
    p.l.outputs = 1 + draw_below(&s->d, 60);
    p.x_stride = (size_t)(p.l.inputs + draw_below(&s->d, 3));
    p.y_stride = (size_t)(p.l.outputs + draw_below(&s->d, 3));
    size_t n = (size_t)p.l.inputs * (size_t)p.l.outputs, x = (size_t)p.rows * p.x_stride;
    size_t most = (size_t)p.rows * 64;
    float **const arrays[] = {&s->x, &s->y, &s->weight, &s->d_in};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        free(*arrays[i]);
        *arrays[i] = mem_alloc(most * sizeof(float));
        assert_non_null(*arrays[i]);
        draw_normals(&s->d, 1, *arrays[i], most);
    }
    p.w = mem_alloc(n * sizeof(float));
    p.dw = mem_alloc(n * sizeof(float));
    float *before = mem_alloc(x * sizeof(float)), *w_before = mem_alloc(n * sizeof(float));
    assert_true(p.w && p.dw && before && w_before);
    draw_normals(&s->d, 0.3, p.w, n);
    draw_normals(&s->d, 1, p.dw, n);
    p.l.dense = p.w;
    p.l.dense_grad = p.dw;
    memcpy(before, s->d_in, x * sizeof(float));
    memcpy(w_before, p.dw, n * sizeof(float));

    team_run(&s->team, product_backward, &p);
    for (size_t i = 0; i < n; i++)
        p.dw[i] -= w_before[i];
    for (size_t i = 0; i < x; i++) {
        if (i % p.x_stride >= (size_t)p.l.inputs) {
            assert_true(s->d_in[i] == before[i]);
            s->d_in[i] = 0; /* columns between the rows */
        } else if (p.accumulate) {
            s->d_in[i] -= before[i];
        }
    }
    check(product_value, &p, s->x, s->d_in, x, &s->d, "linear, input");
    check(product_value, &p, p.w, p.dw, n, &s->d, "linear, weight");
    free(p.w);
    free(p.dw);
    free(before);
    free(w_before);
}

static void linear_gradients(void **state)
{
    (void)state;
    each_seed(product_test, "linear", 2e-4);
}

/* ---- rows_norm ---- */

static void norm_forward(struct lane *lane, void *arg)
{
    struct setup *s = arg;
    rows_norm(lane, &s->config, s->x, s->t.model.norm, s->t.rows, s->y, s->t.loss.scale);
    lane_barrier(lane);
}

static double norm_value(void *arg)
{
    struct setup *s = arg;
    team_run(&s->team, norm_forward, s);
    return weighted(s->y, s->weight, (size_t)s->t.rows * (size_t)s->config.dim);
}

static void norm_backward(struct lane *lane, void *arg)
{
    struct setup *s = arg;
    norm_forward(lane, s);
    rows_norm_backward(lane, &s->config, s->x, s->t.model.norm, s->t.loss.scale, s->weight,
                       s->t.rows, s->d_in,
                       s->t.grad + s->t.model.params.list[s->t.model.params.norm].offset);
}

static void norm_test(struct setup *s)
{
    size_t n = (size_t)s->t.rows * (size_t)s->config.dim;
    memcpy(s->d_out, s->d_in, n * sizeof(float));
    team_run(&s->team, norm_backward, s);
    for (size_t i = 0; i < n; i++)
        s->d_in[i] -= s->d_out[i]; /* it adds */
    check(norm_value, s, s->x, s->d_in, n, &s->d, "rows_norm, input");
    check_param(s, norm_value, s->t.model.params.norm);
}

static void rows_norm_gradients(void **state)
{
    (void)state;
    each_seed(norm_test, "rows_norm", 2e-4);
}

/* ---- attention, which first rotates queries and keys in place ---- */

static size_t qkv_stride(const struct config *c)
{
    return (size_t)((c->n_heads + 2 * c->n_kv_heads) * c->head_dim);
}

static void attend_forward(struct lane *lane, void *arg)
{
    struct setup *s = arg;
    struct block_acts *acts = s->t.heads.acts;
    if (lane->id == 0)
        memcpy(acts->qkv, s->x, (size_t)s->t.rows * qkv_stride(&s->config) * sizeof(float));
    lane_barrier(lane);
    attend_whole(lane, &s->pass, 0, acts, NULL, 0);
    lane_barrier(lane);
}

static double attend_value(void *arg)
{
    struct setup *s = arg;
    team_run(&s->team, attend_forward, s);
    return weighted(s->t.heads.acts->att, s->weight, (size_t)s->t.rows * (size_t)s->config.dim);
}

static void attend_backward(struct lane *lane, void *arg)
{
    struct setup *s = arg;
    attend_forward(lane, s);
    attend_whole_backward(lane, &s->pass, s->t.heads.acts, s->weight, s->d_out);
    lane_barrier(lane);
}

static void attend_test(struct setup *s)
{
    const struct config *c = &s->config;
    const struct model *m = &s->t.model;
    size_t stride = qkv_stride(c);
    team_run(&s->team, attend_backward, s);
    for (int r = 0; r < s->t.rows; r++) { /* block_backward rotates the gradient back */
        size_t at = (size_t)s->t.row[r].pos * (size_t)c->head_dim;
        grad_kernels.rope(s->d_out + (size_t)r * stride, m->rope_cos + at, m->rope_sin + at,
                          c->n_heads + c->n_kv_heads, c->head_dim);
    }
    check(attend_value, s, s->x, s->d_out, (size_t)s->t.rows * stride, &s->d, "attention");
}

static void attend_whole_gradients(void **state)
{
    (void)state;
    each_seed(attend_test, "attention", 2e-4);
}

/* ---- a block ---- */

static void layer_forward(struct lane *lane, void *arg)
{
    struct setup *s = arg;
    int block = model_head_block(&s->t.model, s->head);
    block_forward(lane, &s->pass, block, s->t.heads.acts, s->x, NULL, 0, s->y);
}

static double layer_value(void *arg)
{
    struct setup *s = arg;
    team_run(&s->team, layer_forward, s);
    return weighted(s->y, s->weight, (size_t)s->t.rows * (size_t)s->config.dim);
}

static void layer_backward(struct lane *lane, void *arg)
{
    struct setup *s = arg;
    layer_forward(lane, s);
    block_backward(lane, &s->pass, model_head_block(&s->t.model, s->head), s->t.heads.acts,
                   &s->t.block, s->x, s->d_in, s->t.grad);
}

static void layer_test(struct setup *s)
{
    size_t n = (size_t)s->t.rows * (size_t)s->config.dim;
    s->head = draw_below(&s->d, s->config.n_predict);
    memcpy(s->d_in, s->weight, n * sizeof(float));
    team_run(&s->team, layer_backward, s);
    check(layer_value, s, s->x, s->d_in, n, &s->d, "block, input");
    int first = s->t.model.params.blocks + model_head_block(&s->t.model, s->head) * BLOCK_PARAMS;
    for (int i = 0; i < BLOCK_PARAMS; i++)
        check_param(s, layer_value, first + i);
}

static void block_gradients(void **state)
{
    (void)state;
    each_seed(layer_test, "block", 5e-4);
}

/* ---- the loss ---- */

#define FACTOR 0.125f

static void loss_lane(struct lane *lane, void *arg)
{
    struct setup *s = arg;
    model_loss(lane, &s->t.model, s->head, &s->t.loss, s->x, NULL, s->t.targets, s->t.rows, FACTOR,
               s->d_in, s->t.grad);
}

static void loss_forward(struct lane *lane, void *arg)
{
    struct setup *s = arg;
    model_loss(lane, &s->t.model, s->head, &s->t.loss, s->x, NULL, s->t.targets, s->t.rows, 0, NULL,
               NULL);
}

static double loss_value(void *arg)
{
    struct setup *s = arg;
    double sum = 0;
    team_run(&s->team, loss_forward, s);
    for (int r = 0; r < s->t.rows; r++)
        sum += s->t.loss.row[r];
    return FACTOR * sum;
}

static void loss_test(struct setup *s)
{
    const struct params *p = &s->t.model.params;
    team_run(&s->team, loss_lane, s);
    check(loss_value, s, s->x, s->d_in, (size_t)s->t.rows * (size_t)s->config.dim, &s->d,
          "loss, input");
    check_param(s, loss_value, p->norm);
    check_param(s, loss_value, s->config.tied ? p->embed : p->output);
}

static void loss_gradients(void **state)
{
    (void)state;
    each_seed(loss_test, "loss", 2e-4);
}

/* ---- the embedding ---- */

static void embed_forward(struct lane *lane, void *arg)
{
    struct setup *s = arg;
    model_embed(lane, &s->t.model, s->t.tokens, s->t.rows, s->y);
}

static double embed_value(void *arg)
{
    struct setup *s = arg;
    team_run(&s->team, embed_forward, s);
    return weighted(s->y, s->weight, (size_t)s->t.rows * (size_t)s->config.dim);
}

static void embed_backward(struct lane *lane, void *arg)
{
    struct setup *s = arg;
    model_embed_backward(lane, &s->t.model, s->t.tokens, s->t.rows, s->weight, s->t.grad);
}

static void embed_test(struct setup *s)
{
    team_run(&s->team, embed_backward, s);
    check_param(s, embed_value, s->t.model.params.embed);
}

static void embedding_gradients(void **state)
{
    (void)state;
    each_seed(embed_test, "embedding", 2e-4);
}

/* ---- the walks over heads: what returns to the trunk, and the weights of the heads ---- */

static void heads_lane(struct lane *lane, void *arg)
{
    struct setup *s = arg;
    float *dz = s->t.heads.factor != 0 ? s->d_in : s->d_out; /* it is written even without */
    head_trainer(s->config.kind)->train(lane, &s->pass, &s->t.heads, s->x, dz);
}

static double losses(const struct setup *s)
{
    double sum = 0;
    for (int i = 0; i < s->config.n_predict; i++)
        sum += s->t.heads.weight[i] * s->t.score[i].nats;
    return sum;
}

static double heads_value(void *arg)
{
    struct setup *s = arg;
    s->t.heads.factor = 0;
    team_run(&s->team, heads_lane, s);
    return losses(s);
}

static void heads_test(struct setup *s)
{
    const struct params *p = &s->t.model.params;
    s->t.heads.factor = 1.0f / (float)s->t.rows;
    team_run(&s->team, heads_lane, s);
    check(heads_value, s, s->x, s->d_in, (size_t)s->t.rows * (size_t)s->config.dim, &s->d,
          "heads, input");
    for (int i = 0; p->head_linear >= 0 && i < s->config.n_predict; i++)
        check_param(s, heads_value, p->head_linear + i);
}

static void head_gradients(void **state)
{
    (void)state;
    each_kind(heads_test, "heads", 5e-4);
}

/* ---- trunk, heads and losses together: every tensor of the model ---- */

static double model_value(void *arg)
{
    struct setup *s = arg;
    trainer_evaluate(&s->t);
    return losses(s);
}

static void model_test(struct setup *s)
{
    trainer_gradients(&s->t);
    for (int i = 0; i < s->t.model.params.n; i++)
        check_param(s, model_value, i);
}

static void whole_model_gradients(void **state)
{
    (void)state;
    each_kind(model_test, "whole model", 5e-3);
}

static int choose(void **state)
{
    (void)state;
    struct err err;
    int rc = kernels_init("auto", &err);
    grad_kernels_init();
    return rc ? rc : gemm_init("f32", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_gradients),       cmocka_unit_test(rows_norm_gradients),
        cmocka_unit_test(attend_whole_gradients), cmocka_unit_test(block_gradients),
        cmocka_unit_test(loss_gradients),         cmocka_unit_test(embedding_gradients),
        cmocka_unit_test(head_gradients),         cmocka_unit_test(whole_model_gradients),
    };
    return cmocka_run_group_tests_name("model_grad", tests, choose, NULL);
}
