/* What speculation brings on a model, as users feel it: the same prompts decoded in several ways,
 * interleaved in one process, every text compared with the plain one. The counterpart of the
 * paper's tables S2 and S3. For bench.c. */
#ifndef TOOLS_BENCH_DECODE_H
#define TOOLS_BENCH_DECODE_H

#include <jansson.h>

#include "engine/scheduler.h"
#include "tools/bench_numbers.h"

#define DECODE_BATCH_MAX 256
#define DECODE_MODES_MAX 48
#define DECODE_MODES_ABOUT                                                                         \
    "k (a chain of heads), tree:n, both:n, lookup:n (n drafts), auto, chain:auto"

struct decode_options {
    const char *prompts; /* file, */
    json_t *given;       /* or, in its place, what one would hold, borrowed */
    const char *modes;   /* "1,2,tree:8,auto"; NULL: every chain, and auto */
    struct list batch;   /* begins with 1 */
    int tokens, repeat, limit;
    bool chat;          /* prompts are questions in the model's chat */
    double temperature; /* 0 = greedy */
};

/* Prints a table and adds the list "decode" to json. *identical: whether every text was the plain
 * one. ERR_INVALID, ERR_MEMORY. */
int decode_measure(struct scheduler *scheduler, const struct decode_options *options, json_t *json,
                   bool *identical, struct err *err);

#endif
