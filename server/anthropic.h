/* The body of POST /v1/messages and /v1/messages/count_tokens, as Anthropic has them
 * (https://docs.anthropic.com/en/api/messages), turned into the body of a chat: text, tools and
 * what they answered. Images, documents and thoughts are refused by name. An assistant's message at
 * the end is what the answer goes on from. Called by api.c only. */
#ifndef SERVER_ANTHROPIC_H
#define SERVER_ANTHROPIC_H

#include <jansson.h>
#include <stdbool.h>

#include "server/response.h"

/* *chat is owned by the caller, NULL in error. `counted`: max_tokens is not asked for. Returns 0,
 * or ERR_INVALID with the error in `error`. */
int anthropic_to_chat(const json_t *root, bool counted, json_t **chat, struct response *error);

#endif
