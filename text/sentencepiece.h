/* SentencePiece's byte-pair encoding (Kudo and Richardson 2018, 1808.06226), as Llama 2 uses it:
 * spaces are written U+2581, characters merge over the whole text, by their token's score or, with
 * merges from a tokenizer.json, by rank; what is no token becomes bytes. Immutable once made; any
 * thread. */
#ifndef TEXT_SENTENCEPIECE_H
#define TEXT_SENTENCEPIECE_H

#include <stdbool.h>

#include "text/merge.h"
#include "text/tokenizer.h"

#define SPACE_MARK "\xe2\x96\x81" /* U+2581 */

struct sentencepiece {
    struct text_map texts; /* of the tokens that text can become */
    struct merge_rules rules;
    uint32_t *ranks; /* owned; by token, the highest score first; NULL with merges */
    int32_t byte_ids[256];
    bool all_bytes;     /* none of them is missing */
    bool cut_at_spaces; /* no token goes over the beginning of a word: words can be done alone */
    int32_t unknown;
    struct vocab_rules how;
};

/* The vocabulary's strings are borrowed. ERR_INVALID, ERR_MEMORY. */
int sentencepiece_init(struct sentencepiece *sp, const struct vocab *vocab, struct err *err);
void sentencepiece_release(struct sentencepiece *sp);

/* Appends the tokens of what stands between special tokens; `first`: before the first of them.
 * ERR_MEMORY. */
int sentencepiece_encode(const struct sentencepiece *sp, struct merger *merger, const char *text,
                         size_t len, bool first, struct tokens *tokens, struct err *err);

/* The byte of a token written <0xHH>, -1 for others. */
int sentencepiece_byte(const char *text, size_t len);

#endif
