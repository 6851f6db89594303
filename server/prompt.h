/* The `prompt` field of completions in its four shapes: a string, a list of strings, token ids, a
 * list of lists of token ids; and what only completions have beside it: echo, logprobs as a number,
 * parse_special, add_special_tokens. Called by api.c; chat.c makes its prompt with it too. */
#ifndef SERVER_PROMPT_H
#define SERVER_PROMPT_H

#include "server/api.h"

/* Fills request->prompts from request->json: text is tokenised, token ids are taken as they are.
 * Every prompt leaves room for at least one more token. Returns 0, or ERR_INVALID with the error in
 * `error`. */
int prompts_parse(struct api_request *request, const struct api_model *model,
                  struct response *error);

/* Makes room for n prompts, empty ones. */
int prompts_make(struct api_request *request, size_t n, struct response *error);
void prompts_release(struct api_request *request);

/* Appends the tokens of a text to the prompt's. `param` is the field to blame. */
int prompt_encode(struct api_prompt *prompt, const struct api_model *model, const char *text,
                  size_t len, const struct encode_options *options, const char *param,
                  struct response *error);

/* Appends the prompt's text: as it was written, or token by token, control tokens as they would be
 * written. */
void prompt_write(const struct api_prompt *prompt, const struct tokenizer *tokenizer,
                  struct buf *out);

/* Whether it is neither empty nor longer than the context allows. */
int prompt_check(const struct api_prompt *prompt, const struct api_model *model, const char *param,
                 struct response *error);

#endif
