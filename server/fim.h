/* Fill in the middle: a prompt of what stands before the gap and what stands behind it, in the
 * shape of models that were trained for it (prefix, suffix, middle: Bavarian et al. 2022, arXiv
 * 2207.14255, "PSM"). Called by prompt.c, on any thread. */
#ifndef SERVER_FIM_H
#define SERVER_FIM_H

#include "server/api.h"

/* Appends the prompt's tokens. Control tokens that are written out in the texts are text. Returns
 * 0, or ERR_INVALID with the error in `error`: the model has no tokens for it, or a text cannot be
 * encoded. */
int fim_encode(struct api_prompt *prompt, const struct api_model *model, const char *before,
               size_t before_len, const char *behind, size_t behind_len, bool add_special,
               struct response *error);

#endif
