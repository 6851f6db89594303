/* UTF-8 in pieces: see utf8.h. The byte ranges are table 3-7 of the Unicode standard. */
#include "server/utf8.h"

#include <stdbool.h>

static void finish(struct utf8 *utf8, const char *bytes, size_t len, struct buf *out)
{
    utf8->characters++;
    utf8->need = utf8->have = 0;
    if (out)
        buf_append(out, bytes, len);
}

/* The first byte of a character. */
static void begin(struct utf8 *utf8, unsigned char byte, struct buf *out)
{
    utf8->low = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
    utf8->high = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
    utf8->part[0] = (char)byte;
    utf8->have = 1;
    if (byte < 0x80)
        finish(utf8, utf8->part, 1, out);
    else if (byte < 0xC2 || byte > 0xF4)
        finish(utf8, "\xEF\xBF\xBD", 3, out);
    else
        utf8->need = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
}

static bool goes_on(const struct utf8 *utf8, unsigned char byte)
{
    return utf8->need && byte >= utf8->low && byte <= utf8->high;
}

size_t utf8_place(const struct utf8 *utf8, const char *bytes, size_t len)
{
    bool broken = utf8->need && len && !goes_on(utf8, (unsigned char)bytes[0]);
    return utf8->characters + broken;
}

void utf8_add(struct utf8 *utf8, const char *bytes, size_t len, struct buf *out)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        if (utf8->need && !goes_on(utf8, byte))
            utf8_end(utf8, out);
        if (!utf8->need) {
            begin(utf8, byte, out);
            continue;
        }
        utf8->part[utf8->have++] = (char)byte;
        utf8->low = 0x80;
        utf8->high = 0xBF;
        if (!--utf8->need)
            finish(utf8, utf8->part, utf8->have, out);
    }
}

void utf8_end(struct utf8 *utf8, struct buf *out)
{
    if (utf8->need)
        finish(utf8, "\xEF\xBF\xBD", 3, out);
}
