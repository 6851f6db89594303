/* The state of reading a pickle: values, a stack of them, and a memo. Internal to pickle.c,
 * pickle_run.c and pickle_torch.c. Values are never changed or freed one by one, and are referred
 * to by number, so that a pickle that refers to itself is no danger. Every push is held against a
 * limit. */
#ifndef WEIGHTS_PICKLE_MACHINE_H
#define WEIGHTS_PICKLE_MACHINE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum value_kind {
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_FLOAT,  /* what it is does not matter */
    VALUE_STRING, /* bytes in the pickle */
    VALUE_GLOBAL, /* a name from pickle_torch.c's table */
    VALUE_TUPLE,
    VALUE_LIST,    /* what is in it does not matter */
    VALUE_DICT,    /* what is in it stands in machine.pairs */
    VALUE_STORAGE, /* its items are those of the persistent id: see pickle_torch.c */
    VALUE_TENSOR   /* its items are the arguments of _rebuild_tensor_v2 */
};

struct value {
    enum value_kind kind;
    union {
        int64_t number; /* BOOL, INT; the place in the table of a GLOBAL */
        struct {
            const char *text; /* not terminated */
            uint32_t len;
        } string;
        struct {
            uint32_t first, n; /* in machine.items */
        } tuple;
    };
};

typedef uint32_t value_id; /* a number in machine.values, or MARK on the stack */
#define MARK UINT32_MAX

#define VALUES_MAX ((size_t)1 << 20)
#define STACK_MAX ((size_t)1 << 16)
#define MEMO_MAX ((size_t)1 << 20)

struct pair {
    value_id dict, key, value;
};

struct machine {
    const char *where;
    const unsigned char *begin, *at, *end; /* of the pickle; at is behind what was read */
    struct err *err;
    struct value *values;
    value_id *stack, *memo, *items;
    struct pair *pairs; /* in the order of the assignments */
    size_t n_values, n_stack, n_memo, n_items, n_pairs;
    size_t cap_values, cap_stack, cap_memo, cap_items, cap_pairs;
};

void machine_release(struct machine *m);

/* ERR_INVALID: "WHERE, byte N: " and the sentence. */
int machine_refuse(struct machine *m, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* All return 0, ERR_INVALID or ERR_MEMORY. */
int machine_push(struct machine *m, value_id id);
int machine_push_new(struct machine *m, struct value value);
/* A MARK is not popped: that is an error. */
int machine_pop(struct machine *m, value_id *id);
/* The values above the last MARK, which is taken off with them: *n ids at *ids, good until the
 * next push. */
int machine_pop_marked(struct machine *m, const value_id **ids, size_t *n);
/* Copies ids, which may lie on the stack, to a tuple and pushes it. */
int machine_push_tuple(struct machine *m, const value_id *ids, size_t n);
int machine_memo_put(struct machine *m, size_t place, value_id id);
int machine_memo_get(struct machine *m, size_t place);
int machine_assign(struct machine *m, value_id dict, value_id key, value_id value);

static inline const struct value *machine_value(const struct machine *m, value_id id)
{
    return &m->values[id];
}

/* Item i of a TUPLE, STORAGE or TENSOR. */
static inline const struct value *machine_item(const struct machine *m, const struct value *tuple,
                                               size_t i)
{
    return &m->values[m->items[tuple->tuple.first + i]];
}

#endif
