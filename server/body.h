/* A request's body as a JSON object, and the fields that every endpoint with a body has. Used by
 * api.c and text_api.c on the loop thread. */
#ifndef SERVER_BODY_H
#define SERVER_BODY_H

#include <jansson.h>
#include <stddef.h>

#include "server/response.h"

/* Reads a body and checks `model`, which may be absent: there is only the one named model_id. *root
 * is owned by the caller, in error too. Returns 0, or ERR_INVALID with the error in `error`. */
int body_parse(json_t **root, const char *model_id, const char *body, size_t len,
               struct response *error);

#endif
