/* A conversation as a prompt: `messages` and `tools` through the model's chat template, and what
 * only chats have beside them: tool_choice, chat_template_kwargs, add_generation_prompt,
 * continue_final_message, logprobs as a truth value with top_logprobs.
 *
 * What a client wrote is text, whatever it says: the template marks where its output came from the
 * conversation, and special tokens are only sought in what the template wrote itself. */
#ifndef SERVER_CHAT_H
#define SERVER_CHAT_H

#include "server/api.h"

/* Fills request->prompts, one prompt, from request->json. Returns 0, or ERR_INVALID with the error
 * in `error`. Called by api.c. */
int chat_parse(struct api_request *request, const struct api_model *model, struct response *error);

/* The text alone; release it in both cases. Returns 0, or ERR_INVALID with the error in `error`. */
int chat_render(const json_t *root, const struct api_model *model, struct rendered *rendered,
                struct response *error);

#endif
