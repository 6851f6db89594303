/* Events with a type: see events.h. */
#include "server/events.h"

#include "server/json_text.h"
#include "server/obfuscation.h"

size_t event_begin(struct completion *completion, const char *type)
{
    struct buf *out = &completion->out;
    buf_printf(out, "event: %s\ndata: ", type);
    size_t start = out->len;
    buf_printf(out, "{\"type\":\"%s\"", type);
    return start;
}

void event_end(struct completion *completion, size_t start)
{
    if (completion->request.include_obfuscation)
        obfuscation_write(&completion->out, start, completion->request.engine.seed);
    buf_puts(&completion->out, "}\n\n");
}

void event_text(struct completion *completion, const char *name, const char *text, size_t len)
{
    buf_puts(&completion->out, name);
    json_write(&completion->out, len ? text : "", len);
}

void event_metrics(const struct completion *completion, struct buf *out)
{
    out->failed |= completion->metrics.failed;
    if (!completion->metrics.len)
        return;
    buf_puts(out, ",\"metrics\":");
    buf_append(out, completion->metrics.data, completion->metrics.len);
}
