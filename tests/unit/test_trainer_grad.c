/* What a training step does with its gradients: clipping, AdamW, decay of matrices alone, the
 * schedule; against the same in double precision. */
#include "tests/unit/numbers.h"
#include "tests/unit/unit.h"
#include "train/trainer.h"

#define STEPS 4

static const struct schedule schedule = {.rate = 3e-3,
                                         .final_rate = 0.1,
                                         .beta1 = 0.9,
                                         .beta2 = 0.95,
                                         .decay = 0.2,
                                         .clip = 1,
                                         .warmup = 2,
                                         .steps = STEPS};

struct setup {
    struct team team;
    struct trainer t;
    double *value, *m, *v; /* as the trainer's, in double precision */
};

static void setup_init(struct setup *s)
{
    struct err err;
    struct config config = {.dim = 32,
                            .n_heads = 2,
                            .n_kv_heads = 1,
                            .n_layers = 1,
                            .hidden = 48,
                            .vocab = 37,
                            .context = 20,
                            .norm_eps = 1e-5f,
                            .rope_theta = 10000,
                            .kind = HEAD_PARALLEL,
                            .n_predict = 2,
                            .head_layers = 1,
                            .bos = -1,
                            .eos = -1};
    memset(s, 0, sizeof *s);
    assert_ok(config_check(&config, &err), err);
    assert_ok(team_init(&s->team, 2, &err), err);
    assert_ok(trainer_init(&s->t, &config, 3, 1, &s->team, &err), err);
    double **const arrays[] = {&s->value, &s->m, &s->v};
    for (int i = 0; i < 3; i++)
        assert_non_null(*arrays[i] = calloc(s->t.total, sizeof(double)));
    for (size_t i = 0; i < s->t.total; i++)
        s->value[i] = s->t.value[i];
}

static void setup_release(struct setup *s)
{
    trainer_release(&s->t);
    team_release(&s->team);
    free(s->value);
    free(s->m);
    free(s->v);
}

static void read_windows(struct setup *s, struct draws *d)
{
    int32_t window[22];
    for (int b = 0; b < 3; b++) {
        for (int i = 0; i < 22; i++)
            window[i] = draw_below(d, 37);
        trainer_window(&s->t, b, window);
    }
}

/* The gradient's norm without the moves of a step: the trainer clears grad when it has used it. */
static double gradient(struct setup *s, float *grad)
{
    double sum = 0;
    trainer_gradients(&s->t);
    memcpy(grad, s->t.grad, s->t.total * sizeof *grad);
    memset(s->t.grad, 0, s->t.total * sizeof *grad);
    for (size_t i = 0; i < s->t.total; i++)
        sum += (double)grad[i] * grad[i];
    return sqrt(sum);
}

/* Loshchilov, Hutter 2019, algorithm 2, on every parameter; `step` from 1. */
static void step_right(struct setup *s, const float *grad, double norm, int step)
{
    double rate = schedule_rate(&schedule, step - 1);
    double clip = norm > schedule.clip ? schedule.clip / norm : 1;
    for (int p = 0; p < s->t.model.params.n; p++) {
        const struct param *param = &s->t.model.params.list[p];
        double decay = param->n_dims == 1 ? 0 : schedule.decay;
        for (size_t i = param->offset; i < param->offset + param->count; i++) {
            double g = clip * grad[i];
            s->m[i] = schedule.beta1 * s->m[i] + (1 - schedule.beta1) * g;
            s->v[i] = schedule.beta2 * s->v[i] + (1 - schedule.beta2) * g * g;
            double m = s->m[i] / (1 - pow(schedule.beta1, step));
            double v = s->v[i] / (1 - pow(schedule.beta2, step));
            s->value[i] -= rate * (m / (sqrt(v) + 1e-8) + decay * s->value[i]);
        }
    }
}

/* The gradients are the same floats, so that even where they are all but 0, and AdamW divides them
 * by their own size, only a step's own roundings differ: some 1e-7 of a parameter. */
static int count_wrong(const struct setup *s)
{
    int wrong = 0;
    for (size_t i = 0; i < s->t.total; i++)
        wrong += fabs(s->t.value[i] - s->value[i]) > 1e-6;
    return wrong;
}

static void steps_are_adamw(void **state)
{
    (void)state;
    struct setup s;
    struct draws d = {1, 0};
    int wrong = 0, clipped = 0, cleared = 1;
    setup_init(&s);
    float *grad = malloc(s.t.total * sizeof *grad);
    assert_non_null(grad);
    for (int step = 1; step <= STEPS; step++) {
        read_windows(&s, &d);
        double norm = gradient(&s, grad);
        clipped += norm > schedule.clip;
        trainer_step(&s.t, &schedule, step - 1);
        step_right(&s, grad, norm, step);
        wrong += count_wrong(&s) + (fabs(s.t.grad_norm / norm - 1) > 1e-5);
        for (size_t i = 0; i < s.t.total; i++)
            cleared &= s.t.grad[i] == 0;
    }
    free(grad);
    setup_release(&s);
    assert_int_equal(wrong, 0);
    assert_true(clipped > 0); /* otherwise this would test nothing of it */
    assert_true(cleared);
}

static void the_rate_warms_up_and_falls_as_a_cosine(void **state)
{
    (void)state;
    struct schedule s = {.rate = 2, .final_rate = 0.25, .warmup = 4, .steps = 12};
    assert_true(fabs(schedule_rate(&s, 0) - 0.5) < 1e-12);
    assert_true(fabs(schedule_rate(&s, 3) - 2) < 1e-12);
    assert_true(fabs(schedule_rate(&s, 4) - 2) < 1e-12);
    assert_true(fabs(schedule_rate(&s, 8) - 1.25) < 1e-12); /* half way from 2 to 0.5 */
    assert_true(fabs(schedule_rate(&s, 12) - 0.5) < 1e-12);
    assert_true(fabs(schedule_rate(&s, 100) - 0.5) < 1e-12);
    s.cooldown = 0.5;
    assert_true(fabs(schedule_rate(&s, 0) - 0.5) < 1e-12);
    assert_true(fabs(schedule_rate(&s, 4) - 2) < 1e-12);
    assert_true(fabs(schedule_rate(&s, 6) - 2) < 1e-12);
    assert_true(fabs(schedule_rate(&s, 9) - 1.25) < 1e-12);
    assert_true(fabs(schedule_rate(&s, 12) - 0.5) < 1e-12);
    assert_true(fabs(schedule_rate(&s, 100) - 0.5) < 1e-12);
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
        cmocka_unit_test(steps_are_adamw),
        cmocka_unit_test(the_rate_warms_up_and_falls_as_a_cosine),
    };
    return cmocka_run_group_tests_name("trainer_grad", tests, choose, NULL);
}
