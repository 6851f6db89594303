/* Times passes of a model, its own or random weights: how much more a pass over several rows costs
 * than one over a single row, and how near it comes to what memory and processor give
 * (bench_peak.h). A pass is what the engine does to verify: trunk, next-token head, and logits for
 * all rows. For bench.c.
 */
#ifndef TOOLS_BENCH_SHAPE_H
#define TOOLS_BENCH_SHAPE_H

#include <jansson.h>

#include "tools/bench_numbers.h"

#define SHAPE_NAMES "110m|1b|7b"
#define SHAPE_ROWS_MOST 256 /* of a pass: cells with more are skipped; a prompt's chunk */

struct shape_options {
    const char *model;   /* whose passes are timed, or NULL for random weights: */
    const char *heads;   /* of it, or NULL */
    const char *shape;   /* one of SHAPE_NAMES */
    const char *type;    /* of the weights; "stored" is q8 for random ones */
    const char *kv;      /* type of keys and values, as kv_type_parse */
    const char *isa;     /* as kernels_init */
    int threads;         /* 0 = all */
    int repeat;          /* repetitions: in each, everything is measured once, in turn */
    int prompt;          /* tokens of the prompt that is read, 0 = none */
    struct list batch;   /* sequences of a pass */
    struct list rows;    /* rows per sequence; begins with 1 */
    struct list context; /* positions that a sequence has behind it */
};

/* Prints the table, and adds the lists "passes" and "prompts" and the object "machine" to json.
 * Cells whose keys and values have no room in memory are skipped with a note. ERR_INVALID,
 * ERR_MEMORY, ERR_IO. */
int shape_measure(const struct shape_options *options, json_t *json, struct err *err);

#endif
