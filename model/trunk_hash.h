/* What tells one trunk from another: heads are good for the one they were trained on. */
#ifndef MODEL_TRUNK_HASH_H
#define MODEL_TRUNK_HASH_H

#include <stdint.h>

#include "weights/source.h"

/* A number, never 0, of the trunk's shape, of all its vectors and of some rows of each matrix as
 * floats: the same for the same values in another kind of file, another when they are quantised in
 * another way. It guards against mistakes, not against malice. ERR_INVALID, ERR_MEMORY. */
int trunk_hash(const struct source *source, uint64_t *hash, struct err *err);

#endif
