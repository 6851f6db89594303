/* UTF-8 repair and stop strings. */
#include "engine/text.h"

#include <stdint.h>
#include <string.h>

#include "text/utf8.h"

/* Shows the first n held bytes; with `last`, an incomplete character at the end too. */
static void show(struct text *text, size_t n, bool last, struct buf *out)
{
    const char *s = text->held.data;
    size_t i = 0;
    while (i < n) {
        int length = utf8_decode(s + i, n - i, NULL);
        if (length == 0 && !last)
            break;
        if (length > 0) {
            buf_append(out, s + i, (size_t)length);
            i += (size_t)length;
            continue;
        }
        buf_append(out, "\xef\xbf\xbd", 3);
        i += length < 0 ? (size_t)-length : n - i;
    }
    buf_consume(&text->held, i);
}

/* Where the stop string that is complete first begins and ends; of those complete at the same byte
 * the longest counts. False: there is none. So the end does not depend on how the bytes came in
 * tokens. text->stop says which it is. */
static bool find_stop(struct text *text, size_t *begin, size_t *end_of)
{
    size_t best = text->held.len, first_end = SIZE_MAX;
    for (int i = 0; i < text->n_stops; i++) {
        const char *at =
            memmem(text->held.data, text->held.len, text->stops[i], text->stop_lens[i]);
        if (!at)
            continue;
        size_t start = (size_t)(at - text->held.data), end = start + text->stop_lens[i];
        if (end < first_end || (end == first_end && start < best)) {
            best = start;
            first_end = end;
            text->stop = i + 1;
        }
    }
    *begin = best;
    *end_of = first_end;
    return first_end != SIZE_MAX;
}

/* How many bytes at the end could be the start of a stop string. */
static size_t could_stop(const struct text *text)
{
    size_t most = 0, len = text->held.len;
    for (int i = 0; i < text->n_stops; i++)
        for (size_t n = text->stop_lens[i] - 1; n > most; n--)
            if (n <= len && !memcmp(text->held.data + len - n, text->stops[i], n))
                most = n;
    return most;
}

bool text_add(struct text *text, const char *bytes, size_t len, bool ignore_stops, struct buf *out)
{
    buf_append(&text->held, bytes, len);
    if (!text->held.len)
        return false;
    if (!ignore_stops) {
        size_t stop, behind;
        if (find_stop(text, &stop, &behind)) {
            show(text, text->include_stop ? behind : stop, true, out);
            text->held.len = 0;
            return true;
        }
    }
    /* Held bytes never begin before an incomplete character, so cutting by bytes is safe: show()
     * stops at a character that is not whole. */
    show(text, text->held.len - (ignore_stops ? 0 : could_stop(text)), false, out);
    return false;
}

void text_end(struct text *text, struct buf *out)
{
    if (text->held.len)
        show(text, text->held.len, true, out);
}

void text_release(struct text *text)
{
    buf_release(&text->held);
    memset(text, 0, sizeof *text);
}
