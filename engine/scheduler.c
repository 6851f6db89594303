/* The decode step, and the life of a sequence in its slot. */
#include "engine/scheduler.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define PROMPT_CHUNK 256 /* prompt rows per step, when nobody says */

/* ---- set-up ---- */

/* Rows of a step: all sequences verify their drafts, and one chunk of prompt. */
static int most_rows(const struct scheduler *s)
{
    return s->max_sequences * s->model.config.n_predict + s->prompt_chunk;
}

static void take(struct scheduler *s)
{
    struct arena *a = &s->arena;
    const struct config *c = &s->model.config;
    size_t rows = (size_t)s->max_rows, dim = (size_t)c->dim, slots = (size_t)s->max_sequences;
    s->sequences = arena_take(a, slots, sizeof *s->sequences);
    s->rows = arena_take(a, rows, sizeof *s->rows);
    s->committed = arena_take(a, rows, sizeof *s->committed);
    s->tokens = arena_take(a, rows, sizeof *s->tokens);
    s->full = arena_take(a, rows, sizeof *s->full);
    s->draft_full = arena_take(a, slots, sizeof *s->draft_full);
    s->draft_slot = arena_take(a, slots, sizeof *s->draft_slot);
    s->draft_count = arena_take(a, HEADS_MAX, sizeof *s->draft_count);
    s->z = arena_take(a, rows * dim, sizeof(float));
    s->z_committed = arena_take(a, rows * dim, sizeof(float));
    s->h = arena_take(a, rows * dim, sizeof(float));
    s->normed = arena_take(a, rows * dim, sizeof(float));
    s->logits = arena_take(a, rows * model_logits_stride(&s->model), sizeof(float));
    s->candidates = arena_take(a, (size_t)c->vocab, sizeof *s->candidates);
    block_acts_take(&s->acts, a, c, s->max_rows, false);
    int works = s->lanes_take_heads ? s->team.n : 1;
    s->head_work = arena_take(a, (size_t)works, sizeof *s->head_work);
    for (int i = 0; i < works; i++) {
        struct head_work work;
        head_work_take(&work, a, c, s->max_rows);
        if (a->base)
            s->head_work[i] = work;
    }
    for (size_t i = 0; i < slots; i++) {
        struct sequence q = {0};
        q.tokens = arena_take(a, (size_t)s->context, sizeof *q.tokens);
        q.generated = arena_take(a, (size_t)c->vocab, sizeof *q.generated);
        q.seen = arena_take(a, (size_t)c->vocab, 1);
        q.stop_bytes = arena_take(a, ENGINE_STOPS_MAX * ENGINE_STOP_BYTES_MAX, 1);
        if (a->base)
            s->sequences[i] = q;
    }
}

int scheduler_init(struct scheduler *s, const struct scheduler_options *o, struct err *err)
{
    memset(s, 0, sizeof *s);
    int rc = kernels_init(o->isa, err);
    if (!rc)
        rc = model_open(&s->model, o->model, o->context, err);
    if (rc)
        return rc;
    const struct config *c = &s->model.config;
    s->context = o->context > 0 ? o->context : c->context;
    s->max_sequences = o->max_sequences > 0 ? o->max_sequences : 16;
    s->prompt_chunk = o->prompt_chunk > 0 ? o->prompt_chunk : PROMPT_CHUNK;
    s->max_rows = most_rows(s);
    s->heads = head_type(c->kind);
    if (!s->heads)
        rc = err_set(err, ERR_INVALID,
                     "%s: heads of kind '%s' are not served by this version: parallel ones are",
                     o->model, head_kind_name(c->kind));
    if (!rc)
        rc = tokenizer_open(&s->tokenizer, o->model, c, err);
    if (!rc)
        rc = team_init(&s->team, o->threads, err);
    if (!rc)
        rc = team_reserve(&s->team, model_lane_bytes(&s->model), err);
    if (!rc) {
        /* With heads enough for all, whole heads cost a lane no barriers. */
        s->lanes_take_heads =
            s->heads->independent && s->team.n > 1 && c->n_predict - 1 >= 2 * s->team.n;
        take(s);
    }
    if (!rc && !(rc = arena_init(&s->arena, err)))
        take(s);
    for (int i = 0; i < s->max_sequences && !rc; i++)
        rc = kv_init(&s->sequences[i].kv, c, s->model.n_blocks, s->context, err);
    if (rc)
        scheduler_release(s);
    return rc;
}

void scheduler_release(struct scheduler *s)
{
    for (int i = 0; s->arena.base && i < s->max_sequences; i++) {
        scheduler_remove(s, i);
        buf_release(&s->sequences[i].out);
        text_release(&s->sequences[i].text);
        kv_release(&s->sequences[i].kv);
    }
    team_release(&s->team);
    tokenizer_release(&s->tokenizer);
    model_release(&s->model);
    arena_release(&s->arena);
    memset(s, 0, sizeof *s);
}

/* ---- sequences ---- */

static int check_number(const char *field, double value, double low, double high, struct err *err)
{
    if (value >= low && value <= high) /* false for NaN */
        return 0;
    return err_set(err, ERR_INVALID, "%s is %g, but must lie between %g and %g", field, value, low,
                   high);
}

int scheduler_check(const struct scheduler *s, const struct engine_request *r, struct err *err)
{
    int vocab = s->model.config.vocab, heads = s->model.config.n_predict, rc;
    if (r->n_tokens < 1 || r->n_tokens >= (size_t)s->context)
        return err_set(
            err, ERR_INVALID,
            "prompt has %zu tokens, but must have at least 1 and at most %d to leave room "
            "for an answer in a context of %d",
            r->n_tokens, s->context - 1, s->context);
    for (size_t i = 0; i < r->n_tokens; i++)
        if (r->tokens[i] < 0 || r->tokens[i] >= vocab)
            return err_set(err, ERR_INVALID, "prompt token %zu is %d, but tokens go from 0 to %d",
                           i, r->tokens[i], vocab - 1);
    if ((rc = check_number("temperature", r->temperature, 0, 100, err)) ||
        (rc = check_number("top_p", r->top_p, 0, 1, err)) ||
        (rc = check_number("min_p", r->min_p, 0, 1, err)) ||
        (rc = check_number("frequency_penalty", r->frequency_penalty, -2, 2, err)) ||
        (rc = check_number("presence_penalty", r->presence_penalty, -2, 2, err)) ||
        (rc = check_number("repetition_penalty", r->repetition_penalty, 0.01, 100, err)) ||
        (rc = check_number("max_tokens", r->max_tokens, 0, 1e9, err)) ||
        (rc = check_number("min_tokens", r->min_tokens, 0, r->max_tokens, err)) ||
        (rc = check_number("top_k", r->top_k, 0, 1e9, err)) ||
        (rc = check_number("logprobs", r->top_logprobs, 0, ENGINE_TOP_LOGPROBS_MAX, err)) ||
        (rc = check_number("speculation", r->speculation, SPECULATION_AUTO, heads - 1, err)) ||
        (rc = check_number("the number of stop strings", r->n_stops, 0, ENGINE_STOPS_MAX, err)) ||
        (rc = check_number("the size of logit_bias", r->n_biases, 0, ENGINE_BIAS_MAX, err)))
        return rc;
    for (int i = 0; i < r->n_stops; i++)
        if (r->stop_lens[i] < 1 || r->stop_lens[i] > ENGINE_STOP_BYTES_MAX)
            return err_set(err, ERR_INVALID, "stop string %d has %zu bytes, but must have 1 to %d",
                           i, r->stop_lens[i], ENGINE_STOP_BYTES_MAX);
    for (int i = 0; i < r->n_biases; i++) {
        if (r->biases[i].token < 0 || r->biases[i].token >= vocab)
            return err_set(err, ERR_INVALID,
                           "logit_bias names token %d, but tokens go from 0 to %d",
                           r->biases[i].token, vocab - 1);
        if ((rc = check_number("logit_bias", r->biases[i].bias, -100, 100, err)))
            return rc;
    }
    return 0;
}

int scheduler_add(struct scheduler *s, const struct engine_request *r, uint64_t id, struct err *err)
{
    int slot = 0;
    while (slot < s->max_sequences && s->sequences[slot].active)
        slot++;
    if (slot == s->max_sequences)
        return err_set(err, ERR_BUSY, "all %d sequences are in use: try again later", slot);
    struct sequence *q = &s->sequences[slot];
    q->prompt = r->prompt_logprobs ? calloc(r->n_tokens, sizeof *q->prompt) : NULL;
    if (r->prompt_logprobs && !q->prompt)
        return err_set(err, ERR_MEMORY, "no memory for the log-probabilities of %zu prompt tokens",
                       r->n_tokens);
    q->active = true;
    q->id = id;
    memcpy(q->tokens, r->tokens, r->n_tokens * sizeof *r->tokens);
    q->n_prompt = q->n_tokens = (int)r->n_tokens;
    q->n_cached = q->n_drafts = q->n_fresh = q->n_rows = 0;
    q->limit = s->context - q->n_prompt < r->max_tokens ? s->context : q->n_prompt + r->max_tokens;
    q->drafts_max =
        r->speculation == SPECULATION_AUTO ? s->model.config.n_predict - 1 : r->speculation;
    q->ignore_eos = r->ignore_eos;
    q->min_tokens = r->min_tokens;
    q->top_logprobs = r->top_logprobs;
    q->prompt_logprobs = r->prompt_logprobs;
    sampler_init(&q->sampler, r, s->model.config.vocab, q->generated, q->seen);
    char *to = q->stop_bytes;
    for (int i = 0; i < r->n_stops; i++) {
        q->stops[i] = memcpy(to, r->stops[i], r->stop_lens[i]);
        q->stop_lens[i] = r->stop_lens[i];
        to += r->stop_lens[i];
    }
    q->text.stops = q->stops;
    q->text.stop_lens = q->stop_lens;
    q->text.n_stops = r->n_stops;
    q->text.held.len = q->out.len = 0;
    q->offset = 0;
    q->forwards = 0;
    q->prompt_ready = false;
    q->finish = FINISH_NONE;
    memset(&q->speculation, 0, sizeof q->speculation);
    return slot;
}

void scheduler_collected(struct scheduler *s, int slot)
{
    struct sequence *q = &s->sequences[slot];
    q->n_fresh = 0;
    q->out.len = 0;
    q->prompt_ready = false;
}

void scheduler_remove(struct scheduler *s, int slot)
{
    struct sequence *q = &s->sequences[slot];
    free(q->prompt);
    q->prompt = NULL;
    q->active = false;
}

/* ---- which rows ---- */

static bool reading(const struct sequence *q)
{
    return q->n_cached < q->n_prompt;
}

static void add_row(struct scheduler *s, struct sequence *q, int32_t token, int pos, bool logits)
{
    assert(s->n_rows < s->max_rows);
    if (logits)
        s->full[s->n_full++] = s->n_rows;
    s->tokens[s->n_rows] = token;
    s->rows[s->n_rows++] = (struct row){&q->kv, pos};
    q->n_rows++;
}

/* Decoding sequences first, so that a long prompt delays them by one chunk at most. */
static void plan(struct scheduler *s)
{
    int room = s->prompt_chunk;
    s->n_rows = s->n_full = 0;
    for (int i = 0; i < s->max_sequences; i++) {
        struct sequence *q = &s->sequences[i];
        q->n_rows = 0;
        q->first_row = s->n_rows;
        q->first_full = s->n_full;
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
        q->first_full = s->n_full;
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
    s->heads->verify(lane, &pass, s->head_work, s->z, s->full, s->n_full, s->h);
    model_logits(lane, &s->model, 0, s->h, s->n_full, s->normed, s->logits);
}

static void draft_head(struct lane *lane, struct scheduler *s, struct head_work *work, int i)
{
    struct pass pass = {&s->model, s->committed, s->n_committed, attend_cached, NULL};
    size_t dim = (size_t)s->model.config.dim;
    size_t row = (size_t)(i - 1) * (size_t)s->draft_count[0];
    int n = s->draft_count[i];
    s->heads->draft(lane, &pass, work, i, s->z_committed, s->draft_full, n, s->h + row * dim);
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
    int drafted = q->n_drafts, accepted = 0;
    for (int j = 0;; j++) {
        int32_t token = choose(s, q, logits + (size_t)j * stride, q->n_tokens);
        commit(s, q, token, logits + (size_t)j * stride);
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

/* How many drafts the next step of a sequence may verify. */
static int drafts_wanted(const struct sequence *q)
{
    int room = q->limit - q->n_tokens - 1; /* the step commits one token without drafts */
    if (q->finish || reading(q))
        return 0;
    return q->drafts_max < room ? q->drafts_max : room < 0 ? 0 : room;
}

/* Collects the rows that were committed in this step, and where each sequence drafts. */
static void plan_drafts(struct scheduler *s)
{
    size_t dim = (size_t)s->model.config.dim;
    int n_slots = 0;
    s->n_committed = s->draft_heads = 0;
    memset(s->draft_count, 0, HEADS_MAX * sizeof *s->draft_count);
    for (int i = 0; i < s->max_sequences; i++) {
        struct sequence *q = &s->sequences[i];
        if (!q->n_rows || q->finish || !q->drafts_max)
            continue;
        int last = q->n_cached - 1; /* position of the last committed row */
        for (int r = q->first_row; r < q->first_row + q->n_rows && s->rows[r].pos <= last; r++) {
            memcpy(s->z_committed + (size_t)s->n_committed * dim, s->z + (size_t)r * dim,
                   dim * sizeof(float));
            s->committed[s->n_committed++] = s->rows[r];
        }
        if (s->draft_heads < q->drafts_max)
            s->draft_heads = q->drafts_max;
        q->n_drafts = drafts_wanted(q);
        if (q->n_drafts) {
            s->draft_slot[n_slots] = i;
            s->draft_full[n_slots++] = s->n_committed - 1;
        }
    }
    s->draft_count[0] = n_slots;
}

/* Head i drafts for all sequences that draft at all, wanted or not: the rows of each head must be
 * part of those of the head before, and equal ones keep the logits in one grid (head, sequence). */
static void draft(struct scheduler *s)
{
    size_t stride = model_logits_stride(&s->model);
    int n = s->draft_count[0], most = 0;
    for (int j = 0; j < n; j++)
        if (most < s->sequences[s->draft_slot[j]].n_drafts)
            most = s->sequences[s->draft_slot[j]].n_drafts;
    for (int i = 1; i <= s->draft_heads; i++)
        s->draft_count[i] = i <= most ? n : 0;
    if (!s->n_committed)
        return;
    team_run(&s->team, draft_lane, s);
    for (int i = 1; i <= most; i++)
        for (int j = 0; j < n; j++) {
            struct sequence *q = &s->sequences[s->draft_slot[j]];
            const float *logits = s->logits + (size_t)((i - 1) * n + j) * stride;
            if (i <= q->n_drafts)
                q->drafts[i - 1] = choose(s, q, logits, q->n_tokens + i - 1);
        }
}

bool scheduler_step(struct scheduler *s)
{
    plan(s);
    if (!s->n_rows)
        return false;
    double start = clock_seconds();
    team_run(&s->team, verify_lane, s);
    verify_all(s);
    plan_drafts(s);
    draft(s);
    s->forwards++;
    s->step_seconds += clock_seconds() - start;
    return true;
}
