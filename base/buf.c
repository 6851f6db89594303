/* Growable bytes. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_reserve(struct buf *buf, size_t extra)
{
    if (buf->failed || buf->cap - buf->len > extra)
        return;
    size_t cap = buf->cap ? buf->cap : 64;
    while (cap - buf->len <= extra && cap < (size_t)1 << 60)
        cap *= 2;
    char *data = cap - buf->len > extra ? realloc(buf->data, cap) : NULL;
    if (!data) {
        buf->failed = true;
        return;
    }
    buf->data = data;
    buf->cap = cap;
    buf->data[buf->len] = 0;
}

void buf_append(struct buf *buf, const void *data, size_t len)
{
    buf_reserve(buf, len);
    if (buf->failed)
        return;
    if (len)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = 0;
}

void buf_puts(struct buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n >= 0)
        buf_reserve(buf, (size_t)n);
    if (n >= 0 && !buf->failed) {
        vsnprintf(buf->data + buf->len, (size_t)n + 1, format, again);
        buf->len += (size_t)n;
    }
    va_end(again);
}

void buf_consume(struct buf *buf, size_t n)
{
    if (!n)
        return;
    memmove(buf->data, buf->data + n, buf->len - n);
    buf->len -= n;
    buf->data[buf->len] = 0;
}

void buf_release(struct buf *buf)
{
    free(buf->data);
    memset(buf, 0, sizeof *buf);
}
