/* The body of POST /v1/responses, as OpenAI has it
 * (https://platform.openai.com/docs/api-reference/responses), turned into the body of a chat: text,
 * functions, what they were called with and what they answered. Nothing is stored, so that what
 * refers to earlier responses is refused by name; so are images, files and tools that a server
 * would run. Called by api.c only. */
#ifndef SERVER_RESPONSES_H
#define SERVER_RESPONSES_H

#include <jansson.h>

#include "server/response.h"

/* *chat is owned by the caller, NULL in error. Appends to `shown` the members that the answer
 * repeats of the request. Returns 0, or ERR_INVALID with the error in `error`. */
int responses_to_chat(const json_t *root, json_t **chat, struct buf *shown, struct response *error);

#endif
