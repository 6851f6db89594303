/* Acceptance rates: averages that forget. */
#include "engine/rates.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* Chosen with test_speculate's changing texts: a request's rates follow a change of the text within
 * some 40 tokens; the engine's follow slowly. */
#define FORGET 0.02f
#define FORGET_ENGINE 0.002f
#define PRIOR_WEIGHT 8.0f /* observations that a prior counts for */
/* A draft given up for good costs its gain; one tried again too often costs its row. With 0.0005 a
 * hopeless draft comes back every 100 steps or so. */
#define DRIFT 0.0005f

#define DEAD 0.05
#define DEAD_TRIALS 200  /* by then a head of 10 % is below 5 % once in 100 times */
#define TRIALS_KEPT 4096 /* then halved, so that what is long past counts less */

/* Guesses, on the side of hope, since they cost a few steps and the opposite costs the gain. */
static const float first_head[DRAFT_RANKS] = {0.7f, 0.1f, 0.04f, 0.02f};
static const float first_lookup[RATE_MATCHES] = {0.15f, 0.3f, 0.45f, 0.55f, 0.65f, 0.75f, 0.85f};

static void init_engine(struct draft_rates *rates)
{
    memset(rates, 0, sizeof *rates);
    rates->forget = FORGET_ENGINE;
    for (int i = 0; i < DRAFTS_MAX; i++)
        for (int r = 0; r < DRAFT_RANKS; r++)
            rates->head[i][r] = (struct rate){first_head[r], 2};
    for (int m = 0; m < RATE_MATCHES; m++) {
        float p = first_lookup[m];
        for (int d = 0; d < RATE_DEPTHS; d++, p += 0.2f * (0.85f - p))
            rates->lookup[m][d] = (struct rate){p, 2};
        rates->both[m] = (struct rate){0.7f, 2};
        rates->agree[m] = (struct rate){0.5f, 2};
    }
    rates->side = (struct rate){0.7f, 2};
}

static void cap(struct rate *rate, int n)
{
    for (int i = 0; i < n; i++)
        rate[i].n = rate[i].n < PRIOR_WEIGHT ? rate[i].n : PRIOR_WEIGHT;
}

void draft_rates_init(struct draft_rates *rates, const struct draft_rates *prior)
{
    if (!prior) {
        init_engine(rates);
        return;
    }
    *rates = *prior;
    rates->forget = FORGET;
    cap(rates->head[0], DRAFTS_MAX * DRAFT_RANKS);
    cap(rates->lookup[0], RATE_MATCHES * RATE_DEPTHS);
    cap(rates->both, RATE_MATCHES);
    cap(rates->agree, RATE_MATCHES);
    cap(&rates->side, 1);
    memset(rates->tries, 0, sizeof rates->tries);
    memset(rates->hits, 0, sizeof rates->hits);
}

static void observe(struct rate *rate, float forget, float seen)
{
    float w = 1 / (rate->n + 1);
    if (w > forget)
        rate->n++;
    else
        w = forget;
    rate->p += w * (seen - rate->p);
}

static void drift(struct rate *rate, const struct rate *prior)
{
    rate->n -= DRIFT * rate->n;
    if (prior)
        rate->p += DRIFT * (prior->p - rate->p);
}

int rates_match(int length)
{
    static const int least[RATE_MATCHES] = {1, 2, 3, 4, 6, 10, 20};
    int m = RATE_MATCHES - 1;
    while (m > 0 && length < least[m])
        m--;
    return m;
}

static int lookup_depth(int depth)
{
    return depth < RATE_DEPTHS ? depth - 1 : RATE_DEPTHS - 1;
}

const struct rate *rates_lookup(const struct draft_rates *rates, int match_length, int depth)
{
    return &rates->lookup[rates_match(match_length)][lookup_depth(depth)];
}

float rate_hope(const struct rate *rate)
{
    /* One and a half standard errors, widened as if one more trial had gone well: a rate of 0 may
     * be chance. */
    float n = rate->n + 1, p = (rate->p * rate->n + 1) / n;
    float hope = p + 1.5f * sqrtf(p * (1 - p) / n);
    return hope < 1 ? hope : 1;
}

static void count(struct draft_rates *rates, int head, bool right)
{
    rates->hits[head] += right;
    if (++rates->tries[head] == TRIALS_KEPT) {
        rates->tries[head] /= 2;
        rates->hits[head] /= 2;
    }
}

/* Compares head i+1's candidates with the truth and returns the rank that is right, or -1. `best`:
 * all drafts before it were the best candidates. */
static int note_head(struct draft_rates *rates, const struct candidates *c, int i, int32_t truth,
                     bool best)
{
    int right = -1;
    for (int r = 0; r < c->n[i] && right < 0; r++)
        if (c->token[i][r] == truth)
            right = r;
    if (!best) {
        /* Divided by the rate, an observation of the ratio: its mean is right. */
        float p = rates->head[i][0].p;
        if (p > 0.1f)
            observe(&rates->side, rates->forget, right == 0 ? 1 / p : 0);
        return right;
    }
    for (int r = 0; r < c->n[i]; r++)
        observe(&rates->head[i][r], rates->forget, r == right);
    count(rates, i, right == 0);
    return right;
}

static void note_heads(struct draft_rates *rates, const struct candidates *c, const int32_t *truth,
                       int n)
{
    bool best = true;
    for (int i = 0; i < n && i < c->heads; i++) {
        if (c->chained && !best)
            return;
        best = note_head(rates, c, i, truth[i], best) == 0 && best;
    }
}

static void note_lookup(struct draft_rates *rates, const struct candidates *c, const int32_t *truth,
                        int n)
{
    int m = rates_match(c->match_length);
    for (int d = 0; d < n && d < c->n_lookup; d++) {
        bool right = c->lookup[d] == truth[d];
        observe(&rates->lookup[m][lookup_depth(d + 1)], rates->forget, right);
        if (d == 0 && right && c->heads)
            observe(&rates->both[m], rates->forget, c->n[0] && c->token[0][0] == truth[0]);
        if (!right)
            return;
    }
}

void rates_note(struct draft_rates *rates, const struct draft_rates *prior,
                const struct candidates *c, const int32_t *truth, int n)
{
    note_heads(rates, c, truth, n);
    for (int i = c->heads; i < DRAFTS_MAX; i++)
        for (int r = 0; r < DRAFT_RANKS; r++)
            drift(&rates->head[i][r], prior ? &prior->head[i][r] : NULL);
    if (!c->n_lookup)
        return;
    note_lookup(rates, c, truth, n);
    if (c->heads && c->n[0])
        observe(&rates->agree[rates_match(c->match_length)], rates->forget,
                c->token[0][0] == c->lookup[0]);
}

int rates_dead_head(const struct draft_rates *rates)
{
    for (int i = 0; i < DRAFTS_MAX; i++)
        if (rates->tries[i] >= DEAD_TRIALS && rates->hits[i] < DEAD * rates->tries[i])
            return i + 1;
    return 0;
}
