/* Byte-level byte-pair encoding (Radford et al. 2019): a piece's bytes are tokens, which merge by
 * rank. Immutable once made; any thread. */
#ifndef TEXT_BPE_H
#define TEXT_BPE_H

#include <stdbool.h>

#include "text/merge.h"
#include "text/tokenizer.h"

/* What tokens decode to: token i's bytes go from begins[i] to begins[i + 1]. */
struct token_bytes {
    struct buf bytes;
    uint32_t *begins; /* owned; one more than tokens */
};

struct bpe {
    struct text_map texts; /* of the tokens that text can become */
    struct merge_rules rules;
    int32_t byte_ids[256]; /* -1: the vocabulary lacks it */
    bool ignore_merges;
    int32_t unknown; /* for such bytes, -1: they are left out, as the reference does */
};

/* `bytes` is borrowed. ERR_INVALID, ERR_MEMORY. */
int bpe_init(struct bpe *bpe, const struct vocab *vocab, const struct token_bytes *bytes,
             struct err *err);
void bpe_release(struct bpe *bpe);

/* Appends a piece's tokens. ERR_MEMORY. */
int bpe_encode(const struct bpe *bpe, struct merger *merger, const char *piece, size_t len,
               struct tokens *tokens, struct err *err);

#endif
