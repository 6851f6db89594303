/* What statements and expressions share while they run: scopes, loops, macros. */
#ifndef TEXT_TEMPLATE_EXEC_H
#define TEXT_TEMPLATE_EXEC_H

#include "text/template_node.h"

struct binding {
    struct binding *next;
    const char *name; /* the template's one pointer for it */
    struct value value;
};

/* Names of a template, a turn of a loop, a macro's call or a block; assignments go to the
 * innermost, names are sought outwards. */
struct scope {
    const struct scope *outer;
    struct binding *first;
};

struct macro {
    const struct node *node;
    const struct scope *scope; /* in which it was defined */
};

/* Items are taken from the source when they are needed, as "if" of a loop may depend on what the
 * loop did before. */
struct loop {
    const struct node *node;
    const struct scope *outer;
    struct value source, taken; /* taken: those that "if" let pass */
    size_t at;                  /* in the source */
    size_t index0;
    struct value changed;
};

struct value eval(struct run *r, const struct scope *scope, const struct node *node);

/* Calls a macro: the text that it writes. */
struct value macro_call(struct run *r, const struct macro *macro, const struct args *args);

#endif
