/* The `prompt` field in its four shapes: a string, a list of strings, token ids, a list of lists of
 * token ids. Called by api.c only. */
#ifndef SERVER_PROMPT_H
#define SERVER_PROMPT_H

#include "server/api.h"

/* Fills request->prompts from request->json: text is tokenised and gets the model's bos put before
 * it, token ids are taken as they are. Every prompt leaves room for at least one more token. */
int prompts_parse(struct api_request *request, const struct api_model *model,
                  struct response *error);
void prompts_release(struct api_request *request);

#endif
