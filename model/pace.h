/* How many lanes of a team pay just now. On a machine that others use too, a lane whose core is
 * taken comes late to every barrier, and the others wait for it; fewer lanes are faster then. While
 * lanes come late, some runs are tried with one lane less or one more, and what was faster stays.
 * Where none comes late nothing is tried. Knows no threads: one owner, who says what runs took. */
#ifndef MODEL_PACE_H
#define MODEL_PACE_H

#include <stdbool.h>

struct pace {
    int most, lanes;            /* 1..most; those of the next run */
    double seconds, size, lost; /* runs since the last choice: time, work, seconds of waiting */
    double rate;                /* work per second before a trial, */
    int before;                 /* and lanes; 0: there is no trial */
    double rest, patience;      /* seconds until the next trial; what a failed one costs */
    bool down, further;         /* the last trial was with fewer lanes; it was right, so go on */
};

void pace_init(struct pace *pace, int most);

/* A run took so many seconds for work of that size, in any unit but always the same, and its lanes
 * slept `lost` seconds all together because others came late. Sets pace->lanes for the next one. */
void pace_note(struct pace *pace, double seconds, double size, double lost);

#endif
