/* What a chat template puts around a single question: for programs that ask a model many. */
#ifndef TEXT_CHAT_FRAME_H
#define TEXT_CHAT_FRAME_H

#include "text/tokenizer.h"

/* A zeroed struct is empty. */
struct chat_frame {
    struct tokens before, behind; /* owned */
};

/* From a template of `len` bytes; without one (0) a text begins as the tokenizer has it, and
 * nothing stands behind. ERR_INVALID, ERR_MEMORY. */
int chat_frame_init(struct chat_frame *frame, const struct tokenizer *tokenizer,
                    const char *template, size_t len, struct err *err);
void chat_frame_release(struct chat_frame *frame);

/* Appends tokens to others. ERR_MEMORY. */
int tokens_append(struct tokens *to, const int32_t *ids, size_t n, struct err *err);

#endif
