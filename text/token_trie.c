/* The tree of tokens: see token_trie.h. */
#include "text/token_trie.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    const char *bytes;
    size_t len;
    int32_t token;
};

static int by_bytes(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int order = memcmp(x->bytes, y->bytes, x->len < y->len ? x->len : y->len);
    if (order)
        return order;
    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    return (x->token > y->token) - (x->token < y->token);
}

static bool is_end(const int32_t *ends, int n, int32_t token)
{
    for (int i = 0; i < n; i++)
        if (ends[i] == token)
            return true;
    return false;
}

/* Sorted. Returns how many; `total` is the sum of their bytes. */
static int list_tokens(const struct tokenizer *t, struct entry *list, size_t *total)
{
    int n = 0, n_ends, vocab = tokenizer_vocab(t);
    const int32_t *ends = tokenizer_ends(t, &n_ends);
    *total = 0;
    for (int32_t i = 0; i < vocab; i++) {
        struct entry e = {.token = i};
        e.bytes = tokenizer_bytes(t, i, i, &e.len); /* behind itself: with the space of a word */
        if (!e.len || e.len > TOKEN_TRIE_DEPTH || is_end(ends, n_ends, i))
            continue;
        *total += e.len;
        list[n++] = e;
    }
    qsort(list, (size_t)n, sizeof *list, by_bytes);
    return n;
}

static size_t common(const struct entry *a, const struct entry *b)
{
    size_t n = 0;
    while (n < a->len && n < b->len && a->bytes[n] == b->bytes[n])
        n++;
    return n;
}

/* Nodes for what a token does not share with the one before it, and the ends of those behind which
 * nothing comes any more. */
static void build(struct token_trie *trie, const struct entry *list, int n)
{
    uint32_t path[TOKEN_TRIE_DEPTH + 1] = {0}, n_nodes = 1;
    size_t depth = 0;
    trie->nodes[0] = (struct trie_node){0};
    for (int i = 0; i < n; i++) {
        size_t shared = i ? common(&list[i - 1], &list[i]) : 0;
        for (; depth > shared; depth--)
            trie->nodes[path[depth]].end = n_nodes;
        for (; depth < list[i].len; n_nodes++) {
            uint8_t byte = (uint8_t)list[i].bytes[depth++];
            trie->nodes[n_nodes] =
                (struct trie_node){.token = (uint32_t)i, .byte = byte, .depth = (uint8_t)depth};
            path[depth] = n_nodes;
        }
        trie->tokens[i] = list[i].token;
    }
    for (; depth > 0; depth--)
        trie->nodes[path[depth]].end = n_nodes;
    trie->nodes[0].end = n_nodes;
    trie->nodes[n_nodes] = (struct trie_node){.token = (uint32_t)n};
    trie->n_nodes = n_nodes;
    trie->n_tokens = n;
}

int token_trie_init(struct token_trie *trie, const struct tokenizer *tokenizer, struct err *err)
{
    size_t vocab = (size_t)tokenizer_vocab(tokenizer), total = 0;
    struct entry *list = malloc(vocab * sizeof *list);
    int n = list ? list_tokens(tokenizer, list, &total) : 0;
    *trie = (struct token_trie){.tokenizer = tokenizer};
    trie->tokens = malloc((size_t)n * sizeof *trie->tokens + 1);
    trie->nodes = list ? malloc((total + 2) * sizeof *trie->nodes) : NULL;
    if (trie->tokens && trie->nodes) {
        build(trie, list, n);
        struct trie_node *less = realloc(trie->nodes, (trie->n_nodes + 1) * sizeof *less);
        trie->nodes = less ? less : trie->nodes;
    }
    free(list);
    if (trie->tokens && trie->nodes)
        return 0;
    token_trie_release(trie);
    return err_set(err, ERR_MEMORY, "no memory left for a tree of %zu tokens", vocab);
}

void token_trie_release(struct token_trie *trie)
{
    free(trie->nodes);
    free(trie->tokens);
    *trie = (struct token_trie){0};
}
