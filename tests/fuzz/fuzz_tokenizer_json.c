/* libFuzzer on tokenizer.json and tokenizer_config.json: what is accepted makes a tokenizer, or is
 * refused then, and encodes to tokens that it has. */
#include <stdint.h>
#include <stdlib.h>

#include "text/tokenizer.h"
#include "text/tokenizer_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

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

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char text[] =
        "Hello  world, it's 1234\r\n <s>e\xcc\x81 \xe4\xb8\xad\xff\xe2\x96\x81";
    struct vocab vocab;
    struct buf template = {0};
    struct tokenizer *t;
    struct err err;
    if (!tokenizer_json_parse(&vocab, (const char *)bytes, size, "fuzz", &err)) {
        tokenizer_config_parse(&vocab, &template, (const char *)bytes, size, "fuzz", &err);
        if (!tokenizer_init(&t, &vocab, &err)) {
            size_t tail = size < 256 ? size : 256;
            encode(t, text, sizeof text - 1, true);
            encode(t, (const char *)bytes + size - tail, tail, false);
            tokenizer_free(t);
        }
    } else {
        vocab = (struct vocab){.bos = -1, .eos = -1, .unknown = -1};
        tokenizer_config_parse(&vocab, &template, (const char *)bytes, size, "fuzz", &err);
        vocab_release(&vocab);
    }
    buf_release(&template);
    return 0;
}
