/* The instructions that pickles of state dicts consist of. Internal to pickle.c. */
#ifndef WEIGHTS_PICKLE_RUN_H
#define WEIGHTS_PICKLE_RUN_H

#include "weights/pickle_machine.h"

/* From m->at to the end, which must be m->end; *result is the value that is left. ERR_INVALID,
 * ERR_MEMORY. */
int pickle_run(struct machine *m, value_id *result);

#endif
