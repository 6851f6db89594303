/* The fields that say which token is chosen, the same for every endpoint: temperature, top_p,
 * top_k, min_p, penalties, logit_bias, seed, speculation. Called by api.c only. */
#ifndef SERVER_SAMPLING_H
#define SERVER_SAMPLING_H

#include "server/api.h"

/* Reads them from request->json into request->engine; absent ones get their defaults, except the
 * seed, which stays as it is. Returns 0, or ERR_INVALID with the error in `error`. */
int sampling_parse(struct api_request *request, const struct api_model *model,
                   struct response *error);

#endif
