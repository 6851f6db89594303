/* Which token has a text: a hash table over texts that lie one after another in one block. Filled
 * once, then immutable and read by any thread. */
#ifndef TEXT_TEXT_MAP_H
#define TEXT_TEXT_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct text_map {
    struct text_slot *slots; /* owned; a power of two, at most half full */
    size_t mask;
    uint64_t seed;     /* which texts share a slot is nobody's to choose */
    const char *texts; /* borrowed */
    size_t longest;    /* bytes */
};

/* Room for `most` texts, all of them in `texts`. ERR_MEMORY. */
int text_map_init(struct text_map *map, size_t most, const char *texts, struct err *err);
void text_map_release(struct text_map *map);

/* The text at that offset belongs to token `id`; of several tokens of one text the last counts. */
void text_map_set(struct text_map *map, uint32_t offset, uint32_t len, int32_t id);

/* -1 for none. */
int32_t text_map_find(const struct text_map *map, const char *text, size_t len);

#endif
