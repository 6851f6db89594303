/* What passes and drafts cost on this machine, learned from the steps that run. A pass's cost is a
 * curve over its rows (which rises in steps where kernels take rows in groups), one for each range
 * of positions attended. All of it is relative to a level: how slow the machine is just now, since
 * on a shared one a neighbour may double every time for a while, which should change no choice. One
 * owner, one thread; the caller holds the clock. */
#ifndef ENGINE_COSTS_H
#define ENGINE_COSTS_H

#include <stdbool.h>

#include "engine/proposal.h"

#define COST_KNOTS 96   /* rows 1..32, then 8 to each doubling, to 8192 */
#define COST_CONTEXTS 5 /* positions a row attends to: below 1024, 4096, 16384, 65536, more */
#define COST_BATCHES 7  /* drafting sequences: 1, 2, -4, -8, -16, -32, more */

struct cost_curve {
    double seen[COST_KNOTS]; /* seconds at level 1, an average that forgets */
    double n[COST_KNOTS];    /* observations behind it, as far as they are not forgotten */
    double fit[COST_KNOTS];  /* rising, without attention; also where nothing was seen */
    bool known;              /* something was seen */
    double hope[COST_KNOTS]; /* what the cost could be, for trials */
};

/* A step that ran. It is learned when as many later ones as earlier ones show how slow the machine
 * was then. */
struct cost_step {
    int knot, context, heads, sequences; /* heads 0: no draft, or learned already */
    double positions, seconds, draft_seconds;
    bool learned;
};

#define COST_STEPS 15

struct costs {
    double level;
    struct cost_step step[COST_STEPS]; /* the last ones, a ring */
    unsigned steps;
    double attend; /* seconds a position attended, at level 1 */
    struct cost_curve pass[COST_CONTEXTS], draft[COST_BATCHES];
};

void costs_init(struct costs *costs);
/* Which of the COST_BATCHES so many sequences are. */
int costs_batch(int sequences);

/* What attending to a position costs a row, timed at start; without it contexts still have curves
 * of their own. */
void costs_set_attend(struct costs *costs, double seconds);
/* Notes a pass of the trunk: its rows, the positions that all of them attended together. The prior
 * is a few of these too, timed at start: with few observations behind it, it is soon outweighed. */
void costs_note_pass(struct costs *costs, int rows, double positions, double seconds);
/* Notes that heads 1..heads drafted for so many sequences. */
void costs_note_draft(struct costs *costs, int heads, int sequences, double seconds);

/* Expected seconds, now. Rows may be a fraction (an expectation). With `hope`, the least that
 * they could cost as far as we know. */
double costs_pass(const struct costs *costs, double rows, double positions, bool hope);
double costs_draft(const struct costs *costs, int heads, int sequences, bool hope);

/* Observations behind a pass of so many rows, as far as they are not forgotten. */
double costs_known(const struct costs *costs, int rows, double positions);

#endif
