/* What a model makes of held-out text through the serving kernels: bits per byte, to compare types
 * of weights. For bench.c. */
#ifndef TOOLS_BENCH_QUALITY_H
#define TOOLS_BENCH_QUALITY_H

#include <jansson.h>

#include "engine/scheduler.h"

/* Reads `windows` stretches of the text in file `path`, spread evenly over it, each as long as the
 * context allows, and prints the mean of -log2 P over their tokens per byte; adds the object
 * "quality" to json. A NUL byte ends a document. ERR_IO, ERR_INVALID, ERR_MEMORY. */
int quality_measure(struct scheduler *scheduler, const char *path, int windows, json_t *json,
                    struct err *err);

#endif
