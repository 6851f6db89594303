/* A request as the engine keeps it: checked field by field, and copied into one block that nobody
 * else points into. */
#ifndef ENGINE_REQUEST_H
#define ENGINE_REQUEST_H

#include "base/err.h"
#include "engine/engine.h"

/* Checks every field. ERR_INVALID, with a sentence that names it. Any thread. */
int request_check(const struct engine_request *request, int vocab, int context, struct err *err);

/* Copies a checked request with all that it points to, but for the grammar, which gets one more
 * owner. NULL when memory ran out. */
struct engine_request *request_copy(const struct engine_request *request);
void request_free(struct engine_request *copy); /* NULL is allowed */

#endif
