/* A parsed template: a tree of nodes in the template's pool, never changed after parsing. Written
 * by template_parse*.c, read by template_eval.c and template_exec.c. */
#ifndef TEXT_TEMPLATE_NODE_H
#define TEXT_TEMPLATE_NODE_H

#include "text/template_lex.h"
#include "text/template_run.h"

/* What a node's fields mean: a, b, c, d are nodes, or the first of a list linked by `next`. */
enum node_kind {
    /* expressions */
    NODE_CONST,   /* value */
    NODE_NAME,    /* name */
    NODE_LIST,    /* a: items */
    NODE_TUPLE,   /* a: items */
    NODE_DICT,    /* a: PAIRs */
    NODE_PAIR,    /* a: key, b: value */
    NODE_ATTR,    /* a.name */
    NODE_ITEM,    /* a[b] */
    NODE_SLICE,   /* a[b:c:d], each of b, c, d may be NULL */
    NODE_CALL,    /* a(b: ARGs) */
    NODE_ARG,     /* a, and name when it is given by name */
    NODE_FILTER,  /* a | name(b: ARGs), builtin; a is NULL for a block's text */
    NODE_TEST,    /* a is name(b: ARGs), builtin */
    NODE_NOT,     /* a */
    NODE_NEG,     /* a; op: LEX_SUB or LEX_ADD */
    NODE_BINARY,  /* a op b */
    NODE_AND,     /* a, b */
    NODE_OR,      /* a, b */
    NODE_COMPARE, /* a, b: OPERANDs */
    NODE_OPERAND, /* op a */
    NODE_CONCAT,  /* a: items, "~" between them */
    NODE_COND,    /* b if a else c (NULL: undefined) */
    /* statements */
    NODE_DATA,         /* value: the template's own text */
    NODE_PRINT,        /* a */
    NODE_IF,           /* if a: b, elif: c (an IF), else: body of `otherwise` */
    NODE_FOR,          /* for a in b if c: d, else: body of `otherwise` */
    NODE_SET,          /* a = b */
    NODE_SET_BLOCK,    /* a = text of b, filtered by c (NULL: as it is) */
    NODE_NAMESPACE,    /* target name.attribute: name, and a: NAME of the attribute */
    NODE_MACRO,        /* name, a: PARAMs, b: body */
    NODE_PARAM,        /* name, a: default or NULL */
    NODE_FILTER_BLOCK, /* a: the filter, b: body */
    NODE_WITH,         /* a: SETs, b: body */
    NODE_SCOPE,        /* b: body */
    NODE_BREAK,
    NODE_CONTINUE,
};

struct node {
    enum node_kind kind;
    int line;
    int op; /* enum lexeme_kind */
    struct node *next;
    struct node *a, *b, *c, *d, *otherwise;
    const char *name; /* one pointer for all that have the same name */
    const struct builtin *builtin;
    struct value value;
};

/* A name of the template, once. */
struct name {
    struct name *next;
    char text[];
};
#define NAME_BUCKETS 64

struct template
{
    struct pool pool;
    char *source;
    struct node *body;
    struct name *names[NAME_BUCKETS];
    int n_names;
    const char *loop; /* the name "loop", NULL where the template has none */
};

/* The one pointer for a name; NULL when no such name is in the template. */
const char *template_name(const struct template *t, const char *name, size_t len);

/* Fills t->body from lexemes. ERR_INVALID names line and what was expected; ERR_MEMORY. */
int parse_tree(struct template *t, const struct lexeme *lexemes, struct err *err);

/* Runs statements, writing to r->out. */
void exec_template(struct run *r, const struct template *t);

#endif
