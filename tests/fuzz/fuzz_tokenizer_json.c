/* libFuzzer on tokenizer.json and tokenizer_config.json. */
#include "tests/fuzz/use_vocab.h"
#include "text/tokenizer_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct vocab vocab;
    struct buf template = {0};
    struct err err;
    if (!tokenizer_json_parse(&vocab, (const char *)bytes, size, "fuzz", &err)) {
        tokenizer_config_parse(&vocab, &template, (const char *)bytes, size, "fuzz", &err);
        use_vocab(&vocab, bytes, size);
    } else {
        vocab = (struct vocab){.bos = -1, .eos = -1, .unknown = -1};
        tokenizer_config_parse(&vocab, &template, (const char *)bytes, size, "fuzz", &err);
        vocab_release(&vocab);
    }
    buf_release(&template);
    return 0;
}
