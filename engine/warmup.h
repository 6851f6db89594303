/* First measurements of what passes and drafts cost, for the choice of drafts (costs.h): those that
 * steps bring while requests run soon outweigh them. */
#ifndef ENGINE_WARMUP_H
#define ENGINE_WARMUP_H

#include "engine/scheduler.h"

/* Times passes over a few numbers of rows, and the heads. Once, before any sequence is there. */
void warmup(struct scheduler *scheduler);

#endif
