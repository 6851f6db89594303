/* The sampler: which token follows a row of logits. A choice is a function of the logits, the
 * request's settings, the tokens before it, and a random number that depends on (seed, position,
 * token) alone, so it is the same with and without speculation.
 *
 * Draws use the Gumbel-max trick: the token with the largest logit/temperature + Gumbel noise is a
 * draw from the softmax. A draft head that sees the same noise guesses the same token whenever its
 * distribution is close, which is what makes drafts useful above temperature 0. */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include <stdint.h>

#include "base/err.h"
#include "engine/engine.h"

struct candidate {
    float score; /* logit after bias and penalties */
    int32_t token;
};

struct sampler {
    float temperature, top_p, min_p;
    int top_k;
    float frequency_penalty, presence_penalty, repetition_penalty;
    uint64_t seed;
    struct engine_bias biases[ENGINE_BIAS_MAX];
    int n_biases;
    int32_t *generated; /* (V) how often each token was generated; used when a penalty is on */
    uint8_t *seen;      /* (V) 1 for tokens of the prompt */
    bool penalised;
};

/* Takes the settings of a request that engine_submit has checked. `generated` and `seen` are V
 * elements each that the caller owns; they are cleared and filled from the prompt. */
void sampler_init(struct sampler *sampler, const struct engine_request *request, int vocab,
                  int32_t *generated, uint8_t *seen);

/* Notes that a token was committed, for the penalties. */
void sampler_commit(struct sampler *sampler, int32_t token);

/* The token at `position` given its logits (V). scratch: V candidates. banned: a token that must
 * not be chosen, or -1. */
int32_t sampler_choose(const struct sampler *sampler, const float *logits, int vocab, int position,
                       int32_t banned, struct candidate *scratch);

#endif
