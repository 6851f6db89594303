/* What speculation is worth with a model on this machine, in sentences: how fast plain decoding is,
 * how many drafts pay, which head is right how often and which is dead, what several texts at a
 * time change, and what could be done. For bench.c. */
#ifndef TOOLS_BENCH_DOCTOR_H
#define TOOLS_BENCH_DOCTOR_H

#include <jansson.h>

#include "engine/scheduler.h"
#include "tools/bench_decode.h"

/* The options that doctor_tell is made from, as far as nobody gave others; the prompts are the
 * caller's to release. */
void doctor_options(const struct scheduler *scheduler, struct decode_options *options);

/* Prints what the list "decode" of decode_measure's says. */
void doctor_tell(const struct scheduler *scheduler, const json_t *json);

#endif
