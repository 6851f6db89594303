/* Choosing the number of drafts. */
#include "engine/speculate.h"

#define WEIGHT 0.06f /* of a new observation: the last 16 or so count */
#define DRIFT 0.004f /* of a position that was not tried, per step */
#define HOPE 0.8f

void draft_rates_init(struct draft_rates *rates)
{
    for (int j = 0; j < ENGINE_DRAFTS_MAX; j++)
        rates->rate[j] = HOPE;
}

void draft_rates_note(struct draft_rates *rates, int drafted, int accepted)
{
    for (int j = 0; j < ENGINE_DRAFTS_MAX; j++) {
        float *r = &rates->rate[j];
        if (j < drafted && j <= accepted)
            *r += WEIGHT * ((j < accepted ? 1.0f : 0.0f) - *r);
        else if (*r < HOPE)
            *r += DRIFT * (HOPE - *r);
    }
}

int drafts_worth(const struct draft_rates *rates, const struct draft_costs *costs, int most,
                 int sequences)
{
    /* Heads and trunk read their weights once for all sequences; a further row costs them alike. */
    double batch = costs->row * (sequences - 1);
    double tokens = 1, chain = 1, best_speed = 0;
    int best = 0;
    for (int k = 0; k <= most; k++) {
        double head = costs->head * (1 + batch / costs->pass);
        double seconds = costs->pass + batch + k * (costs->row * sequences + head);
        if (tokens / seconds > best_speed) {
            best_speed = tokens / seconds;
            best = k;
        }
        if (k < most) {
            chain *= rates->rate[k];
            tokens += chain;
        }
    }
    return best;
}
