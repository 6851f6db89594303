/* Pages by their tokens: a hash table over the numbers of pages. */
#include "engine/prefix.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

int prefix_init(struct prefix *x, struct kv_pool *pool, size_t kept, struct err *err)
{
    size_t n = (size_t)pool->n_pages, most = kept / pool->page_bytes;
    *x = (struct prefix){.pool = pool, .most_idle = most < n ? (int)most : (int)n, .n_buckets = 1};
    while (x->n_buckets < 2 * n)
        x->n_buckets *= 2;
    x->pages = calloc(n, sizeof *x->pages);
    x->buckets = malloc(x->n_buckets * sizeof *x->buckets);
    if (!x->pages || !x->buckets) {
        prefix_release(x);
        return err_set(err, ERR_MEMORY, "no memory for a list of %zu pages", n);
    }
    memset(x->buckets, -1, x->n_buckets * sizeof *x->buckets);
    return 0;
}

void prefix_release(struct prefix *x)
{
    free(x->pages);
    free(x->buckets);
    memset(x, 0, sizeof *x);
}

/* ---- finding ---- */

/* Of a text up to the end of a page, from that of the text before it. */
static uint64_t hash_page(uint64_t hash, const int32_t *tokens)
{
    hash = hash_words(hash, tokens, KV_PAGE);
    return hash ^ hash >> 32;
}

static uint64_t hash_begin(uint64_t salt)
{
    return salt ^ HASH_BEGIN;
}

static int *bucket(const struct prefix *x, uint64_t hash)
{
    return &x->buckets[hash & (x->n_buckets - 1)];
}

/* The known page with these tokens behind `parent`, or -1. The same tokens behind nothing have the
 * same hash only with the same salt. */
static int find(const struct prefix *x, int parent, uint64_t hash, const int32_t *tokens)
{
    int at = *bucket(x, hash);
    for (; at >= 0; at = x->pages[at].next) {
        const struct prefix_page *p = &x->pages[at];
        if (p->hash == hash && p->parent == parent && !memcmp(p->tokens, tokens, sizeof p->tokens))
            break;
    }
    return at;
}

struct prefix_chain prefix_find(const struct prefix *x, uint64_t salt, int heads,
                                const int32_t *tokens, int n)
{
    struct prefix_chain chain = {0, -1};
    uint64_t hash = hash_begin(salt);
    for (; (chain.n + 1) * KV_PAGE <= n; chain.n++) {
        const int32_t *page = tokens + chain.n * KV_PAGE;
        hash = hash_page(hash, page);
        int at = find(x, chain.last, hash, page);
        if (at < 0 || x->pages[at].heads < heads)
            break;
        chain.last = at;
    }
    return chain;
}

void prefix_begin(struct prefix *x, struct kv *kv, struct prefix_chain chain)
{
    int list[chain.n + 1];
    for (int i = chain.n - 1, at = chain.last; i >= 0; i--, at = x->pages[at].parent)
        list[i] = at;
    for (int i = 0; i < chain.n; i++)
        kv_share(kv, list[i]);
}

/* ---- knowing and forgetting ---- */

void prefix_add(struct prefix *x, struct kv *kv, int i, uint64_t salt, int heads,
                const int32_t *tokens)
{
    int at = kv_number(kv, i), parent = i ? kv_number(kv, i - 1) : -1;
    assert(!x->pages[at].known && (!i || x->pages[parent].known));
    uint64_t hash = hash_page(i ? x->pages[parent].hash : hash_begin(salt), tokens);
    int same = find(x, parent, hash, tokens);
    if (same >= 0) {
        /* What the trunk wrote is the same; more heads may have seen it here. */
        if (x->pages[same].heads < heads) {
            kv_copy_page(x->pool, at, same);
            x->pages[same].heads = heads;
        }
        kv_replace(kv, i, same);
        return;
    }
    struct prefix_page *p = &x->pages[at];
    *p = (struct prefix_page){.known = true,
                              .parent = parent,
                              .next = *bucket(x, hash),
                              .heads = heads,
                              .hash = hash,
                              .used = x->clock};
    memcpy(p->tokens, tokens, sizeof p->tokens);
    *bucket(x, hash) = at;
    if (i)
        x->pages[parent].children++;
    kv_keep(x->pool, at);
}

static void forget(struct prefix *x, int at)
{
    struct prefix_page *p = &x->pages[at];
    int *link = bucket(x, p->hash);
    while (*link != at)
        link = &x->pages[*link].next;
    *link = p->next;
    if (p->parent >= 0)
        x->pages[p->parent].children--;
    p->known = false;
    kv_forget(x->pool, at);
}

void prefix_touch(struct prefix *x, const struct kv *kv, int n)
{
    x->clock++;
    for (int i = 0; i < n; i++)
        x->pages[kv_number(kv, i)].used = x->clock;
}

/* The least recently used page that nobody holds and that none stands behind. */
static int oldest(const struct prefix *x)
{
    int found = -1;
    for (int i = 0; i < x->pool->n_pages; i++)
        if (x->pages[i].known && kv_idle(x->pool, i) && !x->pages[i].children &&
            (found < 0 || x->pages[i].used < x->pages[found].used))
            found = i;
    return found;
}

void prefix_free(struct prefix *x, int n_free)
{
    while (x->pool->n_free < n_free && x->pool->n_idle)
        forget(x, oldest(x));
}

void prefix_trim(struct prefix *x)
{
    while (x->pool->n_idle > x->most_idle)
        forget(x, oldest(x));
}
