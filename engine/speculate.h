/* How many drafts are worth their time, for requests that leave it to us ("auto"). Drafts never
 * change the text, so this may follow the clock and the text as it likes.
 *
 * Two things decide: how often drafts were accepted lately, and what they cost. Verifying k drafts
 * adds k rows to the trunk's pass; making them runs k heads. With small models and heads as heavy
 * as trunk layers the second weighs more. One owner, one thread. */
#ifndef ENGINE_SPECULATE_H
#define ENGINE_SPECULATE_H

#include "engine/engine.h"

/* Seconds, measured once at start. */
struct draft_costs {
    double pass; /* a pass of the trunk over one row */
    double row;  /* each further row */
    double head; /* one head's draft */
};

/* What one sequence has seen: rate[j] estimates how often draft j is right when those before it
 * were. */
struct draft_rates {
    float rate[ENGINE_DRAFTS_MAX];
};

void draft_rates_init(struct draft_rates *rates);

/* Notes a step that had `drafted` drafts and accepted the first `accepted` of them. Positions that
 * were not tried drift back towards hope, so that they are tried again some day. */
void draft_rates_note(struct draft_rates *rates, int drafted, int accepted);

/* The number of drafts, 0..most, with the most expected tokens per second when `sequences` are
 * decoded together. */
int drafts_worth(const struct draft_rates *rates, const struct draft_costs *costs, int most,
                 int sequences);

#endif
