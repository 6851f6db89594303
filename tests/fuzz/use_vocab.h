/* What a fuzzer does with a vocabulary that a reader accepted: it makes a tokenizer, or is refused
 * then, and encodes to tokens that it has. */
#ifndef TESTS_FUZZ_USE_VOCAB_H
#define TESTS_FUZZ_USE_VOCAB_H

#include <stdint.h>
#include <stdlib.h>

#include "text/tokenizer.h"

static void encode(const struct tokenizer *t, const char *text, size_t len, bool special)
{
    struct encode_options options = {.add_special = special, .parse_special = special};
    struct tokens tokens = {0};
    struct err err;
    if (!tokenizer_encode(t, text, len, &options, &tokens, &err))
        for (size_t i = 0; i < tokens.n; i++) {
            volatile char sum = 0;
            size_t n;
            if (tokens.ids[i] < 0 || tokens.ids[i] >= tokenizer_vocab(t))
                abort();
            const char *piece = tokenizer_bytes(t, i ? tokens.ids[i - 1] : -1, tokens.ids[i], &n);
            for (size_t k = 0; k < n; k++)
                sum = (char)(sum + piece[k]);
            tokenizer_written(t, tokens.ids[i], &n);
        }
    free(tokens.ids);
}

/* Encodes a text of ours and the end of the input. The vocabulary is gone then. */
static void use_vocab(struct vocab *vocab, const uint8_t *bytes, size_t size)
{
    static const char text[] =
        "Hello  world, it's 1234\r\n <s>e\xcc\x81 \xe4\xb8\xad\xff\xe2\x96\x81";
    struct tokenizer *t;
    struct err err;
    if (tokenizer_init(&t, vocab, &err))
        return;
    size_t tail = size < 256 ? size : 256;
    encode(t, text, sizeof text - 1, true);
    encode(t, (const char *)bytes + size - tail, tail, false);
    tokenizer_free(t);
}

#endif
