/* The sampler: which token follows a row of logits. It is a cursor over one sequence: it knows the
 * request's settings and the tokens so far, goes on with push and back with pop. A choice is a
 * function of the logits, the settings, the tokens before it, and noise that depends on (seed,
 * position, token) alone, so it is the same with and without speculation.
 *
 * Draws use the Gumbel-max trick: the token with the largest logit/temperature + Gumbel noise is a
 * draw from the softmax. A draft head that sees the same noise guesses the same token whenever its
 * distribution is close, which is what makes drafts useful above temperature 0.
 *
 * Scores: the logit, NaN as -infinity; for tokens of the prompt or generated, over
 * repetition_penalty where above 0, else times it; less frequency_penalty times the count and
 * presence_penalty for generated ones; plus logit_bias. What is left of them, best first and ties
 * in the order of tokens: those whose probability relative to the best is at least min_p, of these
 * the first top_k, of these the fewest that have top_p of the probability. Results are the same
 * bits with any number of lanes and on every kernel path. */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "engine/bans.h"
#include "engine/engine.h"
#include "model/kernels/kernels.h"
#include "model/team.h"
#include "text/matcher.h"

#define SAMPLER_RANKS_MAX 8
#define SAMPLER_ENDS_MAX (32 + ENGINE_STOP_TOKENS_MAX)

struct sampler {
    float temperature, top_p, min_p;
    int top_k;
    float frequency_penalty, presence_penalty, repetition_penalty;
    uint64_t seed;
    struct engine_bias biases[ENGINE_BIAS_MAX];
    int n_biases;
    int32_t ends[SAMPLER_ENDS_MAX];
    int n_ends;
    int min_tokens;
    int n_prompt, n_pushed;
    struct bans *bans;       /* NULL: all tokens may follow */
    struct matcher *matcher; /* of the request's grammar, NULL without one */
    /* With penalties, else NULL: */
    int32_t *uses;   /* (V) twice how often a token was pushed, plus 1 for those of the prompt */
    int32_t *listed; /* (V) the tokens whose uses are not 0; those of the prompt first */
    int n_listed;
};

/* Takes the settings of a request that engine_submit has checked, and its prompt. `ends`: end
 * tokens, n_ends at most 32, copied; they and the request's stop tokens are banned until min_tokens
 * were pushed. trie: of the vocabulary, for requests with a grammar. ERR_MEMORY, only with
 * penalties, bans or a grammar. */
int sampler_init(struct sampler *sampler, const struct engine_request *request, int vocab,
                 const int32_t *ends, int n_ends, const struct token_trie *trie, struct err *err);
void sampler_release(struct sampler *sampler);

/* A generated token, or a draft on the path that is looked at. */
void sampler_push(struct sampler *sampler, int32_t token);
/* Takes back the last push, which was `token`. */
void sampler_pop(struct sampler *sampler, int32_t token);

/* The tokens that the request's grammar allows next, for sampler_sample; NULL without a grammar. By
 * one lane, valid until the next push, pop or call. */
const uint64_t *sampler_allowed(struct sampler *sampler);

/* Working memory of a team for one row at a time. */
struct sampler_work {
    float *row;    /* (V) a masked copy of the logits */
    float *maxima; /* (V / SAMPLE_BLOCK) */
    struct sampler_undo *undo;
    struct sampler_lane *lanes;
};
void sampler_work_take(struct sampler_work *work, struct arena *arena, int vocab, int lanes);

/* The `n` best next tokens of a row, 1..SAMPLER_RANKS_MAX, best first: tokens[0] is the choice, the
 * others are what would be chosen without those before them. Returns how many: fewer than n where
 * the rest is cut or -infinity. When nothing is above -infinity, that is the lowest token that may
 * follow; ends that are all that `allowed` allows are not banned; 0 when nothing is allowed.
 *
 * All lanes of lane->team call it together, with the same arguments; tokens are written by lane 0
 * before a barrier at the end. The row's position is the number of tokens so far.
 *
 * logits: n_logits floats, readable up to a multiple of 16; written to, but the same on return.
 * ids: NULL, or for a draft vocabulary the tokens that the logits stand for, rising; all else goes
 * by token. allowed: a bit per token of the vocabulary, or NULL. */
int sampler_sample(struct lane *lane, const struct sampler *sampler, float *logits, int n_logits,
                   const int32_t *ids, const uint64_t *allowed, int n, int32_t *tokens,
                   struct sampler_work *work);

/* The n best logits, 1..SAMPLE_BEST_MAX, ties in the order of tokens, neither NaN nor -infinity;
 * returns how many. One lane. */
int logits_best(const float *logits, int vocab, int n, struct candidate *best);

#endif
