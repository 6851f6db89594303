/* Tokens that a request leaves out: all but the allowed ones, and whatever would complete one of
 * its bad words, which are sequences of tokens. Of the answer alone; a word's beginning in the
 * prompt does not count. Part of the sampler, which pushes and pops; one owner, one thread. */
#ifndef ENGINE_BANS_H
#define ENGINE_BANS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/engine.h"

/* Tokens that are remembered: as long as a word, and as far back as drafts are taken back. */
#define BANS_RECENT 64

struct bans {
    uint64_t *allowed; /* a bit per token of the vocabulary; NULL = all */
    int32_t *words;    /* one after another, */
    int *lens;         /* each so long */
    int n_words;
    int32_t recent[BANS_RECENT]; /* by number of the token, modulo */
    int n_pushed;
};

/* NULL in *bans where the request leaves nothing out. ERR_MEMORY. */
int bans_new(struct bans **bans, const struct engine_request *request, int vocab, struct err *err);
void bans_free(struct bans *bans);

/* As of the sampler. NULL is allowed. */
void bans_push(struct bans *bans, int32_t token);
void bans_pop(struct bans *bans);

/* Writes the tokens that would complete a word now, some perhaps twice, and returns their number,
 * at most ENGINE_BAD_WORDS_MAX. NULL is allowed. */
int bans_now(const struct bans *bans, int32_t tokens[ENGINE_BAD_WORDS_MAX]);

#endif
