/* The scheduler's memory, and the life of a sequence in its slot. The step itself is step.c. */
#include "engine/scheduler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/step.h"

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
    size_t states = (size_t)head_states(c);
    s->sequences = arena_take(a, slots, sizeof *s->sequences);
    s->wishes = arena_take(a, slots, sizeof *s->wishes);
    s->rows = arena_take(a, rows, sizeof *s->rows);
    s->committed = arena_take(a, rows, sizeof *s->committed);
    s->tokens = arena_take(a, rows, sizeof *s->tokens);
    s->full = arena_take(a, rows, sizeof *s->full);
    s->committed_from = arena_take(a, rows, sizeof *s->committed_from);
    s->draft_full = arena_take(a, slots, sizeof *s->draft_full);
    s->draft_slot = arena_take(a, slots, sizeof *s->draft_slot);
    s->draft_count = arena_take(a, HEADS_MAX, sizeof *s->draft_count);
    s->z = arena_take(a, states * rows * dim, sizeof(float));
    s->z_committed = arena_take(a, states * rows * dim, sizeof(float));
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
    enum weight_type kv = WEIGHT_F32;
    int weights, rc = kernels_init(o->isa, err);
    if (!rc)
        rc = weight_type_parse(o->weights ? o->weights : "stored", &weights, err);
    if (!rc)
        rc = kv_type_parse(o->kv, &kv, err);
    if (!rc)
        rc = model_open(&s->model, o->model, weights, o->context, err);
    if (rc)
        return rc;
    const struct config *c = &s->model.config;
    s->context = o->context > 0 ? o->context : c->context;
    s->max_sequences = o->max_sequences > 0 ? o->max_sequences : 16;
    s->prompt_chunk = o->prompt_chunk > 0 ? o->prompt_chunk : PROMPT_CHUNK;
    s->max_rows = most_rows(s);
    s->heads = head_type(c->kind);
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
        rc = kv_init(&s->sequences[i].kv, c, s->model.n_blocks, s->context, kv, err);
    if (!rc)
        rc = speculate_init(&s->speculate, s->max_sequences, err);
    if (!rc) {
        draft_rates_init(&s->rates, NULL);
        costs_init(&s->costs);
        step_measure_costs(s);
    } else {
        scheduler_release(s);
    }
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
    speculate_release(&s->speculate);
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
    q->automatic = r->speculation == SPECULATION_AUTO;
    q->used = q->patience = 0;
    draft_rates_init(&q->rates, &s->rates);
    q->drafted.heads = q->drafted.n_lookup = 0;
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
    q->text.held.failed = q->out.failed =
        false; /* the sequence before may have run out of memory */
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
