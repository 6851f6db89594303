/* The JSON of a completion: the chunks of a stream, or one object. Reads struct completion, appends
 * to its buffers; called by completion.c only. */
#ifndef SERVER_COMPLETION_JSON_H
#define SERVER_COMPLETION_JSON_H

#include "server/completion.h"

/* One chunk with the choice's text, log-probabilities and finish reason; empties the text. */
void completion_json_chunk(struct completion *completion, struct choice *choice);

/* What ends a stream: the usage chunk when it was asked for, then [DONE]. */
void completion_json_end(struct completion *completion);

/* An error in the middle of a stream, then [DONE]. */
void completion_json_error(struct completion *completion, const char *message);

/* The object of a completion that is not streamed, into completion->response. */
void completion_json_whole(struct completion *completion);

/* The `metrics` field, in vLLM's shape, of a completion with one choice. */
void completion_json_metrics(struct completion *completion, const struct engine_event *event);

#endif
