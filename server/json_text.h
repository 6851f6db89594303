/* Text as a quoted JSON string. Loop thread. */
#ifndef SERVER_JSON_TEXT_H
#define SERVER_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* Appends text as a string; what is not UTF-8 in it becomes U+FFFD. */
void json_write(struct buf *out, const char *text, size_t len);

/* The same, but appends nothing and returns false when the bytes are not UTF-8. */
bool json_write_strict(struct buf *out, const char *text, size_t len);

#endif
