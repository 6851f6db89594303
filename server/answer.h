/* The JSON of a completion's answer: chunks of a stream, or the whole object. Reads struct
 * completion and appends text; called by completion.c only. */
#ifndef SERVER_ANSWER_H
#define SERVER_ANSWER_H

#include "server/completion.h"

/* One chunk with the choice's text, log-probabilities and finish reason; takes the text. */
void answer_chunk(struct completion *completion, struct choice *choice);

/* What ends a stream: the usage chunk when it was asked for, then [DONE]. */
void answer_end(struct completion *completion);

/* An error in the middle of a stream, then [DONE]. */
void answer_failure(struct completion *completion, const char *message);

/* The whole answer, into completion->reply. */
void answer_whole(struct completion *completion);

/* The `metrics` field, in vLLM's shape, of a completion with one choice. */
void answer_metrics(struct completion *completion, const struct engine_event *event);

#endif
