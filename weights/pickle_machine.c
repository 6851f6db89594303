/* Values, stack and memo of a pickle: see pickle_machine.h. */
#include "weights/pickle_machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void machine_release(struct machine *m)
{
    free(m->values);
    free(m->stack);
    free(m->memo);
    free(m->items);
    free(m->pairs);
    *m = (struct machine){0};
}

int machine_refuse(struct machine *m, const char *format, ...)
{
    char sentence[400];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return err_set(m->err, ERR_INVALID, "%s, byte %zu: %s", m->where, (size_t)(m->at - m->begin),
                   sentence);
}

/* The array with room for n items: itself, moved, or NULL with the error set. Counts are far below
 * overflow, as the limits are. */
static void *grown(struct machine *m, void *array, size_t *cap, size_t n, size_t item)
{
    if (array && n <= *cap)
        return array;
    size_t wanted = *cap ? *cap * 2 : 256;
    while (wanted < n)
        wanted *= 2;
    void *larger = realloc(array, wanted * item);
    if (larger)
        *cap = wanted;
    else
        err_set(m->err, ERR_MEMORY, "%s: no memory left", m->where);
    return larger;
}

/* Makes room for n items in an array of *m, or returns from the function. */
#define RESERVE(m, array, n)                                                                       \
    do {                                                                                           \
        void *larger = grown(m, (m)->array, &(m)->cap_##array, n, sizeof *(m)->array);             \
        if (!larger)                                                                               \
            return ERR_MEMORY;                                                                     \
        (m)->array = larger;                                                                       \
    } while (0)

int machine_push(struct machine *m, value_id id)
{
    if (m->n_stack == STACK_MAX)
        return machine_refuse(m, "more than %zu values lie on the pickle's stack", STACK_MAX);
    RESERVE(m, stack, m->n_stack + 1);
    m->stack[m->n_stack++] = id;
    return 0;
}

int machine_push_new(struct machine *m, struct value value)
{
    if (m->n_values == VALUES_MAX)
        return machine_refuse(m, "the pickle has more than %zu values", VALUES_MAX);
    RESERVE(m, values, m->n_values + 1);
    m->values[m->n_values++] = value;
    return machine_push(m, (value_id)(m->n_values - 1));
}

int machine_pop(struct machine *m, value_id *id)
{
    if (!m->n_stack || m->stack[m->n_stack - 1] == MARK)
        return machine_refuse(m, "the pickle takes a value from its stack when there is none");
    *id = m->stack[--m->n_stack];
    return 0;
}

int machine_pop_marked(struct machine *m, const value_id **ids, size_t *n)
{
    size_t from = m->n_stack;
    while (from > 0 && m->stack[from - 1] != MARK)
        from--;
    if (from == 0)
        return machine_refuse(m, "the pickle refers to a mark that is not on its stack");
    *ids = m->stack + from;
    *n = m->n_stack - from;
    m->n_stack = from - 1;
    return 0;
}

int machine_push_tuple(struct machine *m, const value_id *ids, size_t n)
{
    RESERVE(m, items, m->n_items + n);
    if (n)
        memcpy(m->items + m->n_items, ids, n * sizeof *ids);
    struct value tuple = {.kind = VALUE_TUPLE};
    tuple.tuple.first = (uint32_t)m->n_items; /* items come from bytes: at most PICKLE_BYTES_MAX */
    tuple.tuple.n = (uint32_t)n;
    m->n_items += n;
    return machine_push_new(m, tuple);
}

int machine_memo_put(struct machine *m, size_t place, value_id id)
{
    if (place >= MEMO_MAX)
        return machine_refuse(m, "the pickle remembers a value at place %zu, but at most %zu go",
                              place, MEMO_MAX);
    RESERVE(m, memo, place + 1);
    while (m->n_memo <= place)
        m->memo[m->n_memo++] = MARK; /* nothing there */
    m->memo[place] = id;
    return 0;
}

int machine_memo_get(struct machine *m, size_t place)
{
    if (place >= m->n_memo || m->memo[place] == MARK)
        return machine_refuse(m, "the pickle refers to place %zu, where it put nothing", place);
    return machine_push(m, m->memo[place]);
}

int machine_assign(struct machine *m, value_id dict, value_id key, value_id value)
{
    RESERVE(m, pairs, m->n_pairs + 1);
    m->pairs[m->n_pairs++] = (struct pair){dict, key, value};
    return 0;
}
