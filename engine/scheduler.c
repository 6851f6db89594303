/* The scheduler's memory, the slots, and the order of a step. */
#include "engine/scheduler.h"

#include <string.h>

#include "base/clock.h"
#include "engine/warmup.h"

#define PROMPT_CHUNK                                                                               \
    256 /* prompt rows per step, when nobody says: docs/speed.md, prompts of 512                   \
         */

/* From so many tokens on it takes longer to choose one than lanes take to meet: 16,384 logits are
 * 64 KiB, some microseconds to read, against 0.2 for a barrier. */
#define SPREAD_VOCAB 16384

/* ---- memory ---- */

/* Rows of a step: all sequences with their drafts, and one chunk of prompt. */
static int most_rows(const struct scheduler *s)
{
    int drafts = s->at_once * DRAFTS_MAX;
    return s->at_once + (drafts < STEP_DRAFTS ? drafts : STEP_DRAFTS) + s->prompt_chunk;
}

/* Rows of logits: those that are verified and, of prompts, the last or those that were asked for;
 * or those of all heads' drafts. */
static size_t most_logits(const struct scheduler *s)
{
    int prompt = s->prompt_chunk < STEP_PROMPT_LOGPROBS ? s->prompt_chunk : STEP_PROMPT_LOGPROBS;
    int verified = most_rows(s) - s->prompt_chunk + s->at_once + prompt;
    int drafted = s->at_once * (s->runtime->model.config.n_predict - 1);
    return (size_t)(verified > drafted ? verified : drafted);
}

static void take_step(struct scheduler *s)
{
    struct arena *a = &s->arena;
    struct step *p = &s->step;
    const struct config *c = &s->runtime->model.config;
    size_t rows = (size_t)s->max_rows, dim = (size_t)c->dim, slots = (size_t)s->max_sequences;
    size_t states = (size_t)head_states(c), logits = most_logits(s);
    size_t hidden = rows > logits ? rows : logits;
    p->rows = arena_take(a, rows, sizeof *p->rows);
    p->committed = arena_take(a, rows, sizeof *p->committed);
    p->tokens = arena_take(a, rows, sizeof *p->tokens);
    p->out_rows = arena_take(a, rows, sizeof *p->out_rows);
    p->slots = arena_take(a, slots, sizeof *p->slots);
    p->committed_from = arena_take(a, rows, sizeof *p->committed_from);
    p->committed_next = arena_take(a, rows, sizeof *p->committed_next);
    p->draft_rows = arena_take(a, slots, sizeof *p->draft_rows);
    p->draft_slot = arena_take(a, slots, sizeof *p->draft_slot);
    p->draft_tokens = arena_take(a, slots, sizeof *p->draft_tokens);
    p->z = arena_take(a, states * rows * dim, sizeof(float));
    p->z_committed = arena_take(a, states * rows * dim, sizeof(float));
    p->h = arena_take(a, hidden * dim, sizeof(float));
    p->normed = arena_take(a, hidden * dim, sizeof(float));
    p->logits = arena_take(a, logits * model_logits_stride(&s->runtime->model), sizeof(float));
    p->few = arena_take(a, slots, sizeof *p->few);
    p->previous = arena_take(a, c->bigram ? slots * 2 * dim : 0, sizeof(float));
    block_acts_take(&p->acts, a, c, s->max_rows, false);
    int works = s->lanes_take_heads ? s->runtime->team.n : 1;
    p->head_work = arena_take(a, (size_t)works, sizeof *p->head_work);
    for (int i = 0; i < works; i++) {
        struct head_work work;
        head_work_take(&work, a, c, s->max_rows);
        if (a->base)
            p->head_work[i] = work;
    }
}

static void take(struct scheduler *s)
{
    struct arena *a = &s->arena;
    int lanes = s->runtime->team.n, vocab = s->runtime->model.config.vocab;
    s->sequences = arena_take(a, (size_t)s->max_sequences, sizeof *s->sequences);
    s->by_age = arena_take(a, (size_t)s->max_sequences, sizeof *s->by_age);
    s->wishes = arena_take(a, (size_t)s->max_sequences, sizeof *s->wishes);
    s->wished = arena_take(a, (size_t)s->max_sequences, sizeof *s->wished);
    s->sample_alone = arena_take(a, (size_t)lanes, sizeof *s->sample_alone);
    sampler_work_take(&s->sample_together, a, vocab, lanes);
    for (int i = 0; i < lanes; i++) {
        struct sampler_work work;
        sampler_work_take(&work, a, vocab, 1);
        if (a->base)
            s->sample_alone[i] = work;
    }
    for (int i = 0; i < s->max_sequences; i++) {
        struct sequence q = {0};
        sequence_take(&q, a, s->context);
        if (a->base)
            s->sequences[i] = q;
    }
    take_step(s);
}

/* Pages of the pool. Without a limit: what all sequences can use, but at most half of the memory
 * that is left. */
static int pool_pages(const struct scheduler *s, size_t limit, enum weight_type kv, int *pages,
                      struct err *err)
{
    const struct model *m = &s->runtime->model;
    size_t page = KV_PAGE * kv_position_bytes(&m->config, m->n_blocks ? m->n_blocks : 1, kv);
    size_t one = (size_t)kv_pages(s->context), all = one * (size_t)s->at_once;
    size_t some = (limit ? limit : mem_available() / 2) / page;
    if (limit && some < one)
        return err_set(
            err, ERR_INVALID,
            "keys and values may take %zu MiB, but a sequence of %d positions takes %zu: "
            "allow more, or use a shorter context",
            limit >> 20, s->context, (one * page + ((size_t)1 << 20) - 1) >> 20);
    some = some < one ? one : some;
    *pages = (int)(some < all ? some : all);
    return 0;
}

static int init_sequences(struct scheduler *s, struct err *err)
{
    int rc = 0;
    for (int i = 0; i < s->max_sequences && !rc; i++) {
        rc = kv_init(&s->sequences[i].kv, &s->pool, s->context + DRAFTS_MAX + 1, err);
        if (!rc)
            rc = lookup_init(&s->sequences[i].lookup, s->context, err);
    }
    return rc;
}

int scheduler_init(struct scheduler *s, struct runtime *runtime, const struct scheduler_options *o,
                   struct err *err)
{
    enum weight_type kv;
    int pages = 0, rc = kv_type_parse(o->kv, &kv, err);
    *s = (struct scheduler){.runtime = runtime};
    if (rc)
        return rc;
    const struct model *m = &runtime->model;
    const struct config *c = &m->config;
    s->context = o->context > 0 ? o->context : c->context;
    s->at_once = o->max_sequences > 0 ? o->max_sequences : SCHEDULER_SEQUENCES;
    s->max_sequences = s->at_once + o->spare;
    s->prompt_chunk = o->prompt_chunk > 0 ? o->prompt_chunk : PROMPT_CHUNK;
    s->max_rows = most_rows(s);
    s->heads = head_type(c->kind);
    s->caches = heads_cached(c);
    for (int i = 0; i < COST_BATCHES; i++)
        s->heads_used[i].part = 1; /* until more is known */
    s->shared = s->caches && (!s->heads->cached || head_kind_tensors(c->kind) == HEAD_SHARED);
    s->settled_blocks = s->heads->all_verify ? m->n_blocks
                        : c->next_is_trunk   ? c->n_layers
                                             : c->n_layers + config_head_blocks(c);
    /* Layers of heads enough for all: whole heads cost a lane no barriers. */
    s->lanes_take_heads = s->heads->independent && s->heads->cached && runtime->team.n > 1 &&
                          c->n_predict - 1 >= 2 * runtime->team.n;
    rc = pool_pages(s, o->kv_limit, kv, &pages, err);
    if (!rc)
        rc = kv_pool_init(&s->pool, c, m->n_blocks, pages, kv, err);
    if (!rc)
        rc = prefix_init(&s->prefix, &s->pool, o->kv_kept, err);
    if (rc)
        return rc;
    take(s);
    rc = arena_init(&s->arena, err);
    if (!rc) {
        take(s);
        rc = init_sequences(s, err);
    }
    if (!rc)
        rc = speculate_init(&s->speculate, s->max_sequences, err);
    costs_init(&s->costs);
    draft_rates_init(&s->rates, NULL);
    if (rc)
        scheduler_release(s);
    else
        warmup(s);
    return rc;
}

void scheduler_release(struct scheduler *s)
{
    for (int i = 0; s->arena.base && i < s->max_sequences; i++)
        sequence_release(&s->sequences[i]);
    speculate_release(&s->speculate);
    prefix_release(&s->prefix);
    for (int i = 0; i < SCHEDULER_GRAMMARS; i++)
        automaton_release(s->grammars[i]);
    token_trie_release(&s->trie);
    kv_pool_release(&s->pool);
    arena_release(&s->arena);
    memset(s, 0, sizeof *s);
}

/* ---- slots ---- */

int scheduler_running(const struct scheduler *s, int *preempted)
{
    int n = 0;
    *preempted = 0;
    for (int i = 0; i < s->max_sequences; i++) {
        n += s->sequences[i].active;
        *preempted += s->sequences[i].active && s->sequences[i].preempted;
    }
    return n;
}

static bool takes_turns(const struct sequence *q)
{
    return q->active && !q->paused;
}

/* Those that take turns, and of them those that wait for pages. What rests keeps nobody out: for
 * the next one it gives its pages up. */
static int running_now(struct scheduler *s, int *preempted, int pages)
{
    int n = 0;
    *preempted = 0;
    for (int i = 0; i < s->max_sequences; i++) {
        struct sequence *q = &s->sequences[i];
        if (q->active && q->paused && q->kv.n_pages && pages > s->pool.n_free + s->pool.n_idle)
            plan_give_up(s, q);
        n += takes_turns(q);
        *preempted += takes_turns(q) && q->preempted;
    }
    return n;
}

/* Sequences that have their turn before the next one of a client. */
static int before_next(const struct scheduler *s, uint64_t client)
{
    int own = 0, before = 0;
    for (int i = 0; i < s->max_sequences; i++)
        own += takes_turns(&s->sequences[i]) && s->sequences[i].client == client;
    for (int i = 0; i < s->max_sequences; i++) {
        const struct sequence *q = &s->sequences[i];
        int turn = 0;
        for (int j = 0; takes_turns(q) && q->client != client && j < s->max_sequences; j++) {
            const struct sequence *o = &s->sequences[j];
            turn += takes_turns(o) && o->client == q->client && o->age < q->age;
        }
        before += takes_turns(q) && (q->client == client || turn <= own);
    }
    return before;
}

/* One of the last grammars where it is the same, so that its masks are there. */
static const struct automaton *find_grammar(struct scheduler *s, const struct automaton *grammar)
{
    const struct automaton **oldest = &s->grammars[s->oldest_grammar];
    for (int i = 0; i < SCHEDULER_GRAMMARS; i++)
        if (s->grammars[i] && automaton_same(s->grammars[i], grammar))
            return s->grammars[i];
    s->oldest_grammar = (s->oldest_grammar + 1) % SCHEDULER_GRAMMARS;
    automaton_release(*oldest);
    return *oldest = automaton_retain(grammar);
}

int scheduler_add(struct scheduler *s, const struct engine_request *r, struct err *err)
{
    int slot = 0, preempted, pages = kv_pages((int)r->n_tokens + 1);
    int running = running_now(s, &preempted, pages);
    while (slot < s->max_sequences && s->sequences[slot].active)
        slot++;
    if (slot == s->max_sequences)
        return err_set(err, ERR_BUSY, "all %d sequences are in use: try again later", slot);
    if (running >= s->at_once && before_next(s, r->client) >= s->at_once)
        return err_set(err, ERR_BUSY, "%d sequences are running: try again later", running);
    if (preempted || (running && pages > s->pool.n_free + s->pool.n_idle))
        return err_set(err, ERR_BUSY, "no memory for its keys and values now: try again later");
    struct sequence *q = &s->sequences[slot];
    struct engine_request request = *r;
    int rc =
        r->grammar && !s->trie.nodes ? token_trie_init(&s->trie, s->runtime->tokenizer, err) : 0;
    if (r->grammar)
        request.grammar = find_grammar(s, r->grammar);
    if (!rc)
        rc = sequence_start(q, &request, &s->runtime->model.config, s->runtime->tokenizer, &s->trie,
                            s->context, err);
    if (rc)
        return rc;
    q->age = s->admitted++;
    draft_rates_init(&q->rates, &s->rates);
    draft_begin(s, q, running < s->at_once ? running + 1 : s->at_once);
    return slot;
}

void scheduler_remove(struct scheduler *s, int slot)
{
    struct sequence *q = &s->sequences[slot];
    prefix_touch(&s->prefix, &q->kv, q->n_known);
    sequence_end(q);
    prefix_trim(&s->prefix);
}

/* ---- the step ---- */

void scheduler_each(struct lane *lane, struct scheduler *s, const int *slots, int n,
                    sequence_fn *fn)
{
    bool spread = lane->n > 1 && s->runtime->model.config.vocab >= SPREAD_VOCAB;
    struct lane only = lane_alone(lane);
    if (spread && n < 2 * lane->n) {
        for (int i = 0; i < n; i++)
            fn(lane, s, &s->sequences[slots[i]], &s->sample_together, i);
        return;
    }
    for (int i = lane->id; i < n && (spread || lane->id == 0); i += spread ? lane->n : 1)
        fn(&only, s, &s->sequences[slots[i]], &s->sample_alone[lane->id], i);
}

/* The pages that a step has filled are there for others. */
static void remember(struct scheduler *s, struct sequence *q)
{
    int settled = q->n_cached;
    /* Behind an end nothing is moved into place, and heads do not run. */
    if (q->finish && (q->n_committed || q->heads_kept))
        settled -= q->n_committed ? q->n_committed : q->n_rows;
    for (; (q->n_known + 1) * KV_PAGE <= settled; q->n_known++)
        prefix_add(&s->prefix, &q->kv, q->n_known, q->salt, q->heads_kept,
                   q->tokens + q->n_known * KV_PAGE);
}

static void count_batch(struct scheduler *s, int n)
{
    int i = 0;
    while (i < ENGINE_BATCHES - 1 && n > 1 << i)
        i++;
    s->batches[i]++;
    s->batched += (uint64_t)n;
}

/* What the step would have taken without drafts, for each token that a sequence got: as much
 * besides pass and drafts, and of these the part that is expected of a pass with so many rows
 * fewer: whatever disturbs the machine just now would disturb it too. */
static double plain_step(const struct scheduler *s, double seconds)
{
    const struct step *p = &s->step;
    const struct costs *c = &s->costs;
    double took = p->pass_seconds + p->draft_seconds, attended = p->attended;
    int drafts = 0;
    for (int i = 0; i < p->n_slots; i++) {
        const struct sequence *q = &s->sequences[p->slots[i]];
        if (!q->n_committed)
            continue;
        drafts += q->n_rows - 1;
        attended -= (double)(q->n_rows - 1) * q->n_before;
    }
    double pass = costs_pass(c, p->n_rows, p->attended, false);
    double draft =
        p->n_drafting ? costs_draft(c, p->heads_choose, p->n_drafting, false) : p->draft_seconds;
    double plain = drafts ? costs_pass(c, p->n_rows - drafts, attended, false) : pass;
    return seconds - took + took * plain / (pass + draft);
}

static void note_times(struct scheduler *s, double seconds)
{
    double plain = plain_step(s, seconds);
    for (int i = 0; i < s->step.n_slots; i++) {
        struct sequence *q = &s->sequences[s->step.slots[i]];
        if (!q->n_committed)
            continue;
        q->decode_seconds += seconds;
        q->plain_seconds += plain * (q->n_tokens - q->n_before);
    }
}

bool scheduler_step(struct scheduler *s)
{
    double start = clock_seconds();
    plan_step(s);
    if (!s->step.n_rows)
        return false;
    verify_step(s);
    draft_step(s);
    for (int i = 0; i < s->step.n_slots; i++)
        remember(s, &s->sequences[s->step.slots[i]]);
    s->forwards++;
    count_batch(s, s->step.n_slots);
    double seconds = clock_seconds() - start;
    s->step_seconds += seconds;
    note_times(s, seconds);
    return true;
}
