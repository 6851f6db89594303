/* Where the tokens of a choice come from, grown token by token as JSON text: {"token", "bytes",
 * "drafter", "rank", "pass", "rows"} of each. The drafter is "head 1", ..., "look-up", "head 1 and
 * look-up", or null for what the next-token head chose itself; its rank counts from 0, the head's
 * best; pass counts the request's passes, rows are those of that pass. One per choice, owned by it;
 * loop thread. */
#ifndef SERVER_TRACE_H
#define SERVER_TRACE_H

#include "base/buf.h"
#include "engine/engine.h"

/* `before`: the token before it, -1 = none. */
void trace_add(struct buf *trace, const struct tokenizer *tokenizer, int32_t before,
               const struct engine_token *token);

#endif
