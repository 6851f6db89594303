/* POST /v1/speedup: what speculation is worth for a request. The body is that of a completion or a
 * chat; it is decoded plainly and as it says, `rounds` times each (3), all of them in steps of
 * their own that take turns, so that whatever disturbs the machine disturbs both. The answer has
 * the times behind the first token, their ratio and its spread over the rounds, what each drafter
 * was right about, the estimate that any answer's `metrics` give beside the truth, and whether all
 * texts are the same tokens. */
#ifndef SERVER_SPEEDUP_H
#define SERVER_SPEEDUP_H

#include "server/completion.h"

#define SPEEDUP_ROUNDS_MAX 8

/* A body of /v1/speedup becomes that of a completion or a chat, and request->rounds is set; and,
 * when that has been read, becomes the requests to be timed. Return 0, or ERR_INVALID with the
 * error in `error`. */
int speedup_begin(struct api_request *request, struct response *error);
int speedup_check(struct api_request *request, struct response *error);

/* Choice 2 i is round i's plain text, choice 2 i + 1 the other. */
void speedup_submit(const struct choice *choice, struct engine_request *request);
/* The choice's last event. */
void speedup_note(struct choice *choice, const struct engine_event *event);

#endif
