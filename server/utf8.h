/* Counts and repairs UTF-8 that arrives in pieces. An ill-formed sequence counts as one character
 * and is repaired to one U+FFFD for each maximal part of it (Unicode 15, section 3.9), as the
 * engine does with its text. No memory, no failure. */
#ifndef SERVER_UTF8_H
#define SERVER_UTF8_H

#include <stddef.h>

#include "base/buf.h"

/* A zeroed struct stands at the start of a text. */
struct utf8 {
    size_t characters;       /* finished so far */
    unsigned need;           /* continuation bytes still missing */
    unsigned char low, high; /* what the next of them may be */
    unsigned have;           /* bytes of the unfinished character */
    char part[4];
};

/* Reads len bytes. Finished characters, repaired, are appended to `out` unless it is NULL. */
void utf8_add(struct utf8 *utf8, const char *bytes, size_t len, struct buf *out);

/* The number of the character that these bytes, read next, begin or go on with. */
size_t utf8_place(const struct utf8 *utf8, const char *bytes, size_t len);

/* The text is over: an unfinished character becomes U+FFFD. */
void utf8_end(struct utf8 *utf8, struct buf *out);

#endif
