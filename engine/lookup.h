/* The drafter that costs nothing: texts repeat themselves (code, tables, answers that quote the
 * prompt), so what followed the last occurrence of the longest repeated suffix is a draft. Known as
 * prompt look-up or n-gram speculation; unlike those, the suffix may have any length.
 *
 * A suffix automaton (Blumer et al. 1985) of one sequence, fed token by token. It finds the longest
 * suffix that occurred before however long it is, where chains of hashed n-grams would have to give
 * up on repetitive text. Appending n tokens takes O(n) together whatever they are: an automaton has
 * at most 2n states and 3n edges, and edges are hashed, so the vocabulary's size does not matter.
 * One owner, one thread. */
#ifndef ENGINE_LOOKUP_H
#define ENGINE_LOOKUP_H

#include <stdint.h>

#include "base/err.h"

struct lookup {
    int context; /* tokens there is room for */
    int n;
    int match_length, match_end; /* the longest suffix that occurred before; its last token there */
    int32_t *tokens;             /* (context) */
    struct lookup_state *states;
    struct lookup_edge *edges;
    int32_t *first; /* (mask + 1) by hash: an edge + 1, or 0 */
    uint32_t mask;
    int n_states, n_edges, last;
    void *block; /* all of it, about 130 bytes a token */
};

/* Room for `context` tokens, allocated once. ERR_MEMORY. */
int lookup_init(struct lookup *lookup, int context, struct err *err);
void lookup_release(struct lookup *lookup);

/* Forgets the sequence; takes time for what was in it, not for the context. */
void lookup_reset(struct lookup *lookup);

/* Adds a committed token (or one of the prompt). Tokens beyond the context are ignored. */
void lookup_append(struct lookup *lookup, int32_t token);

/* Writes at most `most` tokens that may come next and returns how many; 0 when not even the last
 * token occurred before. Where the earlier occurrence runs into the end of the text, its period
 * goes on. The match's length says how far to trust it. The occurrence is the most recent one, but
 * for rare cases with very many nested repeats (see RECENT). */
int lookup_propose(const struct lookup *lookup, int most, int32_t *tokens, int *match_length);

#endif
