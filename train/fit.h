/* A start for heads on a frozen trunk, by least squares: the state that a head is to make is near
 * the one that the trunk will have further on, and a linear map of what the head sees comes closer
 * to it than random weights do. */
#ifndef TRAIN_FIT_H
#define TRAIN_FIT_H

#include "train/trainer.h"

/* Kinds that have such a start: linear heads get their matrices, recurrent ones the projection, and
 * a layer that adds nothing yet. */
bool fit_possible(enum head_kind kind);

/* Fits the heads of a fresh trainer to n texts. ERR_MEMORY, ERR_INVALID when there are too few. */
int fit_heads(struct trainer *trainer, const struct sample *samples, int n, struct err *err);

#endif
