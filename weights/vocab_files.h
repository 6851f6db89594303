/* The files of a model's folder that say what its tokens and its chat template are:
 *
 *     tokenizer.gguf          the tokenizer's keys of a GGUF file, and nothing else
 *     tokenizer.json          and tokenizer_config.json: Hugging Face
 *     tokenizer.model         SentencePiece
 *     chat_template.jinja     before any other place of a template
 *
 * Untrusted; any thread. */
#ifndef WEIGHTS_VOCAB_FILES_H
#define WEIGHTS_VOCAB_FILES_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/vocab.h"
#include "weights/gguf.h"
#include "weights/source.h"

/* The first of these files that the folder has, into a zeroed vocab; *found says whether it has
 * any. ERR_IO, ERR_INVALID, ERR_MEMORY. */
int vocab_files_read(struct vocab *vocab, const char *folder, bool *found, struct err *err);
/* Appends the chat template, if there is one. */
int template_files_read(struct buf *out, const char *folder, struct err *err);

/* The same from an open GGUF file. */
int gguf_vocab(const struct gguf *gguf, struct vocab *vocab, struct err *err);
/* The token under a key, -1 where there is none. */
int gguf_get_token(const struct gguf *gguf, const char *key, int *token, struct err *err);
int gguf_template(const struct gguf *gguf, struct buf *out, struct err *err);

/* Writes to FOLDER what source_vocab and source_template read, for a folder of headway's. ERR_IO,
 * ERR_INVALID, ERR_MEMORY. */
int source_copy_text(const struct source *source, const char *folder, struct err *err);

#endif
