/* Masks of tokens that matchers of one automaton share: what one has worked out, the others copy.
 * They belong to the automaton and end with it. Positions have numbers of their own in each
 * matcher, so that a mask is kept by what its position is (positions_describe).
 *
 * Any thread, without a lock: a mask is written by who has taken its place, and never again once it
 * can be found. Two that work out the same mask at once may both leave it here. When all places are
 * taken, no more masks are shared. */
#ifndef TEXT_MASK_STORE_H
#define TEXT_MASK_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text/automaton.h"
#include "text/token_trie.h"

/* A bit per token each: 5 MiB for 150,000 tokens, when all are used. */
#define MASK_STORE_MASKS 256
#define MASK_STORE_KEY 128 /* numbers that describe a position, at most */

struct mask_store;

/* The automaton's, made when it is first asked for. NULL when there is no memory, or when it is for
 * another vocabulary: then nothing is shared. The trie must outlive the automaton. */
struct mask_store *mask_store_of(const struct automaton *automaton, const struct token_trie *trie,
                                 size_t words);
void mask_store_free(struct mask_store *store); /* by automaton_release; NULL is allowed */

/* Copies the mask, of so many words as the store was made for, and returns whether it is there. */
bool mask_store_get(const struct mask_store *store, const int32_t *key, int n, uint64_t *mask);
void mask_store_put(struct mask_store *store, const int32_t *key, int n, const uint64_t *mask);

#endif
