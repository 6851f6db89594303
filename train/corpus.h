/* A corpus: a mapped file of bytes, documents ended by a NUL, which is read as BYTE_TOKEN_END.
 * Immutable once open; any thread. */
#ifndef TRAIN_CORPUS_H
#define TRAIN_CORPUS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct corpus {
    const unsigned char *bytes;
    size_t size;
};

/* Maps the file, which must hold at least `least` bytes. ERR_IO, ERR_INVALID. */
int corpus_open(struct corpus *corpus, const char *path, size_t least, struct err *err);
void corpus_release(struct corpus *corpus);

/* n tokens from byte `at` on; at + n must not pass the end. */
void corpus_tokens(const struct corpus *corpus, size_t at, size_t n, int32_t *tokens);

#endif
