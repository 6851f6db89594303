/* The tokens of a vocabulary as a tree of their bytes, so that all that begin with what cannot
 * follow are left out together. Immutable once made; any thread. */
#ifndef TEXT_TOKEN_TRIE_H
#define TEXT_TOKEN_TRIE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "text/tokenizer.h"

#define TOKEN_TRIE_DEPTH 255 /* tokens of more bytes are left out */

/* A byte behind those above it. Nodes stand depth first; node 0 is the root, without a byte. */
struct trie_node {
    uint32_t end;   /* the node behind its subtree */
    uint32_t token; /* its tokens are tokens[token] to the next node's */
    uint8_t byte, depth;
};

struct token_trie {
    const struct tokenizer *tokenizer; /* borrowed */
    struct trie_node *nodes;           /* (n_nodes + 1) the last one only ends the lists */
    uint32_t n_nodes;
    int32_t *tokens; /* tokens without text, control tokens and those that end an answer are not
                        among them */
    int n_tokens;
};

/* Begin with a zeroed one. ERR_MEMORY. */
int token_trie_init(struct token_trie *trie, const struct tokenizer *tokenizer, struct err *err);
void token_trie_release(struct token_trie *trie);

#endif
