/* One rendering: its memory, its limits and its error. The error is sticky, as buf.failed is: the
 * first failure is kept, and everything later is harmless and soon ends. So functions return
 * values, and only loops look whether the rendering has failed. One thread. */
#ifndef TEXT_TEMPLATE_RUN_H
#define TEXT_TEMPLATE_RUN_H

#include "text/template.h"
#include "text/template_pool.h"
#include "text/template_value.h"

/* What stops templates that would run for ever or take all memory. The limits that a conversation's
 * size may press on grow with it. */
#define RUN_STEPS 5000000             /* expressions, statements, items, pieces of text */
#define RUN_STEP_BYTES 128            /* of text copied or searched in a step's work */
#define RUN_STEP_CHARS 16             /* bytes of text looked at one by one */
#define RUN_DEPTH 400                 /* nested expressions, statements, macros and values */
#define RUN_MEMORY ((size_t)64 << 20) /* of values; and 64 bytes for each byte of input */
#define RUN_OUTPUT ((size_t)16 << 20) /* bytes of output; and 8 for each byte of input */
#define RUN_RANGE 100000              /* items of a range(), as Jinja's sandbox has it */

struct run {
    struct pool pool;
    struct err *err;
    int rc;
    int line; /* of what is being evaluated */
    int depth;
    uint64_t steps; /* left */
    size_t max_output;
    const struct template *template;
    const struct template_input *input;
    struct builder *out; /* where output goes now */
    const char *ones;    /* marks of text that is marked all over */
    size_t n_ones;
};

/* A failure with its line; NONE, so that callers can return it. */
struct value run_fail(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *run_take(struct run *r, size_t count, size_t size); /* NULL: the rendering has failed */
/* Counts work: items and pieces, or bytes of text. False when the rendering has failed. */
bool run_step(struct run *r, size_t n);
bool run_bytes(struct run *r, size_t n);
bool run_chars(struct run *r, size_t n);
/* Deeper by one level, to be followed by r->depth-- in any case. False when failed. */
bool run_enter(struct run *r);

/* Text that grows. */
struct builder {
    struct run *run;
    char *bytes, *marks; /* marks is NULL until one is set */
    size_t len, room;
    size_t limit; /* of len; 0 for none but the pool's */
};

void builder_add(struct builder *b, const char *bytes, const char *marks, size_t len);
void builder_puts(struct builder *b, const char *text);
void builder_value(struct builder *b, struct value string);
void builder_char(struct builder *b, int32_t code, bool mark);
struct value builder_string(struct builder *b);

/* Arguments as they are given. */
struct keyword {
    const char *name;
    struct value value;
};
struct args {
    struct value *values;
    size_t n;
    struct keyword *named;
    size_t n_named;
};

/* A filter, test, method or function. a[i] is the argument of params[i], ABSENT when it is not
 * given; one that takes any number reads them from args. */
#define MAX_PARAMS 5
struct call {
    struct value self;
    struct value a[MAX_PARAMS];
    const struct args *args;
};
struct builtin {
    const char *name;
    struct value (*fn)(struct run *r, const struct call *call);
    const char *params[MAX_PARAMS];
    int required;
    bool variadic;
};

const struct builtin *builtin_find(const struct builtin *table, const char *name);
struct value builtin_call(struct run *r, const struct builtin *b, struct value self,
                          const struct args *args);

extern const struct builtin text_filters[], seq_filters[], text_methods[], dict_methods[],
    list_methods[], tuple_methods[], loop_methods[], jinja_tests[], jinja_functions[];
const struct builtin *filter_find(const char *name); /* NULL: there is none of that name */
const struct builtin *test_find(const char *name);

/* Python's str() and repr(), json.dumps(). */
void print_str(struct builder *b, struct value v);
void print_repr(struct builder *b, struct value v);
void print_float(struct builder *b, double real);
struct json_style {
    bool ascii, sort;
    const char *indent;     /* NULL: on one line */
    struct value item, key; /* separators; ABSENT: Python's */
};
void print_json(struct builder *b, struct value v, const struct json_style *style);
struct value value_str(struct run *r, struct value v);  /* str(v): a string, Markup no more */
struct value value_soft(struct run *r, struct value v); /* the same, but Markup stays */

/* Operators and access. `op` is an enum lexeme_kind. */
struct value op_binary(struct run *r, int op, struct value a, struct value b);
struct value op_negate(struct run *r, struct value a, bool minus);
bool op_compare(struct run *r, int op, struct value a, struct value b);
struct value value_attr(struct run *r, struct value v, const char *name);
struct value value_item(struct run *r, struct value v, struct value key);
struct value value_path(struct run *r, struct value v, struct value path); /* "a.b.0" of filters */
struct value value_range(struct run *r, struct value v, const struct value part[3]); /* v[a:b:c] */
struct value value_call(struct run *r, struct value f, const struct args *args);
/* Fails for undefined values: all that can be done with them is to test, print and iterate. */
bool value_defined(struct run *r, struct value v);
struct value value_undefined(struct run *r, const char *name, const char *owner);
struct value value_concat(struct run *r, struct value a, struct value b);
struct value value_escape(struct run *r, struct value v); /* for HTML */

/* Work on strings that filters and methods share. `chars` ABSENT or NONE: white space. */
enum text_case { TEXT_UPPER, TEXT_LOWER, TEXT_CAPITALIZE, TEXT_TITLE, TEXT_FILTER_TITLE };
struct value text_case(struct run *r, struct value text, enum text_case how);
struct value text_strip(struct run *r, struct value text, struct value chars, bool left,
                        bool right);
struct value text_replace(struct run *r, struct value text, struct value old, struct value new,
                          struct value count);
struct value text_lines(struct run *r, struct value text, bool keep_ends);
/* The next place of `what` in s from `at` on; s->len when there is none. */
size_t text_find(struct run *r, const struct marked *s, size_t at, const struct marked *what);
struct value text_join(struct run *r, struct value between, struct value items, bool any);

/* A dictionary's keys and values as tuples, in a seq of that kind. */
struct value dict_pairs(struct run *r, const struct dict *dict, enum value_kind kind);

/* "%d" % x, and "{}".format(x). */
struct value format_percent(struct run *r, struct value format, struct value arguments);
struct value format_braces(struct run *r, struct value format, const struct args *args);

struct value value_from_json(struct run *r, const json_t *json);

#endif
