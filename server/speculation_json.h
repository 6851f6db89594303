/* The `metrics` field of responses, in vLLM's shape: how many drafts were made and accepted. */
#ifndef SERVER_SPECULATION_JSON_H
#define SERVER_SPECULATION_JSON_H

#include "base/buf.h"
#include "engine/engine.h"

/* Appends the object of a completion with one choice; `event` is its last. */
void speculation_json_write(struct buf *out, const struct engine_event *event);

#endif
