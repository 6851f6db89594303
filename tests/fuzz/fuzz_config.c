/* libFuzzer on config.json: whatever is accepted passes the checks again and keeps its promises. */
#include <stdint.h>
#include <stdlib.h>

#include "weights/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct config c;
    struct err err;
    if (config_parse(&c, (const char *)bytes, size, "fuzz", &err))
        return 0;
    if (config_check(&c, &err) || c.head_dim * c.n_heads != c.dim || c.n_heads % c.n_kv_heads ||
        c.bos >= c.vocab || c.eos >= c.vocab || c.n_predict > HEADS_MAX)
        abort();
    return 0;
}
