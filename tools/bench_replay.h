/* Logged requests decoded again, plainly and with drafts, and held to what was answered. For
 * bench.c.
 *
 * A log has a line per request: the body of a /v1/completions with one prompt, text or token ids,
 * and any of the fields that headway-server writes to its --audit-file; other fields are refused by
 * name. Where the line has "metadata": {"said": [ids]}, as those of --audit-file do, what is
 * decoded is compared with it, else only with what other ways give: plain decoding, the drafts that
 * the line asks for, and in place of "auto" also a tree that does not depend on the clock. */
#ifndef TOOLS_BENCH_REPLAY_H
#define TOOLS_BENCH_REPLAY_H

#include <jansson.h>

#include "engine/scheduler.h"

/* Prints a line for each request and adds the list "replay" to json. *identical: whether all that
 * was compared was the same, log-probabilities to the bit. What a line says that it leaves out (a
 * structure, bad_words) cannot be repeated, and is counted only. ERR_IO, ERR_INVALID with the line,
 * ERR_MEMORY. */
int replay_measure(struct scheduler *scheduler, const char *path, json_t *json, bool *identical,
                   struct err *err);

#endif
