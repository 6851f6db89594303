/* Events of streams that say what they are, as Responses and Messages have them: an `event` line,
 * and an object with the same `type`. For responses_json.c and messages_json.c. */
#ifndef SERVER_EVENTS_H
#define SERVER_EVENTS_H

#include "server/completion.h"

/* Begins one: what is appended to completion->out belongs to its object. Returns where that
 * begins, for event_end. */
size_t event_begin(struct completion *completion, const char *type);
void event_end(struct completion *completion, size_t start);

/* Appends `name`, which brings comma, quotes and colon, and a text as a JSON string. */
void event_text(struct completion *completion, const char *name, const char *text, size_t len);

/* Appends the completion's `metrics` member, where it has one. */
void event_metrics(const struct completion *completion, struct buf *out);

#endif
