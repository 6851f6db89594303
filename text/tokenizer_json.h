/* Hugging Face's tokenizer files, untrusted: tokenizer.json (the format of their tokenizers
 * library) and tokenizer_config.json. What a file asks for and is not done here is refused by name.
 */
#ifndef TEXT_TOKENIZER_JSON_H
#define TEXT_TOKENIZER_JSON_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/vocab.h"

/* Fills a zeroed vocabulary from the text of a tokenizer.json, which `where` names in errors:
 * byte-level BPE, or BPE over SentencePiece's spaces as Llama 2 has it. bos and eos are what the
 * post-processor puts around a text, -1 without; their names are in the other file. After an error
 * the vocabulary is empty. ERR_INVALID, ERR_MEMORY. */
int tokenizer_json_parse(struct vocab *vocab, const char *text, size_t len, const char *where,
                         struct err *err);

/* Takes bos_token, eos_token, add_bos_token and add_eos_token from a tokenizer_config.json, and
 * appends its chat template, of several the one named default, to `chat_template` (nothing when it
 * has none). ERR_INVALID, ERR_MEMORY; the vocabulary stays its owner's. */
int tokenizer_config_parse(struct vocab *vocab, struct buf *chat_template, const char *text,
                           size_t len, const char *where, struct err *err);

#endif
