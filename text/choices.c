/* Lists of texts: see choices.h. */
#include "text/choices.h"

#include <stdlib.h>
#include <string.h>

static int by_bytes(const void *a, const void *b)
{
    const struct choice_text *x = a, *y = b;
    size_t n = x->len < y->len ? x->len : y->len;
    int order = n ? memcmp(x->bytes, y->bytes, n) : 0;
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* Sorted texts that share their first `at` bytes, from there on. */
static void draw(struct automaton_draft *d, const struct choice_text *list, int n, size_t at,
                 int32_t from, int32_t to)
{
    while (n && !d->full) {
        if (list->len == at) { /* the shortest stand first */
            automaton_empty(d, from, to);
            list++;
            n--;
            continue;
        }
        int same = 1;
        while (same < n && list[same].bytes[at] == list->bytes[at])
            same++;
        const struct choice_text *last = &list[same - 1];
        size_t shared = at + 1;
        while (shared < list->len && shared < last->len &&
               list->bytes[shared] == last->bytes[shared])
            shared++;
        draw(d, list, same, shared, automaton_text(d, from, list->bytes + at, shared - at), to);
        list += same;
        n -= same;
    }
}

int32_t choices_draw(struct automaton_draft *d, struct choice_text *list, int n, int32_t from)
{
    int32_t to = automaton_state(d);
    if (n)
        qsort(list, (size_t)n, sizeof *list, by_bytes);
    draw(d, list, n, 0, from, to);
    return to;
}

int choices_compile(struct choice_text *list, int n, struct automaton **automaton, struct err *err)
{
    struct automaton_draft draft = {0};
    automaton_rule(&draft);
    if (!draft.full)
        automaton_empty(&draft, choices_draw(&draft, list, n, draft.rules[0].start),
                        draft.rules[0].final);
    return automaton_finish(&draft, automaton, err);
}
