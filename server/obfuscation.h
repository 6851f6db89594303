/* Padding of a stream's events. An event's size tells how many drafts were accepted and with that
 * much about the text (arXiv 2411.01076); padding hides it from who can only see encrypted packets.
 * Any thread. */
#ifndef SERVER_OBFUSCATION_H
#define SERVER_OBFUSCATION_H

#include <stdint.h>

#include "base/buf.h"

/* Appends a last member to the object that begins at `start`, so that with its closing brace it has
 * a round size. */
void obfuscation_write(struct buf *out, size_t start, uint64_t seed);

#endif
