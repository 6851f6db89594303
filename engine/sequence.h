/* One request being decoded: its tokens, its place in the cache, its sampler, its drafts, and what
 * it has to tell its owner. The scheduler owns all sequences; in a step one lane at a time works on
 * a sequence. */
#ifndef ENGINE_SEQUENCE_H
#define ENGINE_SEQUENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "engine/lookup.h"
#include "engine/proposal.h"
#include "engine/sampler.h"
#include "engine/rates.h"
#include "engine/text.h"
#include "heads/heads.h"
#include "model/kv.h"
#include "text/tokenizer.h"

struct sequence {
    bool active;
    uint64_t age; /* sequences admitted before it: older ones get pages first */
    uint64_t client;
    int turn;     /* older ones of its client that run */
    bool in_turn; /* it runs in this step */
    enum engine_alone alone;

    /* the text: committed tokens x_1..x_t */
    int32_t *tokens; /* (context) prompt, then what was generated */
    int n_prompt, n_tokens;
    int limit; /* n_tokens at which the text ends: max_tokens or the context */
    struct sampler sampler;
    struct text text;
    char *stop_bytes; /* copies of the stop strings, one after another */
    const char *stops[ENGINE_STOPS_MAX];
    size_t stop_lens[ENGINE_STOPS_MAX];
    int32_t stop_tokens[ENGINE_STOP_TOKENS_MAX];
    int n_stop_tokens;
    bool ignore_eos, logprobs, prompt_logprobs;
    int min_tokens, top_logprobs;
    enum engine_finish finish;
    char fault[128]; /* with FINISH_ERROR, else "" */

    /* the cache: keys and values of the first n_cached tokens, x_1..x_(t-1) while it decodes */
    struct kv kv;
    int n_cached;
    int n_known;     /* pages that the prefix cache knows */
    int reused;      /* prompt tokens that it had already, -1 before the first are read */
    uint64_t salt;   /* of the texts with which pages may be shared */
    int prefill_end; /* tokens before this one are read in chunks: the prompt, or, after a
                        preemption, all but the last */
    bool begun;      /* the prompt was read, and behind it the first token chosen */
    bool paused;     /* its reader has enough for now */
    bool preempted;  /* gave its pages away and waits until it may be read again */

    /* speculation */
    int speculation; /* as in engine_request */
    unsigned drafters;
    int heads_kept; /* heads 1..heads_kept have seen every committed token (heads with caches) */
    int used, patience; /* most heads used in the last steps; how many steps those are */
    struct draft_rates rates;
    struct lookup lookup;
    struct proposal proposal;     /* what the next step verifies */
    struct shape shape;           /* how the proposal is to look, once the heads have drafted */
    int ranks;                    /* candidates wanted of each head */
    struct candidates candidates; /* what was drafted last */
    struct engine_speculation figures;
    size_t forwards;
    double decode_seconds, plain_seconds; /* as in engine_event */

    /* this step */
    int32_t chosen[DRAFT_RANKS]; /* by the sampler, for all lanes */
    const uint64_t *allowed;     /* for all lanes, what may be chosen; NULL: anything */
    int n_before;                /* n_tokens before it */
    int n_allotted;              /* rows it may have */
    int first_row, n_rows;
    int first_out;                         /* where its rows begin among the output rows */
    int path[ENGINE_DRAFTS_MAX], accepted; /* nodes of the proposal that were accepted, in order */
    int committed[ENGINE_DRAFTS_MAX + 1];  /* rows that stay, when it decodes */
    int n_committed;

    /* news for the owner, cleared by sequence_collected */
    struct buf out;
    struct engine_token fresh[ENGINE_DRAFTS_MAX + 1];
    int n_fresh;
    struct engine_token *prompt; /* (n_prompt) with prompt_logprobs */
    bool prompt_ready;
};

/* The arrays of a sequence of up to `context` tokens, out of an arena. */
void sequence_take(struct sequence *q, struct arena *arena, int context);

/* Begins with a checked request. The pages are the scheduler's business; `trie` is for requests
 * with a grammar. ERR_MEMORY. */
int sequence_start(struct sequence *q, const struct engine_request *request,
                   const struct config *config, const struct tokenizer *tokenizer,
                   const struct token_trie *trie, int context, struct err *err);
/* Ends it, finished or not, and leaves its pages to others. */
void sequence_end(struct sequence *q);
/* Memory that outlives requests. */
void sequence_release(struct sequence *q);

/* Tokens are read in chunks still. */
static inline bool sequence_prefills(const struct sequence *q)
{
    return q->n_cached < q->prefill_end;
}

/* sampler_allowed, by the lanes that look at the sequence together. */
const uint64_t *sequence_allowed(struct lane *lane, struct sequence *q);

/* Commits a sampled token: adds it, and its bytes to the text, which may end. logits: of the row it
 * was drawn from (V). */
void sequence_commit(struct sequence *q, const struct tokenizer *tokenizer, int vocab,
                     int32_t token, const float *logits);

/* No token may come next: the text ends with a fault. */
void sequence_stuck(struct sequence *q);

/* Gives its pages away: all its tokens will be read again. */
void sequence_preempt(struct sequence *q);

/* The owner has taken the news. */
void sequence_collected(struct sequence *q);

#endif
