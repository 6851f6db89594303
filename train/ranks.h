/* Processes that train together over MPI, each on its part of every batch: what they add up is the
 * same bits in each of them, and from run to run for the same number of them. Without mpirun, or
 * built without MPI, there is one and these functions do nothing. Called by one thread. */
#ifndef TRAIN_RANKS_H
#define TRAIN_RANKS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Before anything else that may fail. ERR_INVALID: under mpirun, but built without MPI. */
int ranks_init(struct err *err);
/* Where `failed`, the others end too: they would wait for this one. */
void ranks_release(bool failed);

int ranks_count(void);
int ranks_own(void); /* this one's number, from 0 */

/* x (n) becomes the sum of all ranks' x, in the order of their numbers. work: n floats and one for
 * each rank. */
void ranks_sum(float *x, size_t n, float *work);
long ranks_sum_long(long x);

#endif
