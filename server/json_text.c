/* JSON strings: see json_text.h. jansson escapes. */
#include "server/json_text.h"

#include <jansson.h>

#include "server/utf8.h"
#include "text/utf8.h"

static int append(const char *data, size_t len, void *out)
{
    buf_append(out, data, len);
    return 0;
}

bool json_write_strict(struct buf *out, const char *text, size_t len)
{
    if (utf8_valid(text, len) != len)
        return false;
    json_t *string = json_stringn_nocheck(text, len);
    if (!string || json_dump_callback(string, append, out, JSON_ENCODE_ANY))
        out->failed = true; /* there is no memory */
    json_decref(string);
    return true;
}

void json_write(struct buf *out, const char *text, size_t len)
{
    struct buf repaired = {0};
    struct utf8 utf8 = {0};
    if (json_write_strict(out, text, len))
        return;
    utf8_add(&utf8, text, len, &repaired);
    utf8_end(&utf8, &repaired);
    if (repaired.failed || !json_write_strict(out, repaired.data, repaired.len))
        out->failed = true;
    buf_release(&repaired);
}
