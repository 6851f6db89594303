/* Parallel heads: h_i = H_i(z), each H_i one or more transformer layers on the trunk's output. */
#ifndef HEADS_PARALLEL_H
#define HEADS_PARALLEL_H

#include "heads/heads.h"

extern const struct head_type head_parallel;

#endif
