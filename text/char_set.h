/* Sets of characters, as ranges of code points, and how they are drawn into an automaton: as UTF-8,
 * or as they stand within a JSON string. One owner, one thread. */
#ifndef TEXT_CHAR_SET_H
#define TEXT_CHAR_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "text/automaton.h"

#define CHAR_MOST 0x10ffffu

struct char_range {
    uint32_t low, high; /* both within */
};

/* A zeroed one is empty. */
struct char_set {
    struct char_range *ranges;
    int n, room;
    bool failed; /* memory ran out */
};

void char_set_add(struct char_set *set, uint32_t low, uint32_t high);
void char_set_add_all(struct char_set *set, const struct char_set *other);
/* Rising, apart, and without surrogates, which are no characters. */
void char_set_settle(struct char_set *set);
/* All that it had not. Settles it. */
void char_set_negate(struct char_set *set);
void char_set_release(struct char_set *set);

/* Edges that read one character of a settled set and lead to `to`. json: as in a JSON string, where
 * quotes, backslashes and control characters are escaped. */
void char_set_draw(const struct char_set *set, bool json, struct automaton_draft *draft,
                   int32_t from, int32_t to);

#endif
