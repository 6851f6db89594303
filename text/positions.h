/* Where a text may stand in an automaton: the set of all states, each with the calls that led to
 * it, that the bytes so far lead to. Sets are made when they are first met and known by a small
 * number from then on, with what each byte leads to: a deterministic automaton that is written down
 * as far as it is used. All memory is taken at the start. One owner, one thread at a time.
 *
 * A set of more than POSITIONS_PLACES_MAX places is taken for none, so that a step's time is
 * bounded whatever the automaton. */
#ifndef TEXT_POSITIONS_H
#define TEXT_POSITIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "text/automaton.h"

#define POSITION_NONE (-1)    /* no text goes on like this */
#define POSITION_UNKNOWN (-2) /* not looked at yet */
#define POSITION_FULL (-3)    /* no room left for another set */

#define POSITIONS_MAX 4096
#define POSITIONS_PLACES_MAX 1024

struct positions {
    const struct automaton *automaton;  /* one reference */
    struct position_pool *pools, *pool; /* two, and the one in use */
    struct position_work *work;
    uint8_t class_of[256]; /* bytes that no edge tells apart are of one class */
    int n_classes;
    int16_t *next; /* (POSITIONS_MAX, n_classes) of the pool in use; NONE or UNKNOWN if negative */
};

/* ERR_MEMORY. */
int positions_init(struct positions *positions, const struct automaton *automaton, struct err *err);
void positions_release(struct positions *positions);

/* Before the first byte. NONE or FULL where it can't be written down. */
int32_t positions_start(struct positions *positions);

/* Behind one more byte: a position, NONE or FULL. */
int32_t positions_make(struct positions *positions, int32_t at, uint8_t byte);
/* The same where it is known already, else UNKNOWN. */
static inline int32_t positions_known(const struct positions *positions, int32_t at, uint8_t byte)
{
    return positions->next[at * positions->n_classes + positions->class_of[byte]];
}

static inline int32_t positions_step(struct positions *positions, int32_t at, uint8_t byte)
{
    int32_t next = positions_known(positions, at, byte);
    return next == POSITION_UNKNOWN ? positions_make(positions, at, byte) : next;
}

bool positions_accepts(const struct positions *positions, int32_t at); /* the text may end here */
bool positions_goes_on(const struct positions *positions, int32_t at); /* more bytes may follow */

/* What a position is, whatever its number: writes numbers that are equal only where all that may
 * follow is. Returns how many, 0 when there are more than `room`. */
int positions_describe(const struct positions *positions, int32_t at, int32_t *to, int room);

/* Forgets all positions but the n listed, which get new numbers; NONE stays NONE. False, and all is
 * forgotten, when even those are too many. */
bool positions_collect(struct positions *positions, int32_t *kept, int n);

#endif
