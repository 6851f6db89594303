/* The life of a sequence. */
#include "engine/sequence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/logprobs.h"

void sequence_take(struct sequence *q, struct arena *arena, int context)
{
    q->tokens = arena_take(arena, (size_t)context, sizeof *q->tokens);
    q->stop_bytes = arena_take(arena, ENGINE_STOPS_MAX * ENGINE_STOP_BYTES_MAX, 1);
}

static void copy_stops(struct sequence *q, const struct engine_request *r)
{
    char *to = q->stop_bytes;
    for (int i = 0; i < r->n_stops; i++) {
        q->stops[i] = memcpy(to, r->stops[i], r->stop_lens[i]);
        q->stop_lens[i] = r->stop_lens[i];
        to += r->stop_lens[i];
    }
    q->text.stops = q->stops;
    q->text.stop_lens = q->stop_lens;
    q->text.n_stops = r->n_stops;
    q->text.include_stop = r->include_stop;
    q->text.stop = 0;
    q->text.held.len = q->out.len = 0;
    q->text.held.failed = q->out.failed = false; /* the one before may have run out of memory */
}

int sequence_start(struct sequence *q, const struct engine_request *r, const struct config *c,
                   const struct tokenizer *tokenizer, const struct token_trie *trie, int context,
                   struct err *err)
{
    int n_ends;
    const int32_t *ends = tokenizer_ends(tokenizer, &n_ends);
    q->prompt = r->prompt_logprobs ? calloc(r->n_tokens, sizeof *q->prompt) : NULL;
    if (r->prompt_logprobs && !q->prompt)
        return err_set(err, ERR_MEMORY, "no memory for the log-probabilities of %zu prompt tokens",
                       r->n_tokens);
    int rc = sampler_init(&q->sampler, r, c->vocab, ends, n_ends, trie, err);
    if (rc) {
        free(q->prompt);
        q->prompt = NULL;
        return rc;
    }
    q->active = true;
    q->client = r->client;
    q->alone = r->alone;
    memcpy(q->tokens, r->tokens, r->n_tokens * sizeof *r->tokens);
    q->n_prompt = q->n_tokens = q->prefill_end = (int)r->n_tokens;
    q->limit = context - q->n_prompt < r->max_tokens ? context : q->n_prompt + r->max_tokens;
    q->n_cached = q->n_known = q->n_fresh = q->n_rows = q->n_committed = 0;
    q->reused = -1;
    q->salt = r->prefix_salt;
    q->candidates.heads = 0;
    q->preempted = q->begun = q->paused = false;
    q->proposal.n = 0;
    /* The first token follows from the prompt, and a step brings one without drafts. */
    q->speculation = q->limit - q->n_prompt > 2 ? r->speculation : 0;
    q->drafters = r->drafters;
    q->heads_kept = q->speculation ? c->n_predict - 1 : 0;
    q->used = q->patience = 0;
    q->ignore_eos = r->ignore_eos;
    q->min_tokens = r->min_tokens;
    q->logprobs = r->logprobs || r->top_logprobs;
    q->top_logprobs = r->top_logprobs;
    q->prompt_logprobs = r->prompt_logprobs;
    copy_stops(q, r);
    q->n_stop_tokens = r->n_stop_tokens;
    if (r->n_stop_tokens)
        memcpy(q->stop_tokens, r->stop_tokens, (size_t)r->n_stop_tokens * sizeof *r->stop_tokens);
    q->forwards = 0;
    q->decode_seconds = q->plain_seconds = 0;
    q->prompt_ready = false;
    q->finish = FINISH_NONE;
    q->fault[0] = '\0';
    memset(&q->figures, 0, sizeof q->figures);
    lookup_reset(&q->lookup);
    for (int i = 0; i < q->n_prompt && q->speculation; i++)
        lookup_append(&q->lookup, q->tokens[i]);
    return 0;
}

void sequence_end(struct sequence *q)
{
    if (!q->active)
        return;
    kv_truncate(&q->kv, 0);
    sampler_release(&q->sampler);
    free(q->prompt);
    q->prompt = NULL;
    q->active = false;
}

void sequence_release(struct sequence *q)
{
    sequence_end(q);
    buf_release(&q->out);
    text_release(&q->text);
    lookup_release(&q->lookup);
    kv_release(&q->kv);
}

static bool is_eos(const struct tokenizer *tokenizer, int32_t token)
{
    int n;
    const int32_t *ends = tokenizer_ends(tokenizer, &n);
    for (int i = 0; i < n; i++)
        if (ends[i] == token)
            return true;
    return false;
}

/* Whether the text ends with a token, which is not part of it. */
static bool is_end(const struct sequence *q, const struct tokenizer *tokenizer, int32_t token)
{
    for (int i = 0; i < q->n_stop_tokens; i++)
        if (q->stop_tokens[i] == token)
            return true;
    return !q->ignore_eos && is_eos(tokenizer, token);
}

const uint64_t *sequence_allowed(struct lane *lane, struct sequence *q)
{
    if (!q->sampler.matcher)
        return NULL;
    if (lane->id == 0)
        q->allowed = sampler_allowed(&q->sampler);
    lane_barrier(lane);
    return q->allowed;
}

void sequence_commit(struct sequence *q, const struct tokenizer *tokenizer, int vocab,
                     int32_t token, const float *logits)
{
    size_t len;
    const char *bytes = tokenizer_bytes(tokenizer, q->tokens[q->n_tokens - 1], token, &len);
    struct engine_token *t = &q->fresh[q->n_fresh++];
    t->origin = (struct engine_origin){0};
    bool early = q->n_tokens - q->n_prompt < q->min_tokens;
    if (q->logprobs)
        logprobs_describe(logits, vocab, token, q->top_logprobs, t);
    else
        logprobs_none(token, t);
    q->tokens[q->n_tokens++] = token;
    sampler_push(&q->sampler, token);
    if (q->speculation)
        lookup_append(&q->lookup, token);
    const struct matcher *matcher = q->sampler.matcher; /* has seen min_tokens and ignore_eos */
    if ((!early && is_end(q, tokenizer, token)) || (matcher && is_eos(tokenizer, token))) {
        q->finish = FINISH_STOP;
        text_end(&q->text, &q->out);
    } else if (text_add(&q->text, bytes, len, q->n_tokens - q->n_prompt < q->min_tokens, &q->out)) {
        q->finish = FINISH_STOP;
    } else if (matcher && matcher_complete(matcher)) {
        q->finish = FINISH_STOP;
        text_end(&q->text, &q->out);
    } else if (q->n_tokens >= q->limit) {
        q->finish = FINISH_LENGTH;
        text_end(&q->text, &q->out);
    }
}

void sequence_stuck(struct sequence *q)
{
    q->finish = FINISH_ERROR;
    if (q->sampler.matcher && q->sampler.matcher->failed)
        snprintf(q->fault, sizeof q->fault, "the text's structure %s", q->sampler.matcher->failed);
    else
        snprintf(q->fault, sizeof q->fault,
                 "no token of the model may come next, by the text's structure and the tokens that "
                 "the request leaves out");
    text_end(&q->text, &q->out);
}

void sequence_preempt(struct sequence *q)
{
    kv_truncate(&q->kv, 0);
    q->n_cached = q->n_known = 0;
    q->proposal.n = 0;
    /* The last token of an answer is a row of its own, whose logits choose the next; behind the
     * last of a prompt that choice is still to be made. */
    q->prefill_end = q->begun ? q->n_tokens - 1 : q->n_prompt;
    q->preempted = true;
}

void sequence_collected(struct sequence *q)
{
    q->n_fresh = 0;
    q->out.len = 0;
    q->prompt_ready = false;
}
