/* Timing passes without requests. */
#include "engine/warmup.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"

/* All are run so often, in turns, and the best time of each counts, as one observation: whatever
 * else the machine does only adds to it. In turns, since it does it for some milliseconds: all runs
 * of a small model's pass, one behind the other, would suffer from it. */
#define ROUNDS 5
#define ROUNDS_LEAST 2 /* where they take longer together than so many seconds */
#define PATIENT 0.5
/* Rows that are timed: full batches with some drafts, unless a pass takes so many seconds. */
#define SIZES 7 /* 1, 2, 4, ..., 64 */
#define LONG 0.1
/* Positions of the row that says what attention costs. */
#define FAR 1024
#define FAR_BYTES ((size_t)64 << 20) /* of keys and values before it, about */

/* The best seconds so far, INFINITY where nothing was timed. */
struct times {
    double near, far; /* a row without and with FAR positions to attend to */
    double pass[SIZES];
    double draft[DRAFTS_MAX + 1]; /* by heads */
};

/* n rows from a position of the first sequence's cache on; what they leave there is never read. */
static void take_rows(struct scheduler *s, int n, int first)
{
    struct step *p = &s->step;
    struct sequence *q = &s->sequences[0];
    p->n_rows = p->n_out = n;
    p->attended = 0;
    p->drafting = true;
    p->n_slots = 0; /* nobody chooses */
    for (int i = 0; i < n; i++) {
        p->rows[i] = p->committed[i] = row_in_place(&q->kv, first + i);
        p->out_rows[i] = p->committed_from[i] = i;
        p->tokens[i] = i % s->runtime->model.config.vocab;
        p->attended += first + i + 1;
    }
}

static void time_lane(struct scheduler *s, void (*fn)(struct lane *, void *), double *best)
{
    double start = clock_seconds();
    team_run(&s->runtime->team, fn, s);
    *best = fmin(*best, clock_seconds() - start);
}

static void time_passes(struct scheduler *s, int far, int most, struct times *t)
{
    take_rows(s, 1, far);
    time_lane(s, verify_lane, &t->far);
    take_rows(s, 1, 0);
    time_lane(s, verify_lane, &t->near);
    for (int i = 0; i < SIZES && 1 << i <= most && (i == 0 || t->pass[i - 1] < LONG); i++) {
        take_rows(s, 1 << i, 0);
        time_lane(s, verify_lane, &t->pass[i]);
    }
}

/* After a step that committed two tokens, which is what one does on a middling day. */
static void time_draft(struct scheduler *s, int heads, struct times *t)
{
    struct step *p = &s->step;
    struct sequence *q = &s->sequences[0];
    int committed = s->caches ? 2 : 1;
    take_rows(s, committed, 0);
    p->heads_run = p->heads_choose = heads;
    p->n_committed = committed;
    p->n_drafting = 1;
    p->draft_rows[0] = committed - 1;
    p->draft_slot[0] = 0;
    p->draft_tokens[0] = 0;
    q->ranks = DRAFT_RANKS;
    q->candidates.heads = 0;
    time_lane(s, draft_lane, &t->draft[heads]);
    for (int j = q->candidates.heads; j > 0; j--)
        sampler_pop(&q->sampler, q->candidates.token[j - 1][0]);
}

/* How far the row may stand that says what attention costs. The positions before it are written:
 * pages never written would be one page of zeros, read from the nearest cache. */
static int write_far(struct scheduler *s)
{
    struct kv *kv = &s->sequences[0].kv;
    size_t pages = FAR_BYTES / kv->pool->page_bytes + 1;
    int far = pages * KV_PAGE < FAR ? (int)pages * KV_PAGE - 1 : FAR - 1;
    far = far < s->context ? far : s->context - 1;
    if (!kv_reserve(kv, far + 1))
        return 0;
    for (int i = 0; i < kv->n_pages; i++)
        memset(kv->pages[i], 0x3c, kv->pool->page_bytes); /* small numbers in bf16 and in f32 */
    return far;
}

static void note(struct scheduler *s, int far, const struct times *t)
{
    if (far)
        costs_set_attend(&s->costs, (t->far - t->near) / far);
    for (int i = 0, n = 1; i < SIZES && isfinite(t->pass[i]); i++, n *= 2)
        costs_note_pass(&s->costs, n, n * (n + 1) / 2, t->pass[i]);
    for (int heads = 1; heads <= DRAFTS_MAX; heads++)
        if (isfinite(t->draft[heads]))
            costs_note_draft(&s->costs, heads, 1, t->draft[heads]);
}

void warmup(struct scheduler *s)
{
    struct kv *kv = &s->sequences[0].kv;
    struct times times;
    int heads = s->runtime->model.config.n_predict - 1, most = 1 << (SIZES - 1);
    most = most < s->context ? most : s->context;
    most = most < s->max_rows ? most : s->max_rows;
    if (!kv_reserve(kv, most))
        return;
    int far = write_far(s);
    times.near = times.far = INFINITY;
    for (int i = 0; i < SIZES; i++)
        times.pass[i] = INFINITY;
    for (int i = 0; i <= DRAFTS_MAX; i++)
        times.draft[i] = INFINITY;
    double begin = clock_seconds();
    for (int i = 0; i < ROUNDS && (i < ROUNDS_LEAST || clock_seconds() - begin < PATIENT); i++) {
        time_passes(s, far, most, &times);
        for (int n = 1; n <= heads && n <= DRAFTS_MAX; n *= 2)
            time_draft(s, n, &times);
    }
    note(s, far, &times);
    kv_truncate(kv, 0);
    kv_pool_trim(kv->pool);
}
