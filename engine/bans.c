/* Tokens left out: see bans.h. */
#include "engine/bans.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static_assert(ENGINE_BAD_WORD_TOKENS_MAX + ENGINE_DRAFTS_MAX < BANS_RECENT,
              "a word must be remembered though drafts are taken back");

static int allow(struct bans *b, const struct engine_request *r, int vocab)
{
    b->allowed = calloc(((size_t)vocab + 63) / 64, sizeof *b->allowed);
    if (!b->allowed)
        return ERR_MEMORY;
    for (size_t i = 0; i < r->n_allowed; i++)
        b->allowed[r->allowed[i] / 64] |= UINT64_C(1) << r->allowed[i] % 64;
    return 0;
}

static int take_words(struct bans *b, const struct engine_request *r)
{
    size_t n = 0;
    for (int i = 0; i < r->n_bad; i++)
        n += (size_t)r->bad_lens[i];
    b->words = malloc(n * sizeof *b->words);
    b->lens = malloc((size_t)r->n_bad * sizeof *b->lens);
    if (!b->words || !b->lens)
        return ERR_MEMORY;
    memcpy(b->words, r->bad_tokens, n * sizeof *b->words);
    memcpy(b->lens, r->bad_lens, (size_t)r->n_bad * sizeof *b->lens);
    b->n_words = r->n_bad;
    return 0;
}

int bans_new(struct bans **bans, const struct engine_request *r, int vocab, struct err *err)
{
    *bans = NULL;
    if (!r->n_allowed && !r->n_bad)
        return 0;
    struct bans *b = calloc(1, sizeof *b);
    int rc = b ? 0 : ERR_MEMORY;
    if (!rc && r->n_allowed)
        rc = allow(b, r, vocab);
    if (!rc && r->n_bad)
        rc = take_words(b, r);
    if (rc) {
        bans_free(b);
        return err_set(err, rc, "no memory for the tokens that a request leaves out");
    }
    *bans = b;
    return 0;
}

void bans_free(struct bans *b)
{
    if (!b)
        return;
    free(b->allowed);
    free(b->words);
    free(b->lens);
    free(b);
}

void bans_push(struct bans *b, int32_t token)
{
    if (b)
        b->recent[b->n_pushed++ % BANS_RECENT] = token;
}

void bans_pop(struct bans *b)
{
    if (b)
        b->n_pushed--;
}

/* Whether the answer so far ends with these tokens. */
static bool ends_with(const struct bans *b, const int32_t *tokens, int n)
{
    for (int i = 0; i < n; i++)
        if (n > b->n_pushed || b->recent[(b->n_pushed - n + i) % BANS_RECENT] != tokens[i])
            return false;
    return true;
}

int bans_now(const struct bans *b, int32_t tokens[ENGINE_BAD_WORDS_MAX])
{
    int n = 0;
    const int32_t *word = b ? b->words : NULL;
    for (int i = 0; b && i < b->n_words; word += b->lens[i++])
        if (ends_with(b, word, b->lens[i] - 1))
            tokens[n++] = word[b->lens[i] - 1];
    return n;
}
