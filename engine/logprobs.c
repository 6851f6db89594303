/* Log-probabilities. */
#include "engine/logprobs.h"

#include <math.h>

#include "engine/sampler.h"
#include "model/kernels/kernels.h"

void logprobs_describe(const float *logits, int vocab, int32_t token, int n_top,
                       struct engine_token *t)
{
    struct candidate best[ENGINE_TOP_LOGPROBS_MAX];
    float lse = kernels.logsumexp(logits, vocab);
    t->token = token;
    t->logprob = logits[token] - lse;
    t->n_top = n_top ? logits_best(logits, vocab, n_top, best) : 0;
    for (int i = 0; i < t->n_top; i++) {
        t->top[i].token = best[i].token;
        t->top[i].logprob = best[i].score - lse;
    }
}

void logprobs_none(int32_t token, struct engine_token *t)
{
    t->token = token;
    t->logprob = NAN;
    t->n_top = 0;
}
