/* Muon (Jordan et al. 2024): the step of a matrix is its momentum with all singular values brought
 * near 1 by five Newton-Schulz iterations, so that no direction of it learns faster than the
 * others. Scaled so that rates mean what they mean for AdamW (Liu et al. 2025, arXiv 2502.16982,
 * section 2.2). For matrices alone, which all that heads own are but for some norms. */
#ifndef TRAIN_MUON_H
#define TRAIN_MUON_H

#include "base/mem.h"
#include "model/params.h"
#include "model/team.h"

struct muon {
    float rate, momentum, decay; /* decay already multiplied by rate */
    float clip;                  /* factor on the gradient */
};

/* Room for the largest matrix of a model. */
struct muon_work {
    float *x, *next;     /* the matrix, its shorter side as rows */
    float *gram, *cubic; /* (shorter side)^2 */
};

void muon_work_take(struct muon_work *work, struct arena *arena, const struct params *params);

/* One step of value (rows, cols) by its gradient, which is cleared for the next, and its momentum.
 * All lanes call it together; ends with a barrier. */
void muon_step(struct lane *lane, const struct muon *muon, const struct muon_work *work, int rows,
               int cols, float *value, float *grad, float *momentum);

#endif
