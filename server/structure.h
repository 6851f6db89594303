/* What an answer must look like: response_format, llama-server's json_schema, and guided_json,
 * guided_regex, guided_choice and structured_outputs as vLLM has them; what other dialects' bodies
 * have is response_format by then. At most one of them; it becomes the request's automaton. Called
 * by api.c. */
#ifndef SERVER_STRUCTURE_H
#define SERVER_STRUCTURE_H

#include "server/api.h"

/* Sets request->engine.grammar, which api_release releases. Returns 0, or ERR_INVALID with the
 * error in `error`. */
int structure_parse(struct api_request *request, struct response *error);

#endif
