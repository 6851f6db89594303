/* The choice of lanes: see pace.h. */
#include "model/pace.h"

#include <string.h>

#define EPOCH 0.02   /* seconds whose runs are looked at together: several time slices of a core */
#define LATE 0.05    /* of the lanes' time, from which on fewer may pay */
#define PATIENCE 0.2 /* seconds until the trial after one that failed, doubled each time, */
#define PATIENCE_MAX 3.2 /* up to here */

void pace_init(struct pace *p, int most)
{
    *p = (struct pace){.most = most, .lanes = most, .patience = PATIENCE};
}

/* With how many lanes to try it next; 0: there is nothing to try. While one core is taken, all
 * lanes wait for its lane, so one lane less than all need not be faster where several cores are
 * taken: half of them are tried, and then one more at a time. */
static int other(const struct pace *p, bool late)
{
    bool fewer = late && p->lanes > 1, more = p->lanes < p->most;
    if (fewer && !(more && p->down))
        return p->lanes / 2;
    return more ? p->lanes + 1 : 0;
}

static void end_trial(struct pace *p, double rate)
{
    bool better = rate > p->rate;
    if (better) {
        p->patience = PATIENCE;
    } else {
        p->lanes = p->before;
        p->patience = p->patience < PATIENCE_MAX / 2 ? 2 * p->patience : PATIENCE_MAX;
    }
    p->rest = p->patience;
    p->further = better;
    p->before = 0;
}

static void begin_trial(struct pace *p, double rate, bool late)
{
    int lanes = other(p, late);
    if (!lanes)
        return;
    p->down = lanes < p->lanes;
    p->further = false;
    p->before = p->lanes;
    p->rate = rate;
    p->lanes = lanes;
}

void pace_note(struct pace *p, double seconds, double size, double lost)
{
    p->seconds += seconds;
    p->size += size;
    p->lost += lost;
    if (p->seconds < EPOCH)
        return;
    double rate = p->size / p->seconds;
    bool late = p->lost > LATE * p->seconds * p->lanes;
    p->rest -= p->seconds;
    p->seconds = p->size = p->lost = 0;
    if (p->before)
        end_trial(p, rate);
    else if (p->rest <= 0 || (p->further && p->down == late))
        begin_trial(p, rate, late);
}
