/* Times sampler_sample: each setting on logits that a model could give (normal, deviation 3) and on
 * flat ones, without and with penalties on SEEN tokens. */
#include "tools/bench_sampler.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"
#include "engine/sampler.h"
#include "tools/bench_numbers.h"

#define SEEN 1000
#define ROWS 4 /* in turn, as the rows of a pass are; one time is taken over all of them */

static const struct setting {
    const char *name;
    float temperature;
    int top_k;
    float top_p;
} settings[] = {
    {"greedy", 0, 0, 1},
    {"temperature 0.8", 0.8f, 0, 1},
    {"top_k 40", 0.8f, 40, 1},
    {"top_p 0.9", 0.8f, 0, 0.9f},
    {"top_k 1000, top_p 0.9", 0.8f, 1000, 0.9f},
};

struct measuring {
    struct sampler sampler;
    struct sampler_work work;
    struct arena arena;
    float *logits; /* (ROWS, stride) */
    int vocab;
    size_t stride;
    int32_t prompt[SEEN];
};

static void turns(struct lane *lane, void *arg)
{
    struct measuring *m = arg;
    int32_t token;
    for (int i = 0; i < ROWS; i++)
        sampler_sample(lane, &m->sampler, m->logits + (size_t)i * m->stride, m->vocab, NULL, NULL,
                       1, &token, &m->work);
}

static void fill(struct measuring *m, float deviation)
{
    for (size_t i = 0; i < ROWS * m->stride; i++) {
        double radius = sqrt(-2 * log(rng_uniform(1, 2, i)));
        m->logits[i] = deviation * (float)(radius * cos(2 * M_PI * rng_uniform(1, 3, i)));
    }
}

static int row(struct measuring *m, struct team *team, const struct setting *how, bool penalties,
               int repeat, const char *logits, struct err *err)
{
    struct engine_request r = {.tokens = m->prompt,
                               .n_tokens = SEEN,
                               .temperature = how->temperature,
                               .top_k = how->top_k,
                               .top_p = how->top_p,
                               .frequency_penalty = penalties ? 0.2f : 0,
                               .repetition_penalty = penalties ? 1.1f : 1};
    double ms[REPEAT_MAX];
    int rc = sampler_init(&m->sampler, &r, m->vocab, NULL, 0, NULL, err);
    if (rc)
        return rc;
    /* Until the lanes have found their cores. */
    for (double until = clock_seconds() + 0.02; clock_seconds() < until;)
        team_run(team, turns, m);
    for (int i = 0; i < repeat; i++) {
        double start = clock_seconds();
        team_run(team, turns, m);
        ms[i] = (clock_seconds() - start) * 1e3 / ROWS;
    }
    struct spread s = spread_of(ms, repeat);
    printf("%-10s %-22s %-9s %8.4f   %.4f..%.4f\n", logits, how->name, penalties ? "yes" : "no",
           s.median, s.min, s.max);
    fflush(stdout);
    sampler_release(&m->sampler);
    return 0;
}

static int table(struct measuring *m, struct team *team, int repeat, struct err *err)
{
    static const struct {
        const char *name;
        float deviation;
    } kinds[] = {{"normal", 3}, {"flat", 0.01f}, {"equal", 0}};
    int rc = 0;
    printf("%d tokens, %s kernels, %d threads\n\n"
           "logits     setting                penalties ms a row   min..max\n",
           m->vocab, kernels.name, team->n);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        fill(m, kinds[k].deviation);
        for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
            for (int penalties = 0; penalties < 2 && !rc; penalties++)
                rc = row(m, team, &settings[i], penalties, repeat, kinds[k].name, err);
    }
    return rc;
}

static void take(struct measuring *m, int lanes)
{
    m->logits = arena_take(&m->arena, ROWS * m->stride, sizeof *m->logits);
    sampler_work_take(&m->work, &m->arena, m->vocab, lanes);
}

int sampler_measure(int vocab, int threads, const char *isa, int repeat, struct err *err)
{
    struct measuring m = {.vocab = vocab, .stride = ((size_t)vocab + 15) & ~(size_t)15};
    struct team team = {0};
    int rc = kernels_init(isa, err);
    if (!rc)
        rc = team_init(&team, threads, err);
    if (rc)
        return rc;
    take(&m, team.n);
    for (int i = 0; i < SEEN; i++)
        m.prompt[i] = (int32_t)rng_below(1, 4, (uint64_t)i, (uint64_t)vocab);
    if (!(rc = arena_init(&m.arena, err))) {
        take(&m, team.n);
        rc = table(&m, &team, repeat, err);
    }
    arena_release(&m.arena);
    team_release(&team);
    return rc;
}
