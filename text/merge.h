/* Merging neighbours: the heart of byte-pair encoding, for both kinds that use it. Of all pairs of
 * neighbours that merge, the one of the lowest rank does, of those the leftmost, until none is
 * left (Sennrich et al. 2016, 1508.07909, section 3.2; Kudo and Richardson 2018, 1808.06226). */
#ifndef TEXT_MERGE_H
#define TEXT_MERGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/text_map.h"

#define RANK_NONE UINT32_MAX

/* What pairs of tokens become. Filled once, then immutable. */
struct pair_table {
    struct pair_slot *slots; /* owned; a power of two, at most half full */
    size_t mask;
    uint64_t seed;
};

int pair_table_init(struct pair_table *table, size_t most, struct err *err); /* ERR_MEMORY */
void pair_table_release(struct pair_table *table);
/* Of several entries for one pair the last counts. */
void pair_table_add(struct pair_table *table, int32_t left, int32_t right, uint32_t rank,
                    int32_t result);

/* Which pairs merge: those of `pairs`, or where `texts` is not NULL those whose texts together are
 * a token, ranked by that token's `ranks`. */
struct merge_rules {
    struct pair_table pairs;
    const struct text_map *texts;
    const uint32_t *ranks;
};

/* A part of a piece: a token, or with texts also what is none yet (-1). */
struct part {
    int32_t id;
    uint32_t begin; /* its bytes in the piece go to the next part's begin */
    uint32_t rank;  /* of merging with the next part, RANK_NONE when they don't */
    int32_t result; /* the token that they become */
};

/* Memory for long pieces; belongs to one call. A zeroed struct is empty. */
struct merger {
    struct part *parts;
    int32_t *before, *behind; /* neighbours still there */
    uint64_t *heap;           /* rank, then place */
    size_t n_heap, room;
};

/* Room for n + 1 parts, until the next call; NULL when memory ran out. */
struct part *merger_parts(struct merger *merger, size_t n);

/* parts[0..n], of the last merger_parts, with id and begin set, parts[n].begin the length of
 * `piece`. Returns how many are left at the front. */
int merge_parts(const struct merge_rules *rules, struct merger *merger, const char *piece,
                struct part *parts, int n);

void merger_release(struct merger *merger);

#endif
