/* The `metrics` field of responses. `speculative_decoding` is in vLLM's shape: how many drafts were
 * made and accepted. `decode`: the seconds of the steps behind the first token, and what plain
 * decoding would have taken by what the engine has learned of the costs of passes. */
#ifndef SERVER_SPECULATION_JSON_H
#define SERVER_SPECULATION_JSON_H

#include "base/buf.h"
#include "engine/engine.h"

/* Appends what a drafter was right about, an object: head i, or look-up for 0. */
void speculation_json_drafter(struct buf *out, int head, uint64_t tried, uint64_t accepted);

/* Appends the object of a completion with one choice; `event` is its last. */
void speculation_json_write(struct buf *out, const struct engine_event *event);

#endif
