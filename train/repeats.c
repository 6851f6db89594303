/* Loops and near-duplicates: see repeats.h. */
#include "train/repeats.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

#define LOOP_RUN 4
#define LOOP_SHARE 0.5 /* of its runs that are new, a text has at least */
#define SEEN_RUN 8

static uint64_t hash(const int32_t *tokens, int n)
{
    uint64_t h = 1;
    for (int i = 0; i < n; i++)
        h = rng_mix(h ^ (uint32_t)tokens[i]);
    return h ? h : 1;
}

/* ---- a set of hashes ---- */

/* Its slot, or the free one where it would stand. */
static size_t find(const struct seen_text *s, uint64_t h)
{
    size_t i = (size_t)h & (s->size - 1);
    while (s->slot[i] && s->slot[i] != h)
        i = (i + 1) & (s->size - 1);
    return i;
}

static bool has(const struct seen_text *s, uint64_t h)
{
    return s->size && s->slot[find(s, h)];
}

static int grow(struct seen_text *s, struct err *err)
{
    struct seen_text larger = {.size = s->size ? 2 * s->size : 1024, .used = s->used};
    larger.slot = calloc(larger.size, sizeof *larger.slot);
    if (!larger.slot)
        return err_set(err, ERR_MEMORY, "no memory to remember %zu runs of tokens", larger.size);
    for (size_t i = 0; i < s->size; i++)
        if (s->slot[i])
            larger.slot[find(&larger, s->slot[i])] = s->slot[i];
    free(s->slot);
    *s = larger;
    return 0;
}

static int put(struct seen_text *s, uint64_t h, struct err *err)
{
    if (2 * (s->used + 1) > s->size && grow(s, err))
        return ERR_MEMORY;
    uint64_t *slot = &s->slot[find(s, h)];
    s->used += !*slot;
    *slot = h;
    return 0;
}

/* ---- texts ---- */

bool text_loops(const int32_t *tokens, size_t n)
{
    struct seen_text own = {0};
    size_t runs = n < LOOP_RUN ? 0 : n - LOOP_RUN + 1;
    bool loops = false;
    for (size_t i = 0; i < runs; i++)
        if (put(&own, hash(tokens + i, LOOP_RUN), NULL))
            break; /* no memory: such a text does no harm */
    loops = (double)own.used < LOOP_SHARE * (double)runs;
    seen_text_release(&own);
    return loops;
}

double seen_text_share(const struct seen_text *s, const int32_t *tokens, size_t n)
{
    if (n < SEEN_RUN)
        return 0;
    size_t runs = n - SEEN_RUN + 1, known = 0;
    for (size_t i = 0; i < runs; i++)
        known += has(s, hash(tokens + i, SEEN_RUN));
    return (double)known / (double)runs;
}

int seen_text_add(struct seen_text *s, const int32_t *tokens, size_t n, struct err *err)
{
    for (size_t i = 0; i + SEEN_RUN <= n; i++)
        if (put(s, hash(tokens + i, SEEN_RUN), err))
            return ERR_MEMORY;
    return 0;
}

void seen_text_release(struct seen_text *s)
{
    free(s->slot);
    memset(s, 0, sizeof *s);
}
