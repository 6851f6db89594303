/* A table that only grows: see mask_store.h. */
#include "text/mask_store.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define BUCKETS 1024 /* at least twice the masks, so that one is always free */

struct entry {
    int n;
    int32_t key[MASK_STORE_KEY];
};

struct mask_store {
    const struct token_trie *trie; /* borrowed */
    size_t words;
    struct entry *entries;       /* (MASK_STORE_MASKS) */
    uint64_t *masks;             /* (MASK_STORE_MASKS, words) */
    _Atomic int taken;           /* entries; more than there are when they did not suffice */
    _Atomic int bucket[BUCKETS]; /* an entry + 1, 0: none */
};

/* ---- life ---- */

static struct mask_store *make(const struct token_trie *trie, size_t words)
{
    struct mask_store *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->trie = trie;
    s->words = words;
    /* Pages that are not used take no memory. */
    s->entries = calloc(MASK_STORE_MASKS, sizeof *s->entries);
    s->masks = calloc(MASK_STORE_MASKS * words, sizeof *s->masks);
    if (s->entries && s->masks)
        return s;
    mask_store_free(s);
    return NULL;
}

void mask_store_free(struct mask_store *s)
{
    if (!s)
        return;
    free(s->entries);
    free(s->masks);
    free(s);
}

struct mask_store *mask_store_of(const struct automaton *automaton, const struct token_trie *trie,
                                 size_t words)
{
    struct automaton *a = (struct automaton *)automaton; /* what is shared alone is not constant */
    struct mask_store *s = __atomic_load_n(&a->masks, __ATOMIC_ACQUIRE), *made = NULL;
    if (!s && (made = make(trie, words))) {
        if (__atomic_compare_exchange_n(&a->masks, &s, made, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            return made;
        mask_store_free(made); /* another came first, and s is theirs */
    }
    return s && s->trie == trie && s->words == words ? s : NULL;
}

/* ---- masks ---- */

static unsigned first_bucket(const int32_t *key, int n)
{
    return (unsigned)(hash_words(HASH_BEGIN, key, (size_t)n) >> 32) % BUCKETS;
}

bool mask_store_get(const struct mask_store *s, const int32_t *key, int n, uint64_t *mask)
{
    for (unsigned at = first_bucket(key, n);; at = (at + 1) % BUCKETS) {
        int entry = atomic_load_explicit(&s->bucket[at], memory_order_acquire) - 1;
        if (entry < 0)
            return false;
        const struct entry *e = &s->entries[entry];
        if (e->n == n && !memcmp(e->key, key, (size_t)n * sizeof *key)) {
            memcpy(mask, s->masks + (size_t)entry * s->words, s->words * sizeof *mask);
            return true;
        }
    }
}

void mask_store_put(struct mask_store *s, const int32_t *key, int n, const uint64_t *mask)
{
    if (atomic_load_explicit(&s->taken, memory_order_relaxed) >= MASK_STORE_MASKS)
        return; /* so that the count does not run over */
    int entry = atomic_fetch_add_explicit(&s->taken, 1, memory_order_relaxed);
    if (entry >= MASK_STORE_MASKS)
        return;
    s->entries[entry].n = n;
    memcpy(s->entries[entry].key, key, (size_t)n * sizeof *key);
    memcpy(s->masks + (size_t)entry * s->words, mask, s->words * sizeof *mask);
    unsigned at = first_bucket(key, n);
    for (int none = 0; !atomic_compare_exchange_strong_explicit(
             &s->bucket[at], &none, entry + 1, memory_order_release, memory_order_relaxed);
         none = 0)
        at = (at + 1) % BUCKETS;
}
