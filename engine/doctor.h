/* What speculation is worth with a model on this machine, in sentences: which head is right how
 * often and which is dead, what steps with drafts cost and bring, and what could be done. For the
 * engine, of what it has learned (engine_advise), and for the bench, of what it has measured. */
#ifndef ENGINE_DOCTOR_H
#define ENGINE_DOCTOR_H

#include "engine/engine.h"

#define DOCTOR_DRAFTS ENGINE_COSTS_MAX /* longer chains are not spoken of */

/* Figures of one text at a time. A zeroed struct knows nothing. */
struct doctor {
    int heads;                   /* that draft */
    double rates[DOCTOR_DRAFTS]; /* of the first n_rates: right behind right drafts of the others */
    int n_rates;
    double lookup;                /* part of look-up's drafts that are right, 0 = not known */
    double costs[DOCTOR_DRAFTS];  /* of a step with i+1 drafts, times a plain one; 0 = not known */
    double tokens[DOCTOR_DRAFTS]; /* that it brings; 0 = not known */
    double best;                  /* the fastest way, times plain decoding; 0 = not known */
    int best_chain;               /* its drafts, where it is a chain; 0: it is left out */
};

/* Says one sentence after another; each is the callee's until say returns. Any thread. */
void doctor_say(const struct doctor *doctor, void (*say)(void *arg, const char *sentence),
                void *arg);

#endif
