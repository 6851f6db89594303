/* The `messages` of a chat in the one shape that templates are written for: developer is system,
 * content is a string, arguments of tool calls are objects. As vLLM and Hugging Face do it. Called
 * by chat.c only. */
#ifndef SERVER_MESSAGES_H
#define SERVER_MESSAGES_H

#include <jansson.h>

#include "server/response.h"

/* Makes a new array from the request's messages, owned by the caller, in error too (may be NULL).
 * Fields that are not known here are left out. Returns 0, or ERR_INVALID with the error in `error`,
 * whose param says where: "messages[2].content[0].type". */
int messages_parse(const json_t *root, json_t **messages, struct response *error);

#endif
