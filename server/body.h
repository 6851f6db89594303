/* A request's body as a JSON object, and the fields that every endpoint with a body has. Used by
 * api.c and text_api.c, on any thread. */
#ifndef SERVER_BODY_H
#define SERVER_BODY_H

#include <jansson.h>
#include <stddef.h>

#include "server/response.h"

/* What a body's values may take in memory, about. Parsed JSON takes up to 80 times its text
 * ("{},"), so a limit on bytes alone bounds little. */
#define BODY_MEMORY_MAX ((size_t)32 << 20)

/* Once, before any JSON is read: lets body_parse tell memory that ran out from a wrong body. */
void body_open(void);

/* Of JSON text that may be anything: an estimate of what its values take, from one look at it. */
size_t body_memory(const char *body, size_t len);

/* Reads a body and checks `model`, which may be absent: there is only the one named model_id. *root
 * is owned by the caller, in error too. Returns 0, or ERR_INVALID with the error in `error`. */
int body_parse(json_t **root, const char *model_id, const char *body, size_t len,
               struct response *error);

#endif
