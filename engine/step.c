/* One decode step: rows are planned, the trunk and the next-token head run over them, choices are
 * verified and committed, and the other heads draft for the next step. */
#include "engine/step.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"

#define PATIENCE 32

/* ---- which rows ---- */

static bool reading(const struct sequence *q)
{
    return q->n_cached < q->n_prompt;
}

static void add_row(struct scheduler *s, struct sequence *q, int32_t token, int pos, bool logits)
{
    assert(s->n_rows < s->max_rows);
    if (logits)
        s->full[s->n_out++] = s->n_rows;
    s->tokens[s->n_rows] = token;
    s->rows[s->n_rows++] = (struct row){&q->kv, pos};
    s->drafting |= q->drafts_max > 0;
    q->n_rows++;
}

/* Decoding sequences first, so that a long prompt delays them by one chunk at most. */
static void plan(struct scheduler *s)
{
    int room = s->prompt_chunk;
    s->n_rows = s->n_out = 0;
    s->drafting = false;
    for (int i = 0; i < s->max_sequences; i++) {
        struct sequence *q = &s->sequences[i];
        q->n_rows = 0;
        q->first_row = s->n_rows;
        q->first_full = s->n_out;
        if (!q->active || q->finish || reading(q))
            continue;
        add_row(s, q, q->tokens[q->n_tokens - 1], q->n_tokens - 1, true);
        for (int j = 0; j < q->n_drafts; j++)
            add_row(s, q, q->drafts[j], q->n_tokens + j, true);
    }
    for (int i = 0; i < s->max_sequences && room > 0; i++) {
        struct sequence *q = &s->sequences[i];
        if (!q->active || q->finish || !reading(q))
            continue;
        q->first_row = s->n_rows;
        q->first_full = s->n_out;
        for (int pos = q->n_cached; pos < q->n_prompt && room > 0; pos++, room--)
            add_row(s, q, q->tokens[pos], pos, q->prompt_logprobs || pos + 1 == q->n_prompt);
    }
}

/* ---- passes ---- */

static void verify_lane(struct lane *lane, void *arg)
{
    struct scheduler *s = arg;
    struct pass pass = {&s->model, s->rows, s->n_rows, attend_cached, NULL};
    trunk_forward(lane, &pass, &s->acts, s->tokens, s->z);
    s->heads->verify(lane, &pass, s->head_work, s->z, s->full, s->n_out, s->drafting, s->h);
    model_logits(lane, &s->model, 0, s->h, s->n_out, s->normed, s->logits);
}

static void draft_head(struct lane *lane, struct scheduler *s, struct head_work *work, int i)
{
    struct pass pass = {&s->model, s->committed, s->n_committed, attend_cached, NULL};
    size_t dim = (size_t)s->model.config.dim;
    size_t row = (size_t)(i - 1) * (size_t)s->draft_count[0];
    int n = s->draft_count[i];
    s->heads->draft(lane, &pass, work, i, s->z_committed, s->draft_full, n, i == s->draft_heads,
                    s->h + row * dim);
    if (n)
        model_logits(lane, &s->model, i, s->h + row * dim, n, s->normed + row * dim,
                     s->logits + row * model_logits_stride(&s->model));
}

static void draft_lane(struct lane *lane, void *arg)
{
    struct scheduler *s = arg;
    struct team alone = {.n = 1};
    struct lane only = {.team = &alone, .n = 1, .scratch = lane->scratch};
    if (!s->lanes_take_heads) {
        for (int i = 1; i <= s->draft_heads; i++)
            draft_head(lane, s, s->head_work, i);
        return;
    }
    for (int i = 1 + lane->id; i <= s->draft_heads; i += lane->n)
        draft_head(&only, s, &s->head_work[lane->id], i);
}

/* Times passes in the middle of the first slot's cache, before any sequence is there. What they
 * leave in the cache is overwritten before it is read. */
static double best_of_three(struct scheduler *s, void (*fn)(struct lane *, void *))
{
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        double start = clock_seconds();
        team_run(&s->team, fn, s);
        double seconds = clock_seconds() - start;
        best = seconds < best ? seconds : best;
    }
    return best;
}

void step_measure_costs(struct scheduler *s)
{
    int most = s->model.config.n_predict < s->context ? s->model.config.n_predict : s->context;
    for (int i = 0; i < most; i++) {
        s->rows[i] = s->committed[i] =
            (struct row){&s->sequences[0].kv, (s->context - most) / 2 + i};
        s->full[i] = i;
        s->tokens[i] = i % s->model.config.vocab;
    }
    s->n_rows = s->n_out = 1;
    s->drafting = true;
    costs_note_pass(&s->costs, 1, s->context / 2, best_of_three(s, verify_lane));
    if (most < 2)
        return;
    s->n_rows = s->n_out = most;
    costs_note_pass(&s->costs, most, (double)most * s->context / 2, best_of_three(s, verify_lane));
    s->n_committed = s->heads->cached ? 2 : 1; /* 2: what a step commits on a middling day */
    s->draft_full[0] = s->n_committed - 1;
    s->draft_heads = most - 1;
    for (int i = 0; i < most; i++)
        s->draft_count[i] = 1;
    costs_note_draft(&s->costs, most - 1, 1, best_of_three(s, draft_lane));
}

/* ---- verify and commit ---- */

/* The best n tokens of a row, best first. */
static void top_tokens(const float *logits, int vocab, float lse, int n, struct engine_token *t)
{
    t->n_top = n < vocab ? n : vocab;
    for (int i = 0; i < t->n_top; i++) {
        int best = -1;
        for (int v = 0; v < vocab; v++) {
            bool after = i == 0 || logits[v] < logits[t->top[i - 1].token] ||
                         (logits[v] == logits[t->top[i - 1].token] && v > t->top[i - 1].token);
            if (after && (best < 0 || logits[v] > logits[best]))
                best = v;
        }
        if (best < 0) { /* only NaN is left */
            t->n_top = i;
            return;
        }
        t->top[i].token = best;
        t->top[i].logprob = logits[best] - lse;
    }
}

static void describe(const struct scheduler *s, const struct sequence *q, const float *logits,
                     int32_t token, uint32_t offset, struct engine_token *t)
{
    int vocab = s->model.config.vocab;
    float lse = kernels.logsumexp(logits, vocab);
    t->token = token;
    t->logprob = logits[token] - lse;
    t->offset = offset;
    top_tokens(logits, vocab, lse, q->top_logprobs, t);
}

/* Commits a chosen token: adds it to the sequence and its bytes to the text. */
static void commit(struct scheduler *s, struct sequence *q, int32_t token, const float *logits)
{
    size_t len;
    const char *bytes = tokenizer_bytes(&s->tokenizer, token, &len);
    bool early = q->n_tokens - q->n_prompt < q->min_tokens;
    describe(s, q, logits, token, q->offset, &q->fresh[q->n_fresh++]);
    q->tokens[q->n_tokens++] = token;
    sampler_commit(&q->sampler, token);
    q->offset += (uint32_t)len;
    if (token == s->model.config.eos && !q->ignore_eos && !early) {
        q->finish = FINISH_STOP;
        text_end(&q->text, &q->out);
    } else if (text_add(&q->text, bytes, len, q->n_tokens - q->n_prompt < q->min_tokens, &q->out)) {
        q->finish = FINISH_STOP;
    } else if (q->n_tokens >= q->limit) {
        q->finish = FINISH_LENGTH;
        text_end(&q->text, &q->out);
    }
}

static int32_t choose(struct scheduler *s, const struct sequence *q, const float *logits,
                      int position)
{
    bool early = q->n_tokens - q->n_prompt < q->min_tokens;
    return sampler_choose(&q->sampler, logits, s->model.config.vocab, position,
                          early ? s->model.config.eos : -1, s->candidates);
}

/* Walks the rows of a decoding sequence: every choice is committed; the walk ends where it differs
 * from the draft or the text ends. */
static void verify(struct scheduler *s, struct sequence *q, const float *logits)
{
    size_t stride = model_logits_stride(&s->model);
    int drafted = q->n_drafts, accepted = 0, fresh = 0;
    for (int j = 0;; j++) {
        int32_t token = choose(s, q, logits + (size_t)j * stride, q->n_tokens);
        commit(s, q, token, logits + (size_t)j * stride);
        fresh++;
        if (j == drafted || token != q->drafts[j])
            break;
        accepted++;
        if (q->finish)
            break;
    }
    q->n_cached += 1 + accepted; /* the rows behind the last one committed are forgotten */
    if (q->n_cached > q->n_tokens)
        q->n_cached = q->n_tokens;
    q->forwards++;
    const int32_t *truth = q->tokens + q->n_tokens - fresh;
    rates_note(&q->rates, &s->rates, &q->drafted, truth, fresh);
    rates_note(&s->rates, NULL, &q->drafted, truth, fresh);
    if (!drafted)
        return;
    struct engine_speculation *p = &q->speculation;
    p->steps++;
    p->drafted += (uint64_t)drafted;
    p->accepted += (uint64_t)accepted;
    p->histogram[drafted - 1][accepted]++;
    for (int j = 0; j < accepted; j++)
        p->accepted_at[j]++;
}

/* A chunk of the prompt has been read; behind its last token stands the first choice. */
static void read_chunk(struct scheduler *s, struct sequence *q, const float *logits)
{
    size_t stride = model_logits_stride(&s->model);
    int first = q->n_cached;
    q->n_cached += q->n_rows;
    for (int pos = first; q->prompt_logprobs && pos < q->n_cached && pos + 1 < q->n_prompt; pos++) {
        describe(s, q, logits, q->tokens[pos + 1], 0, &q->prompt[pos + 1]);
        logits += stride;
    }
    if (reading(q))
        return;
    if (q->prompt_logprobs) {
        q->prompt[0].token = q->tokens[0];
        q->prompt[0].logprob = NAN;
        q->prompt_ready = true;
    }
    q->forwards++;
    if (q->limit == q->n_prompt) {
        q->finish = FINISH_LENGTH;
        return;
    }
    commit(s, q, choose(s, q, logits, q->n_tokens), logits);
}

static void verify_all(struct scheduler *s)
{
    for (int i = 0; i < s->max_sequences; i++) {
        struct sequence *q = &s->sequences[i];
        const float *logits = s->logits + (size_t)q->first_full * model_logits_stride(&s->model);
        if (!q->n_rows)
            continue;
        if (reading(q))
            read_chunk(s, q, logits);
        else
            verify(s, q, logits);
    }
}

/* ---- draft ---- */

/* Keeping the caches of heads that are not asked costs time. Those that were of no use for PATIENCE
 * steps stop for the rest of the text: their caches have gaps then. */
static void drop_idle_heads(struct sequence *q, int drafts)
{
    q->used = drafts > q->used ? drafts : q->used;
    if (++q->patience < PATIENCE)
        return;
    q->drafts_max = q->used;
    q->used = q->patience = 0;
}

static struct wish wish(const struct sequence *q)
{
    int room = q->limit - q->n_tokens - 1; /* the step commits one token without drafts */
    int most = room < 0 || reading(q) ? 0 : room < q->drafts_max ? room : q->drafts_max;
    return (struct wish){.rates = &q->rates,
                         .mode = q->automatic ? SPECULATE_BEST : SPECULATE_CHAIN,
                         .heads = most,
                         .nodes = most,
                         .depth = most,
                         .ranks = 1,
                         .positions = q->n_tokens};
}

static bool may_draft(const struct sequence *q)
{
    return q->n_rows && !q->finish && q->drafts_max;
}

/* How many drafts the next step verifies of each sequence. */
static void choose_drafts(struct scheduler *s)
{
    struct company company = {.most_rows = s->max_rows};
    int n = 0;
    for (int i = 0; i < s->max_sequences; i++)
        if (may_draft(&s->sequences[i]))
            s->wishes[n++] = wish(&s->sequences[i]);
    if (n)
        speculate_choose(&s->speculate, &s->costs, s->wishes, n, &company);
    n = 0;
    for (int i = 0; i < s->max_sequences; i++) {
        struct sequence *q = &s->sequences[i];
        q->drafted.heads = 0;
        if (!may_draft(q))
            continue;
        q->n_drafts = s->wishes[n++].shape.n;
        if (q->automatic && s->heads->cached && !reading(q))
            drop_idle_heads(q, q->n_drafts);
    }
}

/* Lists the rows of this step, by their number in its pass, on which heads run: where heads keep
 * keys and values all committed ones, else those that draft. */
static void plan_drafts(struct scheduler *s)
{
    int n_slots = 0;
    choose_drafts(s);
    s->n_committed = s->draft_heads = s->drafts_most = 0;
    for (int i = 0; i < s->max_sequences; i++) {
        struct sequence *q = &s->sequences[i];
        if (!may_draft(q))
            continue;
        if (!q->n_drafts && !s->heads->cached)
            continue;
        int end = q->first_row + q->n_cached - s->rows[q->first_row].pos;
        for (int r = s->heads->cached ? q->first_row : end - 1; r < end; r++)
            s->committed_from[s->n_committed++] = r;
        int heads = s->heads->cached ? q->drafts_max : q->n_drafts;
        s->draft_heads = s->draft_heads < heads ? heads : s->draft_heads;
        if (!q->n_drafts)
            continue;
        s->drafts_most = s->drafts_most < q->n_drafts ? q->n_drafts : s->drafts_most;
        s->draft_slot[n_slots] = i;
        s->draft_full[n_slots++] = s->n_committed - 1;
    }
    s->draft_count[0] = n_slots;
    /* Head i drafts for all sequences that draft at all, wanted or not: the rows of each head must
     * be part of those of the head before, and equal ones keep the logits in one grid (head,
     * sequence). */
    for (int i = 1; i <= s->draft_heads; i++)
        s->draft_count[i] = i <= s->drafts_most ? n_slots : 0;
}

static void gather_committed(struct scheduler *s)
{
    size_t dim = (size_t)s->model.config.dim, n = (size_t)s->n_committed;
    int states = head_states(&s->model.config);
    for (size_t i = 0; i < n; i++)
        s->committed[i] = s->rows[s->committed_from[i]];
    for (size_t p = 0; p < (size_t)states; p++)
        for (size_t i = 0; i < n; i++) {
            size_t from = p * (size_t)s->n_rows + (size_t)s->committed_from[i];
            memcpy(s->z_committed + (p * n + i) * dim, s->z + from * dim, dim * sizeof(float));
        }
}

static void draft(struct scheduler *s)
{
    size_t stride = model_logits_stride(&s->model);
    int n = s->draft_count[0];
    if (!s->n_committed)
        return;
    gather_committed(s);
    double start = clock_seconds();
    team_run(&s->team, draft_lane, s);
    costs_note_draft(&s->costs, s->draft_heads, n, clock_seconds() - start);
    for (int i = 1; i <= s->drafts_most; i++)
        for (int j = 0; j < n; j++) {
            struct sequence *q = &s->sequences[s->draft_slot[j]];
            const float *logits = s->logits + (size_t)((i - 1) * n + j) * stride;
            if (i > q->n_drafts)
                continue;
            q->drafts[i - 1] = choose(s, q, logits, q->n_tokens + i - 1);
            q->drafted.token[i - 1][0] = q->drafts[i - 1];
            q->drafted.n[i - 1] = 1;
            q->drafted.heads = i;
        }
}

bool scheduler_step(struct scheduler *s)
{
    plan(s);
    if (!s->n_rows)
        return false;
    double start = clock_seconds();
    double positions = 0;
    for (int i = 0; i < s->n_rows; i++)
        positions += s->rows[i].pos + 1;
    team_run(&s->team, verify_lane, s);
    costs_note_pass(&s->costs, s->n_rows, positions, clock_seconds() - start);
    verify_all(s);
    plan_drafts(s);
    draft(s);
    s->forwards++;
    s->step_seconds += clock_seconds() - start;
    return true;
}
