/* One of a completion's texts: what the engine's events bring for it, in whatever form its request
 * wants. The struct stands in completion.h, which owns choices and calls this; loop thread. */
#ifndef SERVER_CHOICE_H
#define SERVER_CHOICE_H

#include "server/completion.h"

/* Choice i of a completion whose request has been read. */
void choice_init(struct completion *completion, size_t i);
void choice_release(struct choice *choice);

/* Times and counts of an event, for /metrics and the log. */
void choice_measure(struct choice *choice, const struct engine_event *event);

/* Adds what an event brings to the text and what goes with it; of a stream the chunks that follow.
 */
void choice_add(struct choice *choice, const struct engine_event *event);

#endif
