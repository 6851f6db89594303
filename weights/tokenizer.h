/* Text to tokens and back. Here the byte tokenizer: tokens 0..255 are the bytes, 256 is
 * <|end|>, which stands before every text and after every document. Any thread; immutable. */
#ifndef WEIGHTS_TOKENIZER_H
#define WEIGHTS_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "weights/config.h"

#define BYTE_TOKEN_END 256
#define BYTE_VOCAB 257

struct tokenizer {
    int vocab; /* ids from BYTE_VOCAB to vocab-1 are unused and decode to nothing */
    int bos, eos;
};

/* Opens the tokenizer of a model folder. A folder without tokenizer files has the byte tokenizer,
 * which needs vocab >= BYTE_VOCAB. ERR_INVALID. */
int tokenizer_open(struct tokenizer *tokenizer, const char *folder, const struct config *config,
                   struct err *err);
void tokenizer_release(struct tokenizer *tokenizer);

/* Writes at most max tokens and returns the full count (call with max 0 to measure).
 * No special tokens are added. */
size_t tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t len,
                        int32_t *tokens, size_t max);

/* The bytes of one token: a pointer to *len bytes that live as long as the program.
 * Special and unknown tokens give no bytes. */
const char *tokenizer_bytes(const struct tokenizer *tokenizer, int32_t token, size_t *len);

#endif
