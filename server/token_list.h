/* Token ids as JSON: lists in requests and in responses. */
#ifndef SERVER_TOKEN_LIST_H
#define SERVER_TOKEN_LIST_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "server/response.h"

/* Reads a JSON array of ids below `vocab`; *tokens is owned by the caller, NULL when it is empty.
 * `param` is the field to blame. Returns 0, or ERR_INVALID with the error in `error`. */
int token_list_parse(const json_t *json, int vocab, const char *param, int32_t **tokens, size_t *n,
                     struct response *error);

/* Appends [1,2,3]. */
void token_list_write(struct buf *out, const int32_t *tokens, size_t n);

#endif
