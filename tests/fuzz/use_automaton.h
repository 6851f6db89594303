/* What a fuzzer does with an automaton: it follows a way through it that the input chooses, and
 * then one that ends. */
#ifndef TESTS_FUZZ_USE_AUTOMATON_H
#define TESTS_FUZZ_USE_AUTOMATON_H

#include <stdlib.h>

#include "base/buf.h"
#include "text/positions.h"

/* The next position by the first byte from `byte` on that may follow, or NONE. */
static inline int32_t use_step(struct positions *p, int32_t *at, uint8_t *byte)
{
    for (int i = 0; i < 256; i++, ++*byte) {
        int32_t next = positions_step(p, *at, *byte);
        if (next == POSITION_FULL) {
            if (!positions_collect(p, at, 1))
                return POSITION_NONE;
            next = positions_step(p, *at, *byte);
        }
        if (next >= 0)
            return next;
    }
    return POSITION_NONE;
}

/* Whether the bytes led to where the text may end; they are in `text`. */
static inline bool use_walk(struct positions *p, const uint8_t *bytes, size_t size,
                            struct buf *text)
{
    int32_t at = positions_start(p);
    for (size_t i = 0; i < size && i < 2000 && positions_goes_on(p, at); i++) {
        uint8_t byte = bytes[i];
        int32_t next = use_step(p, &at, &byte);
        if (next < 0)
            return false; /* too many places at a time */
        at = next;
        buf_append(text, &byte, 1);
    }
    return positions_accepts(p, at);
}

static inline void use_automaton(const struct automaton *a, const uint8_t *bytes, size_t size)
{
    struct positions p;
    struct buf text = {0};
    struct err err;
    if (!positions_init(&p, a, &err))
        use_walk(&p, bytes, size, &text);
    positions_release(&p);
    buf_release(&text);
}

#endif
