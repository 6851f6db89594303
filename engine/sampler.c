/* Greedy and seeded choice of a token. */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

/* Tokens this far below the best (in logit / temperature) are left out: their share of the
 * distribution is below e^-40 each, less than one draw in 10^17. */
#define NEGLIGIBLE 40.0f

void sampler_init(struct sampler *s, const struct engine_request *r, int vocab, int32_t *generated,
                  uint8_t *seen)
{
    *s = (struct sampler){.temperature = r->temperature,
                          .top_p = r->top_p,
                          .min_p = r->min_p,
                          .top_k = r->top_k,
                          .frequency_penalty = r->frequency_penalty,
                          .presence_penalty = r->presence_penalty,
                          .repetition_penalty = r->repetition_penalty,
                          .seed = r->seed,
                          .n_biases = r->n_biases,
                          .generated = generated,
                          .seen = seen};
    if (r->n_biases)
        memcpy(s->biases, r->biases, (size_t)r->n_biases * sizeof *s->biases);
    s->penalised =
        r->frequency_penalty != 0 || r->presence_penalty != 0 || r->repetition_penalty != 1;
    if (!s->penalised)
        return;
    memset(generated, 0, (size_t)vocab * sizeof *generated);
    memset(seen, 0, (size_t)vocab);
    for (size_t i = 0; i < r->n_tokens; i++)
        seen[r->tokens[i]] = 1;
}

void sampler_commit(struct sampler *s, int32_t token)
{
    if (s->penalised)
        s->generated[token]++;
}

/* Fills scratch with every token but `banned`, in the order of tokens, and returns how many. A
 * logit that is not a number is as good as none: comparing with it would decide nothing. */
static int score_all(const struct sampler *s, const float *logits, int vocab, int32_t banned,
                     struct candidate *scratch)
{
    for (int t = 0; t < vocab; t++)
        scratch[t] = (struct candidate){isnan(logits[t]) ? -INFINITY : logits[t], t};
    for (int t = 0; s->penalised && t < vocab; t++) {
        float *x = &scratch[t].score;
        int count = s->generated[t];
        if (count || s->seen[t])
            *x = *x > 0 ? *x / s->repetition_penalty : *x * s->repetition_penalty;
        if (count)
            *x -= s->frequency_penalty * (float)count + s->presence_penalty;
    }
    for (int i = 0; i < s->n_biases; i++)
        scratch[s->biases[i].token].score += s->biases[i].bias;
    if (banned < 0)
        return vocab;
    memmove(scratch + banned, scratch + banned + 1, (size_t)(vocab - 1 - banned) * sizeof *scratch);
    return vocab - 1;
}

static int best_of(const struct candidate *c, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (c[i].score > c[best].score)
            best = i;
    return best;
}

/* Best first; ties in the order of tokens. */
static int by_score(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

/* Keeps the candidates that top_k, min_p and top_p leave; returns how many. Their scores become
 * those of the distribution, (score - best) / temperature: so neither huge logits nor a tiny
 * temperature overflow, and equals stay equal. */
static int cut(const struct sampler *s, struct candidate *c, int n)
{
    float top = c[best_of(c, n)].score;
    float least = s->min_p > 0 ? logf(s->min_p) : -INFINITY;
    int kept = 0;
    for (int i = 0; i < n; i++) {
        float score = c[i].score == top ? 0 : (c[i].score - top) / s->temperature;
        if (score >= -NEGLIGIBLE && score >= least)
            c[kept++] = (struct candidate){score, c[i].token};
    }
    bool by_k = s->top_k > 0 && s->top_k < kept, by_p = s->top_p < 1;
    if (!by_k && !by_p)
        return kept;
    qsort(c, (size_t)kept, sizeof *c, by_score);
    if (by_k)
        kept = s->top_k;
    if (!by_p)
        return kept;
    double sum = 0, reached = 0;
    for (int i = 0; i < kept; i++)
        sum += exp(c[i].score);
    for (int i = 0; i < kept; i++) {
        reached += exp(c[i].score);
        if (reached >= s->top_p * sum)
            return i + 1;
    }
    return kept;
}

int32_t sampler_choose(const struct sampler *s, const float *logits, int vocab, int position,
                       int32_t banned, struct candidate *scratch)
{
    int n = score_all(s, logits, vocab, banned, scratch);
    if (s->temperature <= 0)
        return scratch[best_of(scratch, n)].token;
    n = cut(s, scratch, n);
    int32_t chosen = scratch[0].token;
    double best = -INFINITY;
    for (int i = 0; i < n; i++) {
        double u = rng_uniform(s->seed, (uint64_t)position, (uint64_t)scratch[i].token);
        double value = scratch[i].score - log(-log(u));
        if (value > best) {
            best = value;
            chosen = scratch[i].token;
        }
    }
    return chosen;
}
