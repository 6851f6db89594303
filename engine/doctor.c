/* Figures in sentences: see doctor.h. */
#include "engine/doctor.h"

#include <stdio.h>

#define DEAD 0.05 /* of the drafts behind right ones */
#define PAYS 1.03 /* times plain decoding: less is noise */
#define SEEN 50   /* drafts behind right ones that make a rate */

struct speech {
    void (*say)(void *arg, const char *sentence);
    void *arg;
};

static void tell_heads(const struct doctor *d, const struct speech *to)
{
    char text[256];
    int n = snprintf(text, sizeof text,
                     "The heads, each behind right drafts of those before it, "
                     "are right"),
        dead = 0;
    for (int i = 0; i < d->n_rates; i++) {
        n += snprintf(text + n, sizeof text - (size_t)n, "%s %.2f", i ? "," : "", d->rates[i]);
        if (d->rates[i] < DEAD && !dead)
            dead = i + 1;
    }
    snprintf(text + n, sizeof text - (size_t)n, " of the time.");
    if (d->n_rates)
        to->say(to->arg, text);
    snprintf(text, sizeof text,
             "Head %d is dead: less than 1 in 20 of its drafts are right. Was it trained, and for "
             "this model? What stands behind it cannot be right either.",
             dead);
    if (dead)
        to->say(to->arg, text);
    snprintf(text, sizeof text, "Look-up in the text so far is right %.2f of the time.", d->lookup);
    if (d->lookup > 0)
        to->say(to->arg, text);
}

static void tell_rows(const struct doctor *d, const struct speech *to)
{
    char text[256];
    for (int k = 1; k <= DOCTOR_DRAFTS; k += 2) {
        double cost = d->costs[k - 1], tokens = d->tokens[k - 1];
        int n = snprintf(text, sizeof text, "A step with %d draft%s takes %.2f times a plain one",
                         k, k > 1 ? "s" : "", cost);
        if (tokens > 0)
            snprintf(text + n, sizeof text - (size_t)n, " and brings %.2f tokens.", tokens);
        else
            snprintf(text + n, sizeof text - (size_t)n,
                     ": it pays where it brings more tokens than that.");
        if (cost > 0)
            to->say(to->arg, text);
    }
}

static void tell_advice(const struct doctor *d, const struct speech *to)
{
    char text[256];
    snprintf(text, sizeof text, "Of chains %d draft%s are the fastest, %.2f times plain decoding.",
             d->best_chain, d->best_chain > 1 ? "s" : "", d->best);
    if (d->best_chain && d->best >= PAYS)
        to->say(to->arg, text);
    if (!d->heads)
        to->say(to->arg,
                "The model has no heads: only look-up drafts, which helps where a text repeats "
                "what stands before. headway-write and headway-train make heads for it.");
    else if (d->best > 0 && d->best < PAYS)
        to->say(to->arg,
                "Drafts of heads do not pay here: rows cost more than right drafts bring. Heads "
                "trained "
                "on more text, or weights that take longer to read (no --type q4), would change "
                "that; until then \"auto\" leaves drafts out.");
}

void doctor_say(const struct doctor *d, void (*say)(void *arg, const char *sentence), void *arg)
{
    const struct speech to = {say, arg};
    tell_heads(d, &to);
    tell_rows(d, &to);
    tell_advice(d, &to);
}

/* ---- of an engine ---- */

/* What chains bring, as far as there are rates; the fastest of them. */
static void reckon(struct doctor *d)
{
    double reached = 1, tokens = 1;
    for (int i = 0; i < d->n_rates && d->costs[i] > 0; i++) {
        reached *= d->rates[i];
        tokens += reached;
        d->tokens[i] = tokens;
        if (tokens / d->costs[i] > d->best) {
            d->best = tokens / d->costs[i];
            d->best_chain = i + 1;
        }
    }
    int longest = d->heads < DOCTOR_DRAFTS ? d->heads : DOCTOR_DRAFTS;
    if (d->best < PAYS && d->n_rates < longest)
        d->best = 0; /* longer ones may pay */
}

void engine_advise(const struct engine_info *info, const struct engine_stats *stats,
                   void (*say)(void *arg, const char *sentence), void *arg)
{
    struct doctor d = {.heads = info->n_predict - 1};
    for (int i = 0; i < DOCTOR_DRAFTS; i++)
        d.costs[i] = stats->draft_costs[i];
    while (d.n_rates < d.heads && d.n_rates < DOCTOR_DRAFTS &&
           stats->heads[d.n_rates].tried >= SEEN) {
        d.rates[d.n_rates] =
            (double)stats->heads[d.n_rates].accepted / (double)stats->heads[d.n_rates].tried;
        d.n_rates++;
    }
    if (stats->lookup_tried >= SEEN)
        d.lookup = (double)stats->lookup_accepted / (double)stats->lookup_tried;
    reckon(&d);
    doctor_say(&d, say, arg);
}
