/* Timing passes without requests. */
#include "engine/warmup.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"

/* Each is run so often, and the best time counts, as one observation: whatever else the machine
 * does only adds to it. */
#define ROUNDS 5
#define ROUNDS_LEAST 2 /* of passes that take long */
/* Rows that are timed: full batches with some drafts, unless a pass takes so many seconds. */
#define ROWS 64
#define PATIENT 0.1
/* Positions of the row that says what attention costs. */
#define FAR 1024
#define FAR_BYTES ((size_t)64 << 20) /* of keys and values before it, about */

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

/* The best of some passes over those rows. */
static double time_pass(struct scheduler *s, int n, int first)
{
    double best = INFINITY;
    take_rows(s, n, first);
    double begin = clock_seconds();
    for (int i = 0; i < ROUNDS && (i < ROUNDS_LEAST || clock_seconds() - begin < PATIENT); i++) {
        double start = clock_seconds();
        team_run(&s->runtime->team, verify_lane, s);
        best = fmin(best, clock_seconds() - start);
    }
    return best;
}

/* What a row's attention to a position costs, from a row far behind. Pages never written would be
 * one page of zeros, read from the nearest cache. */
static void time_attention(struct scheduler *s)
{
    struct kv *kv = &s->sequences[0].kv;
    size_t pages = FAR_BYTES / kv->pool->page_bytes + 1;
    int far = pages * KV_PAGE < FAR ? (int)pages * KV_PAGE - 1 : FAR - 1;
    far = far < s->context ? far : s->context - 1;
    if (!kv_reserve(kv, far + 1))
        return;
    for (int i = 0; i < kv->n_pages; i++)
        memset(kv->pages[i], 0x3c, kv->pool->page_bytes); /* small numbers in bf16 and in f32 */
    double there = time_pass(s, 1, far), here = time_pass(s, 1, 0);
    costs_set_attend(&s->costs, (there - here) / far);
}

static void time_passes(struct scheduler *s, int most)
{
    double seconds = 0;
    for (int n = 1; n <= most && seconds < PATIENT; n *= 2) {
        seconds = time_pass(s, n, 0);
        costs_note_pass(&s->costs, n, s->step.attended, seconds);
    }
}

/* After a step that committed two tokens, which is what one does on a middling day. */
static void time_drafts(struct scheduler *s, int heads)
{
    struct step *p = &s->step;
    struct sequence *q = &s->sequences[0];
    int committed = s->caches ? 2 : 1;
    take_rows(s, committed, 0); /* passes of so many rows may not have been timed */
    p->heads_run = p->heads_choose = heads;
    p->n_committed = committed;
    p->n_drafting = 1;
    p->draft_rows[0] = committed - 1;
    p->draft_slot[0] = 0;
    p->draft_tokens[0] = 0;
    q->ranks = DRAFT_RANKS;
    double best = INFINITY;
    for (int i = 0; i < ROUNDS; i++) {
        q->candidates.heads = 0;
        double start = clock_seconds();
        team_run(&s->runtime->team, draft_lane, s);
        best = fmin(best, clock_seconds() - start);
        for (int j = q->candidates.heads; j > 0; j--)
            sampler_pop(&q->sampler, q->candidates.token[j - 1][0]);
    }
    costs_note_draft(&s->costs, heads, 1, best);
}

void warmup(struct scheduler *s)
{
    struct kv *kv = &s->sequences[0].kv;
    int heads = s->runtime->model.config.n_predict - 1, most = ROWS;
    most = most < s->context ? most : s->context;
    most = most < s->max_rows ? most : s->max_rows;
    if (!kv_reserve(kv, most))
        return;
    time_attention(s);
    time_passes(s, most);
    for (int n = 1; n <= heads; n *= 2)
        time_drafts(s, n);
    kv_truncate(kv, 0);
    kv_pool_trim(kv->pool);
}
