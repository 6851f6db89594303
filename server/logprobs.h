/* The `logprobs` object of the completions API, grown token by token as JSON text:
 * {"tokens":[],"token_logprobs":[],"top_logprobs":[{}],"text_offset":[]}. Offsets count characters
 * of the choice's text. One per choice, owned by it; loop thread. */
#ifndef SERVER_LOGPROBS_H
#define SERVER_LOGPROBS_H

#include "engine/engine.h"
#include "server/utf8.h"

/* A zeroed struct is empty, at the start of the text. */
struct logprobs {
    struct buf tokens, values, tops, offsets;
    struct utf8 position;
};

void logprobs_add(struct logprobs *logprobs, const struct engine *engine,
                  const struct engine_token *token);

/* Appends the object with what came since the last call, and forgets it; the position stays. */
void logprobs_write(struct logprobs *logprobs, struct buf *out);
void logprobs_release(struct logprobs *logprobs);

#endif
