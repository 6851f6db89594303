/* How often drafts are right: what the choice of a tree rests on. One set for each request, and one
 * for the engine that learns from all of them and is the prior of a new request.
 *
 * Every rate is conditional: draft i is right, given that the text followed the tree to its parent.
 * At each committed token the truth is known, so all candidates kept for that place are compared,
 * in the tree or not: the estimates don't depend on what was proposed. One owner, one thread. */
#ifndef ENGINE_RATES_H
#define ENGINE_RATES_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/proposal.h"

#define RATE_MATCHES 7 /* match lengths 1, 2, 3, 4-5, 6-9, 10-19, 20- */
#define RATE_DEPTHS 6  /* look-up drafts 1..5 and all beyond */

struct rate {
    float p; /* the estimate */
    float n; /* observations behind it, as far as they are not forgotten */
};

struct draft_rates {
    float forget;                              /* least weight of an observation */
    struct rate head[DRAFTS_MAX][DRAFT_RANKS]; /* of head i, rank r at [i-1][r] */
    struct rate lookup[RATE_MATCHES][RATE_DEPTHS];
    struct rate both[RATE_MATCHES];  /* head 1's best is right when look-up is */
    struct rate agree[RATE_MATCHES]; /* head 1's best is look-up's token */
    struct rate side;                /* candidates behind others than the best, relative to
                                        those behind the best */
    uint32_t tries[DRAFTS_MAX], hits[DRAFTS_MAX]; /* of the best candidates, for dead heads */
};

/* The rates of a new request begin as the prior's; with NULL, as guesses: those of an engine. */
void draft_rates_init(struct draft_rates *rates, const struct draft_rates *prior);

/* Notes a step: what was drafted for the tokens behind x_t, and the n tokens that were committed
 * there, all chosen by verification. What was not drafted drifts to the prior (NULL for the
 * engine's own rates), so that it's tried again some day. */
void rates_note(struct draft_rates *rates, const struct draft_rates *prior,
                const struct candidates *candidates, const int32_t *truth, int n);

/* The rate of the look-up draft at `depth` (1..). */
const struct rate *rates_lookup(const struct draft_rates *rates, int match_length, int depth);
int rates_match(int match_length); /* its row of the tables */

/* What the rate could be, for trials. */
float rate_hope(const struct rate *rate);

/* The first head whose best candidate is right less than 5 % of the time over enough trials, or 0:
 * such a head is probably not trained, or belongs to another trunk. */
int rates_dead_head(const struct draft_rates *rates);

#endif
