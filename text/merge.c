/* Short pieces by looking at all pairs for each merge, long ones with a heap. */
#include "text/merge.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

#define SHORT 48 /* parts up to which looking at all of them is faster than a heap */

struct pair_slot {
    uint64_t key; /* left + 1 and right: 0 is an empty slot */
    uint32_t rank;
    int32_t result;
};

static uint64_t key_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)(left + 1) << 32 | (uint32_t)right;
}

static struct pair_slot *slot_of(const struct pair_table *table, uint64_t key)
{
    __uint128_t wide = (__uint128_t)(key ^ table->seed) * 0x9e3779b97f4a7c15u;
    size_t i = ((uint64_t)wide ^ (uint64_t)(wide >> 64)) & table->mask;
    while (table->slots[i].key && table->slots[i].key != key)
        i = (i + 1) & table->mask;
    return &table->slots[i];
}

int pair_table_init(struct pair_table *table, size_t most, struct err *err)
{
    size_t n = 16;
    while (n / 2 < most)
        n *= 2;
    *table = (struct pair_table){.slots = mem_alloc(n * sizeof *table->slots), .mask = n - 1};
    if (!table->slots)
        return err_set(err, ERR_MEMORY, "tokenizer: no memory left");
    table->seed = rng_mix((uint64_t)(uintptr_t)table->slots);
    return 0;
}

void pair_table_release(struct pair_table *table)
{
    free(table->slots);
    memset(table, 0, sizeof *table);
}

void pair_table_add(struct pair_table *table, int32_t left, int32_t right, uint32_t rank,
                    int32_t result)
{
    uint64_t key = key_of(left, right);
    *slot_of(table, key) = (struct pair_slot){key, rank, result};
}

/* Fills in what `part` and the part from `next` to `end` would become. */
static void look_up(const struct merge_rules *rules, const char *piece, struct part *part,
                    const struct part *next, uint32_t end)
{
    part->rank = RANK_NONE;
    if (rules->texts) {
        int32_t id = text_map_find(rules->texts, piece + part->begin, end - part->begin);
        part->result = id;
        part->rank = id < 0 ? RANK_NONE : rules->ranks[id];
    } else if (part->id >= 0 && next->id >= 0) {
        const struct pair_slot *slot = slot_of(&rules->pairs, key_of(part->id, next->id));
        if (slot->key) {
            part->rank = slot->rank;
            part->result = slot->result;
        }
    }
}

static int merge_short(const struct merge_rules *rules, const char *piece, struct part *parts,
                       int n)
{
    for (int i = 0; i + 1 < n; i++)
        look_up(rules, piece, &parts[i], &parts[i + 1], parts[i + 2].begin);
    while (n > 1) {
        int best = 0;
        for (int i = 1; i + 1 < n; i++)
            if (parts[i].rank < parts[best].rank)
                best = i;
        if (parts[best].rank == RANK_NONE)
            break;
        parts[best].id = parts[best].result;
        memmove(&parts[best + 1], &parts[best + 2], (size_t)(n - best - 1) * sizeof *parts);
        n--;
        if (best + 1 < n)
            look_up(rules, piece, &parts[best], &parts[best + 1], parts[best + 2].begin);
        if (best > 0)
            look_up(rules, piece, &parts[best - 1], &parts[best], parts[best + 1].begin);
    }
    return n;
}

static void heap_down(struct merger *m, size_t i)
{
    uint64_t moving = m->heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < m->n_heap && m->heap[child + 1] < m->heap[child])
            child++;
        if (child >= m->n_heap || m->heap[child] >= moving)
            break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = moving;
}

static void heap_push(struct merger *m, uint64_t key)
{
    size_t i = m->n_heap++;
    for (; i && m->heap[(i - 1) / 2] > key; i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = key;
}

static uint64_t heap_pop(struct merger *m)
{
    uint64_t top = m->heap[0];
    m->heap[0] = m->heap[--m->n_heap];
    if (m->n_heap)
        heap_down(m, 0);
    return top;
}

/* Looks up what part i and the one behind it become, and queues it. */
static void consider(const struct merge_rules *rules, struct merger *m, const char *piece,
                     struct part *parts, int32_t i, int n)
{
    int32_t next = m->behind[i];
    parts[i].rank = RANK_NONE;
    if (next == n)
        return;
    look_up(rules, piece, &parts[i], &parts[next], parts[m->behind[next]].begin);
    if (parts[i].rank != RANK_NONE)
        heap_push(m, (uint64_t)parts[i].rank << 32 | (uint32_t)i);
}

static int merge_long(const struct merge_rules *rules, struct merger *m, const char *piece,
                      struct part *parts, int n)
{
    m->n_heap = 0;
    for (int i = 0; i <= n; i++) {
        m->before[i] = i - 1;
        m->behind[i] = i + 1;
    }
    for (int i = 0; i < n; i++)
        consider(rules, m, piece, parts, i, n);
    while (m->n_heap) {
        uint64_t top = heap_pop(m);
        int32_t i = (int32_t)(uint32_t)top, next = m->behind[i];
        /* Entries of pairs that are no more: their place is gone or has another rank. */
        if (parts[i].rank != top >> 32)
            continue;
        parts[i].id = parts[i].result;
        parts[next].rank = RANK_NONE;
        parts[next].result = -1;
        m->behind[i] = m->behind[next];
        m->before[m->behind[next]] = i;
        consider(rules, m, piece, parts, i, n);
        if (m->before[i] >= 0)
            consider(rules, m, piece, parts, m->before[i], n);
    }
    int left = 0;
    for (int32_t i = 0; i < n; i = m->behind[i])
        parts[left++] = parts[i];
    parts[left] = parts[n];
    return left;
}

/* Every merge queues at most two pairs, of which there are less than n to begin with. */
static int make_room(struct merger *m, size_t n)
{
    if (n < m->room)
        return 0;
    size_t room = 256;
    while (room <= n)
        room *= 2;
    merger_release(m);
    m->parts = malloc(room * sizeof *m->parts);
    m->before = malloc(room * sizeof *m->before);
    m->behind = malloc(room * sizeof *m->behind);
    m->heap = malloc(3 * room * sizeof *m->heap);
    if (!m->parts || !m->before || !m->behind || !m->heap) {
        merger_release(m);
        return ERR_MEMORY;
    }
    m->room = room;
    return 0;
}

int merge_parts(const struct merge_rules *rules, struct merger *merger, const char *piece,
                struct part *parts, int n)
{
    if (n <= SHORT)
        return merge_short(rules, piece, parts, n);
    return merge_long(rules, merger, piece, parts, n);
}

struct part *merger_parts(struct merger *merger, size_t n)
{
    return make_room(merger, n + 1) ? NULL : merger->parts;
}

void merger_release(struct merger *merger)
{
    free(merger->parts);
    free(merger->before);
    free(merger->behind);
    free(merger->heap);
    memset(merger, 0, sizeof *merger);
}
