/* What scheduler.c needs of the step besides scheduler_step itself. */
#ifndef ENGINE_STEP_H
#define ENGINE_STEP_H

#include "engine/scheduler.h"

/* Fills scheduler->costs by timing passes. Call it once, before sequences come. */
void step_measure_costs(struct scheduler *scheduler);

#endif
