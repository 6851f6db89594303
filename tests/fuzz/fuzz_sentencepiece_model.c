/* libFuzzer on tokenizer.model, a protocol buffer. */
#include "tests/fuzz/use_vocab.h"
#include "text/sentencepiece_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct vocab vocab = {0};
    struct err err;
    if (!sentencepiece_model_parse(&vocab, (const char *)bytes, size, "fuzz", &err))
        use_vocab(&vocab, bytes, size);
    return 0;
}
