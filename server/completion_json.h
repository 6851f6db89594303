/* The JSON of completions and of chat completions: the chunks of a stream, or one object. Reads
 * struct completion, appends to its buffers; called by completion.c only. */
#ifndef SERVER_COMPLETION_JSON_H
#define SERVER_COMPLETION_JSON_H

#include "server/completion.h"

/* What came of a choice since the last call: text, log-probabilities, token ids, finish reason; a
 * chunk, or several as OpenAI's chats have them. Nothing when nothing came. */
void completion_json_chunk(struct completion *completion, struct choice *choice);

/* What ends a stream: the usage chunk when it was asked for, then [DONE]. */
void completion_json_end(struct completion *completion);

/* An error in the middle of a stream, then [DONE]. */
void completion_json_error(struct completion *completion, int status, const char *code,
                           const char *message);

/* The object of a completion that is not streamed, into completion->response. */
void completion_json_whole(struct completion *completion);

#endif
