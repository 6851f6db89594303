/* tokenizer.model: SentencePiece's own file, a protocol buffer (sentencepiece_model.proto of
 * https://github.com/google/sentencepiece). Untrusted. Any thread. */
#ifndef TEXT_SENTENCEPIECE_MODEL_H
#define TEXT_SENTENCEPIECE_MODEL_H

#include <stddef.h>

#include "base/err.h"
#include "text/vocab.h"

/* Fills a zeroed vocabulary from the bytes of a tokenizer.model, which `where` names in errors.
 * Only its BPE kind; what else it could ask for is refused by name. After an error the vocabulary
 * is empty. ERR_INVALID, ERR_MEMORY. */
int sentencepiece_model_parse(struct vocab *vocab, const char *bytes, size_t size,
                              const char *where, struct err *err);

#endif
