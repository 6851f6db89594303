/* Texts that are not worth training on: those that go round in circles, and those that mostly say
 * what texts before them said. One owner, one thread. */
#ifndef TRAIN_REPEATS_H
#define TRAIN_REPEATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Whether most runs of 4 tokens stand in the text more than once. */
bool text_loops(const int32_t *tokens, size_t n);

/* The runs of 8 tokens of all texts so far, as hashes. A zeroed struct is empty. */
struct seen_text {
    uint64_t *slot; /* (size) 0: free */
    size_t size, used;
};

/* The part of its runs, 0..1, that texts before it had. */
double seen_text_share(const struct seen_text *seen, const int32_t *tokens, size_t n);
/* ERR_MEMORY. */
int seen_text_add(struct seen_text *seen, const int32_t *tokens, size_t n, struct err *err);
void seen_text_release(struct seen_text *seen);

#endif
