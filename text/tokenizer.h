/* Text to tokens and back, for every kind of vocabulary (vocab.h). A tokenizer is immutable once
 * made; all functions may be called from any thread. */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/vocab.h"

struct tokenizer;

/* Takes the vocabulary over (it is empty afterwards, in error too). ERR_INVALID names what is wrong
 * with it: ids out of range, merges that are mostly of texts that are no tokens, an unknown name of
 * expressions, expressions that do not compile. Real files have some merges that lead nowhere,
 * which are left out, and tokens of one text, of which the last counts. ERR_MEMORY. */
int tokenizer_init(struct tokenizer **tokenizer, struct vocab *vocab, struct err *err);
void tokenizer_free(struct tokenizer *tokenizer); /* NULL is allowed */

/* A part of a text, in bytes. */
struct text_range {
    size_t begin, end;
};

struct tokens {
    int32_t *ids; /* owned, freed with free() */
    size_t n, room;
};

struct encode_options {
    bool add_special;   /* bos and eos as the model wants them around a whole prompt */
    bool parse_special; /* special tokens written out in the text become those tokens */
    /* With parse_special: ranges, rising and apart, whose text is text whatever it says. A special
     * token is found only where none of its bytes lies in one of them. Tokens of kind ADDED are
     * found everywhere and always: models read and write text by them. */
    const struct text_range *literal;
    size_t n_literal;
};

/* Appends the tokens of a text (any bytes; what is not UTF-8 is kept byte by byte). Decoded they
 * give the text back, but for what the model's own tokenizer changes: normal form C (Qwen), U+2581
 * as a space (SentencePiece), bytes that the vocabulary lacks and leaves out (SmolLM2). ERR_MEMORY,
 * ERR_INVALID when an expression gave up (PCRE2's limits) or the text has more than 2^28 bytes. */
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t len,
                     const struct encode_options *options, struct tokens *tokens, struct err *err);

/* The bytes that `token` adds to a text behind the token `before` (-1: it is the text's first). The
 * pointer lives as long as the tokenizer. Control, unused and unknown ids give no bytes.
 * `before` matters to SentencePiece: the leading space of the first word, there and behind control
 * and added tokens, is not part of the text. */
const char *tokenizer_bytes(const struct tokenizer *tokenizer, int32_t before, int32_t token,
                            size_t *len);

/* Whether the space before a text's first word is no part of a text that stands behind `before`. */
bool tokenizer_strips(const struct tokenizer *tokenizer, int32_t before);

/* The text of a control token as the vocabulary writes it ("<|im_end|>"); of other tokens their
 * bytes. */
const char *tokenizer_written(const struct tokenizer *tokenizer, int32_t token, size_t *len);

/* The control or added token of exactly that text, -1 for none. */
int32_t tokenizer_special(const struct tokenizer *tokenizer, const char *text, size_t len);

int tokenizer_vocab(const struct tokenizer *tokenizer); /* ids go from 0 to this, exclusive */
int tokenizer_bos(const struct tokenizer *tokenizer);   /* -1 for none */
int tokenizer_eos(const struct tokenizer *tokenizer);
bool tokenizer_adds_bos(const struct tokenizer *tokenizer);
/* Tokens that end an answer: the vocabulary's, and control tokens known by name as such. */
const int32_t *tokenizer_ends(const struct tokenizer *tokenizer, int *n);

#endif
