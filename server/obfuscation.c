/* Padding: see obfuscation.h. */
#include "server/obfuscation.h"

#include <string.h>

#include "base/rng.h"

#define OBFUSCATION_STEP 256 /* padded events are a multiple of that many bytes */

void obfuscation_write(struct buf *out, size_t start, uint64_t seed)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t used = out->len - start + strlen(",\"obfuscation\":\"\"}");
    size_t pad = (OBFUSCATION_STEP - used % OBFUSCATION_STEP) % OBFUSCATION_STEP;
    buf_puts(out, ",\"obfuscation\":\"");
    for (size_t i = 0; i < pad; i++)
        buf_append(out, &letters[rng_below(seed, out->len, i, sizeof letters - 1)], 1);
    buf_puts(out, "\"");
}
