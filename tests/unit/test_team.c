/* The team: every output is somebody's and only one's, barriers hold everybody back, and what is
 * computed does not depend on how many compute. */
#include "model/team.h"
#include "base/mem.h"
#include "tests/unit/numbers.h"
#include "tests/unit/unit.h"
#include "train/trainer.h"

static void shares_cover_everything_once(void **state)
{
    (void)state;
    static const int grains[] = {1, 3, 16, 64};
    for (int n = 1; n <= TEAM_MAX; n++)
        for (int count = 0; count < 300; count += 1 + n / 8)
            for (int g = 0; g < 4; g++) {
                int next = 0, least = count, most = 0;
                for (int id = 0; id < n; id++) {
                    struct lane lane = {.id = id, .n = n};
                    int begin, end;
                    lane_share(&lane, count, grains[g], &begin, &end);
                    assert_true(begin == next || (begin == end && next == count));
                    assert_true(begin <= end && end <= count);
                    assert_true(begin % grains[g] == 0 || begin == count);
                    next = end > next ? end : next;
                    least = end - begin < least ? end - begin : least;
                    most = end - begin > most ? end - begin : most;
                }
                assert_int_equal(next, count);
                assert_true(most - least <= 2 * grains[g]); /* the last grain may be cut short */
            }
}

/* ---- running ---- */

#define PHASES 300

struct counting {
    int times[TEAM_MAX];  /* how often each lane ran */
    int counts[TEAM_MAX]; /* written by its lane alone, read by the others after a barrier */
    int wrong[TEAM_MAX];
    int late; /* a lane that comes later than the others will spin */
};

static void count_phases(struct lane *lane, void *arg)
{
    struct counting *c = arg;
    c->times[lane->id]++;
    for (int phase = 1; phase <= PHASES; phase++) {
        if (c->late && phase % 100 == lane->id)
            usleep(2000);
        c->counts[lane->id]++;
        lane_barrier(lane);
        for (int i = 0; i < lane->n; i++)
            c->wrong[lane->id] += c->counts[i] != phase;
        lane_barrier(lane); /* nobody counts on while others still look */
    }
}

static void barriers_hold_everybody_back(void **state)
{
    (void)state;
    for (int n = 1; n <= 4; n++)
        for (int late = 0; late < 2; late++) {
            struct err err;
            struct team team;
            struct counting c = {.late = late};
            int wrong = 0;
            assert_ok(team_init(&team, n, &err), err);
            team_run(&team, count_phases, &c);
            team_release(&team);
            for (int i = 0; i < n; i++)
                wrong += c.wrong[i] + (c.times[i] != 1);
            assert_int_equal(wrong, 0);
        }
}

static void note_run(struct lane *lane, void *arg)
{
    ((struct counting *)arg)->times[lane->id]++;
}

static void every_lane_runs_every_time(void **state)
{
    (void)state;
    struct err err;
    struct team team;
    struct counting c = {.late = 0};
    assert_ok(team_init(&team, 3, &err), err);
    for (int i = 0; i < 100; i++) {
        if (i % 40 == 0)
            usleep(3000); /* so long that the lanes sleep */
        team_run(&team, note_run, &c);
    }
    team_release(&team);
    for (int i = 0; i < 3; i++)
        assert_int_equal(c.times[i], 100);
}

static void a_team_has_the_size_asked_for(void **state)
{
    (void)state;
    static const struct {
        int asked, least, most;
    } cases[] = {{1, 1, 1}, {3, 3, 3}, {0, 1, TEAM_MAX}, {1000, TEAM_MAX, TEAM_MAX}};
    for (int i = 0; i < 4; i++) {
        struct err err;
        struct team team;
        assert_ok(team_init(&team, cases[i].asked, &err), err);
        int n = team.n;
        team_release(&team);
        assert_in_range(n, cases[i].least, cases[i].most);
    }
}

/* ---- working memory ---- */

static void write_scratch(struct lane *lane, void *arg)
{
    size_t size = *(size_t *)arg;
    memset(lane_scratch(lane, size), lane->id + 1, size);
}

static void scratch_is_each_lanes_own(void **state)
{
    (void)state;
    struct err err;
    struct team team;
    int wrong = 0;
    assert_ok(team_init(&team, 3, &err), err);
    for (size_t size = 1; size < 1 << 20; size *= 32)
        team_run(&team, write_scratch, &size);
    size_t size = 100;
    team_run(&team, write_scratch, &size);
    for (int i = 0; i < 3; i++) {
        const char *scratch = team.lanes[i].scratch;
        wrong += (uintptr_t)scratch % MEM_ALIGN != 0 || scratch[0] != i + 1 || scratch[99] != i + 1;
    }
    int rc = team_reserve(&team, 1 << 21, &err);
    wrong += team.lanes[2].scratch_size < 1 << 21;
    team_release(&team);
    assert_ok(rc, err);
    assert_int_equal(wrong, 0);
}

/* ---- training steps with any number of lanes ---- */

#define STEPS 3

/* Sizes that no number of lanes divides. */
static const struct config odd = {.dim = 48,
                                  .n_heads = 3,
                                  .n_kv_heads = 1,
                                  .n_layers = 2,
                                  .hidden = 80,
                                  .vocab = 71,
                                  .context = 37,
                                  .norm_eps = 1e-5f,
                                  .rope_theta = 10000,
                                  .kind = HEAD_PARALLEL,
                                  .n_predict = 3,
                                  .head_layers = 1,
                                  .bos = -1,
                                  .eos = -1};

/* Parameters after a few steps; `total` of them. */
static float *train(int lanes, size_t *total)
{
    static const struct schedule schedule = {1e-2, 0.1, 0.9, 0.95, 0.1, 0.5, 1, STEPS, 0, 0};
    struct err err;
    struct config config = odd;
    struct team team;
    struct trainer t;
    struct draws d = {1, 0};
    int32_t window[40];
    assert_ok(config_check(&config, &err), err);
    assert_ok(team_init(&team, lanes, &err), err);
    assert_ok(trainer_init(&t, &config, 5, 1, &team, &err), err);
    for (int step = 0; step < STEPS; step++) {
        for (int b = 0; b < 5; b++) {
            for (int i = 0; i < 40; i++)
                window[i] = draw_below(&d, config.vocab);
            trainer_window(&t, b, window);
        }
        trainer_step(&t, &schedule, step);
    }
    *total = t.total;
    float *value = malloc(t.total * sizeof *value);
    if (value)
        memcpy(value, t.value, t.total * sizeof *value);
    trainer_release(&t);
    team_release(&team);
    assert_non_null(value);
    return value;
}

static void training_does_not_depend_on_lanes(const char *precision)
{
    struct err err;
    size_t total;
    assert_ok(kernels_init("auto", &err), err);
    assert_ok(gemm_init(precision, &err), err);
    grad_kernels_init();
    float *alone = train(1, &total);
    for (int lanes = 2; lanes <= 4; lanes++) {
        float *together = train(lanes, &total);
        bool same = same_bits(alone, together, total);
        double off = 0;
        for (size_t i = 0; i < total; i++)
            off = fmax(off, fabs((double)alone[i] - together[i]));
        free(together);
        if (!same)
            fail_msg("%d lanes give parameters up to %g off", lanes, off);
    }
    free(alone);
}

static void training_in_f32_does_not_depend_on_lanes(void **state)
{
    (void)state;
    training_does_not_depend_on_lanes("f32");
}

static void training_in_bf16_does_not_depend_on_lanes(void **state)
{
    (void)state;
    if (!gemm_bf16_available(GEMM_VECTORS))
        skip();
    training_does_not_depend_on_lanes("bf16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_cover_everything_once),
        cmocka_unit_test(barriers_hold_everybody_back),
        cmocka_unit_test(every_lane_runs_every_time),
        cmocka_unit_test(a_team_has_the_size_asked_for),
        cmocka_unit_test(scratch_is_each_lanes_own),
        cmocka_unit_test(training_in_f32_does_not_depend_on_lanes),
        cmocka_unit_test(training_in_bf16_does_not_depend_on_lanes),
    };
    return cmocka_run_group_tests_name("team", tests, NULL, NULL);
}
