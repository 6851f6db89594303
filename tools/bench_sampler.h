/* What a choice of the sampler costs on rows of made-up logits, by settings. For bench.c. */
#ifndef TOOLS_BENCH_SAMPLER_H
#define TOOLS_BENCH_SAMPLER_H

#include "base/err.h"

/* Prints a table of milliseconds per row. threads: 0 = all. ERR_INVALID, ERR_MEMORY, ERR_IO. */
int sampler_measure(int vocab, int threads, const char *isa, int repeat, struct err *err);

#endif
