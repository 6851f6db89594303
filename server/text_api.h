/* Text to tokens, tokens to text and messages to a prompt, without decoding, as llama-server has
 * them: POST /tokenize, /detokenize, /apply-template; and Anthropic's /v1/messages/count_tokens.
 * Knows neither HTTP nor the engine's inside. Called by exchange.c on the loop thread.
 *
 * Bodies and responses: {"content", "add_special", "parse_special", "with_pieces"} gives
 * {"tokens"}; {"tokens"} gives {"content"}; what /v1/chat/completions takes gives {"prompt"}; what
 * /v1/messages takes gives {"input_tokens"}. */
#ifndef SERVER_TEXT_API_H
#define SERVER_TEXT_API_H

#include "server/api.h"

/* Each makes the response, an error or not. */
void text_api_tokenize(const struct api_model *model, const char *body, size_t len,
                       struct response *response);
void text_api_detokenize(const struct api_model *model, const char *body, size_t len,
                         struct response *response);
void text_api_apply_template(const struct api_model *model, const char *body, size_t len,
                             struct response *response);
void text_api_count_tokens(const struct api_model *model, const char *body, size_t len,
                           struct response *response);

#endif
