/* Values of templates, as Python has them: what eval computes with. They live in one rendering's
 * pool and refer to each other freely; nothing is freed before the rendering ends. Lists and
 * dictionaries never change once made (the sandbox forbids it), only namespaces do.
 *
 * Each byte of a string carries a mark: whether it came from the conversation or was written in the
 * template. Every operation on strings moves bytes and marks together. */
#ifndef TEXT_TEMPLATE_VALUE_H
#define TEXT_TEMPLATE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum value_kind {
    VALUE_ABSENT, /* an argument that was not given; no expression has this value */
    VALUE_UNDEFINED,
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_FLOAT,
    VALUE_STRING,
    VALUE_LIST,
    VALUE_TUPLE,
    VALUE_RANGE, /* LIST to ITERATOR are a struct seq */
    VALUE_KEYS,
    VALUE_VALUES,
    VALUE_ITEMS,
    VALUE_ITERATOR, /* what most filters on sequences give: it can be read once */
    VALUE_DICT,
    VALUE_NAMESPACE,
    VALUE_MACRO,
    VALUE_LOOP,
    VALUE_FUNCTION, /* and VALUE_METHOD: of builtins */
    VALUE_METHOD,
};

/* Bytes with their marks (0 or 1); marks is NULL when none is marked. `store` is where the bytes
 * lie when others may be appended behind them. */
struct marked {
    const char *bytes, *marks;
    size_t len;
    struct store *store;
};

struct store {
    char *bytes, *marks;
    size_t used, room;
};

/* What an undefined value was to be, for the message when something is done with it. */
struct missing {
    const char *name;  /* of a variable or attribute, in UTF-8 */
    const char *owner; /* the kind of value that has no such attribute, or NULL */
};

struct value {
    uint8_t kind;
    bool safe; /* STRING: Python's Markup, made by the filters safe and escape */
    union {
        bool truth;
        int64_t integer;
        double real;
        const struct marked *string;
        struct seq *seq;
        struct dict *dict; /* of a NAMESPACE too */
        const struct missing *missing;
        const struct macro *macro;
        struct loop *loop;
        const struct builtin *function;
        const struct method *method;
    };
};

struct seq {
    struct value *items;
    size_t n, room;
    int64_t start, stop, step; /* RANGE: as it was written */
};

struct dict {
    struct value *keys, *values;
    size_t n, room;
    uint32_t *order; /* the places of the keys in rising order, once that was asked for */
};

struct method {
    const struct builtin *builtin;
    struct value self;
};

#define NONE ((struct value){.kind = VALUE_NONE})
#define BOOL(x) ((struct value){.kind = VALUE_BOOL, .truth = (x)})
#define INT(x) ((struct value){.kind = VALUE_INT, .integer = (x)})
#define FLOAT(x) ((struct value){.kind = VALUE_FLOAT, .real = (x)})

struct run;

/* Strings. Those of literals and lengths are not copied. */
struct value value_literal(struct run *r, const char *bytes, size_t len); /* unmarked */
struct value value_slice(struct run *r, struct value string, size_t begin, size_t end); /* bytes */
bool value_is(struct value string, const char *text);

/* Sequences and dictionaries under construction. */
struct value value_seq(struct run *r, enum value_kind kind, size_t room);
void seq_add(struct run *r, struct value seq, struct value item);
struct value value_dict(struct run *r, enum value_kind kind, size_t room);
void dict_set(struct run *r, struct value dict, struct value key, struct value item);
const struct value *dict_find(struct run *r, const struct dict *dict, struct value key);
const struct value *dict_get(struct run *r, const struct dict *dict, const char *key);

bool value_truth(struct run *r, struct value v);
const char *value_type(struct value v); /* "str object" */
static inline bool value_is_seq(struct value v)
{
    return v.kind >= VALUE_LIST && v.kind <= VALUE_ITERATOR;
}
bool value_int(struct value v, int64_t *integer); /* of INT and BOOL; false for others */
bool value_number(struct value v, double *real);  /* of FLOAT too */
bool value_hashable(struct value v);              /* can be a key */
bool value_equal(struct run *r, struct value a, struct value b);
/* Less than 0, 0, more than 0; fails for kinds that Python does not order. */
int value_compare(struct run *r, struct value a, struct value b);
bool value_in(struct run *r, struct value item, struct value in);

/* The items of anything that can be iterated over, as a seq that may be the value's own; an
 * ITERATOR is empty afterwards. Fails for what cannot. */
struct value value_items(struct run *r, struct value v);
bool value_iterable(struct value v);
/* Python's len(); -1 for what has none. */
int64_t value_length(struct run *r, struct value v);

#endif
