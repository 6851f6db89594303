/* Open addressing with linear probing. */
#include "text/text_map.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

struct text_slot {
    uint32_t offset, len;
    uint32_t tag; /* high half of the hash: most misses end here */
    int32_t id;   /* 0 is an empty slot, otherwise token + 1 */
};

/* Eight bytes at a time, folded by a multiplication to 128 bits. */
static uint64_t hash(const struct text_map *map, const char *text, size_t len)
{
    uint64_t h = map->seed ^ len;
    for (; len >= 8; text += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        __uint128_t wide = (__uint128_t)(h ^ word) * 0x9e3779b97f4a7c15u;
        h = (uint64_t)wide ^ (uint64_t)(wide >> 64);
    }
    uint64_t rest = 0;
    memcpy(&rest, text, len);
    __uint128_t wide = (__uint128_t)(h ^ rest) * 0xd6e8feb86659fd93u;
    h = (uint64_t)wide ^ (uint64_t)(wide >> 64);
    return h ^ (h >> 29);
}

int text_map_init(struct text_map *map, size_t most, const char *texts, struct err *err)
{
    size_t n = 16;
    while (n / 2 < most)
        n *= 2;
    *map = (struct text_map){.slots = mem_alloc(n * sizeof *map->slots)};
    if (!map->slots)
        return err_set(err, ERR_MEMORY, "tokenizer: no memory left");
    map->mask = n - 1;
    map->seed = rng_mix((uint64_t)(uintptr_t)map->slots);
    map->texts = texts;
    return 0;
}

void text_map_release(struct text_map *map)
{
    free(map->slots);
    memset(map, 0, sizeof *map);
}

/* Its slot, or the empty one where it would go. */
static struct text_slot *slot_of(const struct text_map *map, const char *text, size_t len,
                                 uint64_t h)
{
    for (size_t i = h & map->mask;; i = (i + 1) & map->mask) {
        struct text_slot *slot = &map->slots[i];
        if (!slot->id || (slot->tag == h >> 32 && slot->len == len &&
                          !memcmp(map->texts + slot->offset, text, len)))
            return slot;
    }
}

void text_map_set(struct text_map *map, uint32_t offset, uint32_t len, int32_t id)
{
    const char *text = map->texts + offset;
    uint64_t h = hash(map, text, len);
    *slot_of(map, text, len, h) = (struct text_slot){offset, len, (uint32_t)(h >> 32), id + 1};
    if (len > map->longest)
        map->longest = len;
}

int32_t text_map_find(const struct text_map *map, const char *text, size_t len)
{
    if (len > map->longest)
        return -1;
    return slot_of(map, text, len, hash(map, text, len))->id - 1;
}
