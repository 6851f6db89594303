/* A text beside its automaton, token by token: which tokens may come next. A cursor: push, pop,
 * mask. A mask is a function of the automaton and the bytes so far, whatever was looked at between.
 * One owner, one thread at a time. Memory is taken at the start and bounded, a few MiB; and so is
 * the time that masks take, as some automata have a set of states for every text: who has used it
 * up, or the memory, has failed. Matchers of one automaton share masks (mask_store.h). */
#ifndef TEXT_MATCHER_H
#define TEXT_MATCHER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "text/mask_store.h"
#include "text/positions.h"
#include "text/token_trie.h"

#define MATCHER_POPS_MAX 63 /* the last so many pushes can be taken back */
#define MATCHER_MASKS 64    /* masks that are kept */
#define MATCHER_SECONDS 1.0 /* that masks may take, and for each push more */
#define MATCHER_SECONDS_A_PUSH 0.01

struct matcher {
    const struct token_trie *trie; /* borrowed */
    struct positions positions;
    size_t words; /* of a mask */
    bool never_ends;
    const char *failed; /* why: no token is allowed from then on */
    double seconds,
        began;     /* left for masks; when the one in work was begun, by the thread's clock */
    unsigned made; /* positions, for masks */

    /* Positions behind the last pushes, in turn, and those on the way down the tree. */
    int32_t at[MATCHER_POPS_MAX + 1 + TOKEN_TRIE_DEPTH + 1];
    int32_t token[MATCHER_POPS_MAX + 1]; /* pushed last, there */
    unsigned n;                          /* pushes */

    uint64_t *masks; /* (MATCHER_MASKS + 1, words) the last is for masks that are not kept */
    int32_t mask_at[MATCHER_MASKS]; /* the position, NONE: no mask */
    int8_t *mask_of;                /* (POSITIONS_MAX) its place among masks, -1: none */
    int next_mask;                  /* the oldest */
    struct mask_store *store;       /* the automaton's, NULL: nothing is shared */
};

/* vocab: tokens of a mask, at least as many as the tokenizer has. before: the token before the
 * text, -1: none. never_ends: tokens that end an answer are allowed only where nothing else is.
 * ERR_MEMORY. */
int matcher_init(struct matcher *matcher, const struct automaton *automaton,
                 const struct token_trie *trie, int vocab, int32_t before, bool never_ends,
                 struct err *err);
void matcher_release(struct matcher *matcher);

/* Behind a token that the mask does not allow nothing is, until it is taken back. */
void matcher_push(struct matcher *matcher, int32_t token);
void matcher_pop(struct matcher *matcher);

/* A bit per token of the vocabulary, valid until the next call. Tokens that end an answer are in it
 * where the text may end and could go on; all bits are 0 where it is complete. */
const uint64_t *matcher_mask(struct matcher *matcher);

/* The text is whole, and nothing may follow. */
bool matcher_complete(const struct matcher *matcher);
/* Tokens of the list that may come, one after another: 0..n. */
int matcher_admits(struct matcher *matcher, const int32_t *tokens, int n);

#endif
