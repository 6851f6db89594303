/* A growable string of bytes, always NUL-terminated behind its length. A zeroed struct is an empty
 * buffer. When memory runs out the buffer remembers it in `failed` and later appends do nothing, so
 * that a caller checks once at the end. One owner, one thread. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *data; /* NULL while empty */
    size_t len;
    size_t cap;
    bool failed;
};

void buf_append(struct buf *buf, const void *data, size_t len);
void buf_puts(struct buf *buf, const char *text);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Makes room for `extra` more bytes so that appending them allocates nothing. */
void buf_reserve(struct buf *buf, size_t extra);

/* Takes n bytes off the front. */
void buf_consume(struct buf *buf, size_t n);
void buf_release(struct buf *buf);

#endif
