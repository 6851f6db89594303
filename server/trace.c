/* Origins of tokens: see trace.h. */
#include "server/trace.h"

#include <inttypes.h>

#include "server/json_text.h"
#include "text/tokenizer.h"

static void add_drafter(struct buf *out, const struct engine_origin *origin)
{
    if (origin->head)
        buf_printf(out, "\"head %d%s\"", origin->head, origin->lookup ? " and look-up" : "");
    else
        buf_puts(out, origin->lookup ? "\"look-up\"" : "null");
}

void trace_add(struct buf *out, const struct tokenizer *tokenizer, int32_t before,
               const struct engine_token *token)
{
    size_t len;
    const char *bytes = tokenizer_bytes(tokenizer, before, token->token, &len);
    buf_puts(out, out->len ? ",{\"token\":" : "{\"token\":");
    json_write(out, bytes, len);
    buf_puts(out, ",\"bytes\":[");
    for (size_t i = 0; i < len; i++)
        buf_printf(out, i ? ",%d" : "%d", (unsigned char)bytes[i]);
    buf_puts(out, "],\"drafter\":");
    add_drafter(out, &token->origin);
    buf_printf(out, ",\"rank\":%d,\"pass\":%" PRIu32 ",\"rows\":%d}", token->origin.rank,
               token->origin.pass, token->origin.rows);
}
