/* The field `speculation` of a request: how it is decoded, and what is told of it. A word or
 * number, or an object that has these as `mode` and beside it trace   each token's origin is in the
 * response; alone   it runs in steps of its own, and those that do so have equal time: for races.
 * Called by sampling.c. */
#ifndef SERVER_SPECULATION_H
#define SERVER_SPECULATION_H

#include "server/api.h"

/* From request->json into request->engine and request->trace. Returns 0, or ERR_INVALID with the
 * error in `error`. */
int speculation_parse(struct api_request *request, struct response *error);

#endif
