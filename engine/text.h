/* Bytes of tokens become text that may be shown: whole UTF-8 characters, nothing that could still
 * turn out to be a stop string, and nothing from a stop string on. One owner, one thread. */
#ifndef ENGINE_TEXT_H
#define ENGINE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

struct text {
    const char *const *stops; /* borrowed */
    const size_t *stop_lens;
    int n_stops;
    bool include_stop; /* the text ends behind a stop string, not before it */
    struct buf held;   /* bytes not yet shown */
    int stop;          /* once it has ended the text: 1 + its place in stops; else 0 */
};

/* Adds a token's bytes and appends what may be shown to `out`. True when a stop string was
 * completed, unless `ignore_stops`: the text then ends before it, or, with include_stop, behind it.
 * The first byte that completes one counts, and the longest of those that it completes, however the
 * bytes were cut into tokens. */
bool text_add(struct text *text, const char *bytes, size_t len, bool ignore_stops, struct buf *out);
/* The text ends here: shows what was held back. */
void text_end(struct text *text, struct buf *out);
void text_release(struct text *text);

#endif
