/* Log-probabilities of a token and of the best tokens beside it, of the model's own distribution:
 * before temperature, penalties and cuts. Any thread. */
#ifndef ENGINE_LOGPROBS_H
#define ENGINE_LOGPROBS_H

#include "engine/engine.h"

/* Fills t for a token that follows a row of logits (V), with its n_top best alternatives. */
void logprobs_describe(const float *logits, int vocab, int32_t token, int n_top,
                       struct engine_token *t);
/* A token without them. */
void logprobs_none(int32_t token, struct engine_token *t);

#endif
