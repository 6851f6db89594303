/* The fields that name tokens: stop_token_ids, allowed_token_ids, and bad_words, which names them
 * by their text. Called by api.c, on any thread. */
#ifndef SERVER_TOKEN_FIELDS_H
#define SERVER_TOKEN_FIELDS_H

#include "server/api.h"

/* Reads them from request->json into request->engine. Returns 0, or ERR_INVALID with the error in
 * `error`; token_fields_release in both cases. */
int token_fields_parse(struct api_request *request, const struct api_model *model,
                       struct response *error);
void token_fields_release(struct api_request *request);

#endif
