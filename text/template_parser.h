/* What the two halves of the parser share: template_parse.c (statements) and template_parse_expr.c
 * (expressions). The error is sticky: after the first the parser stands at the end of the template,
 * where everything ends. */
#ifndef TEXT_TEMPLATE_PARSER_H
#define TEXT_TEMPLATE_PARSER_H

#include "text/template_node.h"

#define PARSE_DEPTH 100
#define PARSE_NAMES 4096

struct parser {
    struct template *t;
    const struct lexeme *at, *end; /* end: the LEX_END */
    struct err *err;
    int rc;
    int depth;
    int loops; /* around what is parsed, within the macro */
    int fors;  /* and across macros: "loop" may not be assigned there */
    /* The first filter or test that does not exist. Jinja forgives those in branches that may not
     * be taken until they are. */
    const char *unknown;
    int unknown_line;
};

struct node *parser_node(struct parser *p, enum node_kind kind, int line);
struct node *parser_fail(struct parser *p, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool parser_enter(struct parser *p); /* deeper, to be followed by p->depth-- in any case */
bool parser_is(const struct parser *p, const char *word);  /* the name that stands here */
bool parser_skip(struct parser *p, enum lexeme_kind kind); /* true: it was there */
bool parser_skip_word(struct parser *p, const char *word);
void parser_expect(struct parser *p, enum lexeme_kind kind);
void parser_expect_word(struct parser *p, const char *word);
const char *parser_name(struct parser *p); /* the name that must stand here */

/* Expressions. A tuple may go without parentheses; it ends before `end` if that is not NULL. */
struct node *parse_expression(struct parser *p, bool conditional);
struct node *parse_tuple(struct parser *p, bool conditional, const char *end);
struct node *parse_primary(struct parser *p);
struct node *parse_filters(struct parser *p, struct node *a, bool first);

/* Puts a node at the end of a list whose last link is *tail. */
static inline void list_add(struct node ***tail, struct node *node)
{
    if (!node)
        return;
    **tail = node;
    *tail = &node->next;
}

#endif
