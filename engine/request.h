/* A request as the engine keeps it: checked field by field, and copied into one block that nobody
 * else points into. */
#ifndef ENGINE_REQUEST_H
#define ENGINE_REQUEST_H

#include "base/err.h"
#include "engine/engine.h"

/* Checks every field. ERR_INVALID, with a sentence that names it. Any thread. */
int request_check(const struct engine_request *request, int vocab, int context, struct err *err);

/* Copies a checked request with all that it points to. NULL when memory ran out. Free with free():
 * the struct and what it points to are one block. */
struct engine_request *request_copy(const struct engine_request *request);

#endif
