/* The prefix cache: pages of keys and values by the tokens that they hold, so that a text begins
 * with the pages of another that begins alike, be it running or ended: turns of a conversation, the
 * n choices of a request, many requests with one system prompt. Results are the same bits as if
 * every token had been read again.
 *
 * It knows every whole page of committed tokens of the sequences that run. What ended ones leave
 * stays as long as memory allows, the least recently used go first, and pages that are wanted for
 * running texts always go (kv.h: n_idle). The scheduler owns it: decode thread only.
 *
 * A page is known by its tokens and the page before it, so a chain of pages is a text from its
 * beginning on. All pages of a sequence that are known form a chain: a page that holds the same as
 * a known one is given up for it. So who holds a page holds all before it, and pages that nobody
 * holds have none behind them that somebody does. */
#ifndef ENGINE_PREFIX_H
#define ENGINE_PREFIX_H

#include <stdint.h>

#include "base/err.h"
#include "model/kv.h"

struct prefix_page {
    bool known;
    int parent;    /* number of the page before it, or -1 */
    int children;  /* known pages that stand behind it */
    int next;      /* in its bucket, or -1 */
    int heads;     /* heads 1..heads have seen it too (heads with caches) */
    uint64_t hash; /* of the salt (see prefix_find) and the text up to its end */
    uint64_t used; /* the later, the larger */
    int32_t tokens[KV_PAGE];
};

struct prefix {
    struct kv_pool *pool;
    struct prefix_page *pages; /* (pool's) by number */
    int *buckets;              /* (n_buckets) first page, or -1 */
    size_t n_buckets;          /* a power of two */
    int most_idle;             /* pages kept that no sequence holds */
    uint64_t clock;
};

/* A chain of known pages: how many, and the number of the last. */
struct prefix_chain {
    int n, last;
};

/* kept: bytes of pages that no sequence holds. The pool is borrowed. ERR_MEMORY. */
int prefix_init(struct prefix *prefix, struct kv_pool *pool, size_t kept, struct err *err);
void prefix_release(struct prefix *prefix);

/* The longest chain of whole pages with which a text of n tokens begins. salt: texts with different
 * ones share nothing. heads: that must have seen it. */
struct prefix_chain prefix_find(const struct prefix *prefix, uint64_t salt, int heads,
                                const int32_t *tokens, int n);
/* An empty cache begins with that chain. */
void prefix_begin(struct prefix *prefix, struct kv *kv, struct prefix_chain chain);

/* Page i of a cache is known from now on, by its KV_PAGE tokens, all committed; those before it are
 * known. Perhaps another that holds the same takes its place. */
void prefix_add(struct prefix *prefix, struct kv *kv, int i, uint64_t salt, int heads,
                const int32_t *tokens);

/* The first n pages of a cache, all known, were in use until now. */
void prefix_touch(struct prefix *prefix, const struct kv *kv, int n);

/* Forgets idle pages until so many are free, or none is left. */
void prefix_free(struct prefix *prefix, int n_free);
/* Forgets idle pages beyond those that may be kept. */
void prefix_trim(struct prefix *prefix);

#endif
