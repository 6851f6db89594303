/* The body of POST /infill, as llama-server's clients send it (llama.vim, llama.vscode):
 * `input_prefix` and `prompt` stand before the gap, `input_suffix` behind it, and `input_extra`
 * holds other files; `n_predict`, `repeat_penalty`, `return_tokens` and `response_fields` are its
 * names for how long, how and in which form. Where no temperature is asked for, the likeliest text
 * is given. Called by api.c, on any thread; infill_json.c answers. */
#ifndef SERVER_INFILL_H
#define SERVER_INFILL_H

#include "server/api.h"

/* Fields that completions have by another name get that one. Other kinds of requests stay as they
 * are. Returns 0, or ERR_INVALID with the error in `error`. */
int infill_begin(struct api_request *request, struct response *error);

/* Makes the prompt, once the length is known, and reads what the answer is to hold. The same; 501:
 * the model has no tokens for it. */
int infill_parse(struct api_request *request, const struct api_model *model,
                 struct response *error);

#endif
