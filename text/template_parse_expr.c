/* Expressions, in Jinja's order of precedence: one function for each level. */
#include <string.h>

#include "text/template_parser.h"

static struct node *unary(struct parser *p, bool filters);

static struct node *with(struct parser *p, enum node_kind kind, int line, struct node *a,
                         struct node *b)
{
    struct node *node = parser_node(p, kind, line);
    if (node) {
        node->a = a;
        node->b = b;
    }
    return node;
}

static struct node *constant(struct parser *p, struct value value)
{
    struct node *node = parser_node(p, NODE_CONST, p->at->line);
    if (node)
        node->value = value;
    return node;
}

/* Strings that follow each other are one. */
static struct node *string(struct parser *p)
{
    size_t len = 0;
    const struct lexeme *first = p->at;
    for (; p->at->kind == LEX_STRING; p->at++)
        len += p->at->len;
    struct marked *marked = pool_take(&p->t->pool, 1, sizeof *marked);
    char *bytes = pool_take(&p->t->pool, len, 1);
    if (!marked || !bytes)
        return parser_fail(p, first->line, "memory ran out for a string");
    *marked = (struct marked){.bytes = bytes, .len = len};
    for (const struct lexeme *l = first; l < p->at; bytes += l->len, l++)
        memcpy(bytes, l->text, l->len);
    return constant(p, (struct value){.kind = VALUE_STRING, .string = marked});
}

static struct node *name(struct parser *p)
{
    static const char *const words[] = {"true", "True", "false", "False", "none", "None"};
    int line = p->at->line;
    for (int i = 0; i < 6; i++)
        if (parser_skip_word(p, words[i]))
            return constant(p, i < 4 ? BOOL(i < 2) : NONE);
    struct node *node = parser_node(p, NODE_NAME, line);
    const char *text = parser_name(p);
    if (!node || !text)
        return NULL;
    node->name = text;
    return node;
}

static struct node *list(struct parser *p)
{
    struct node *node = parser_node(p, NODE_LIST, p->at->line), **tail = node ? &node->a : NULL;
    parser_expect(p, LEX_LBRACKET);
    while (node && !p->rc && !parser_skip(p, LEX_RBRACKET)) {
        list_add(&tail, parse_expression(p, true));
        if (p->at->kind != LEX_RBRACKET)
            parser_expect(p, LEX_COMMA);
    }
    return node;
}

static struct node *dict(struct parser *p)
{
    struct node *node = parser_node(p, NODE_DICT, p->at->line), **tail = node ? &node->a : NULL;
    parser_expect(p, LEX_LBRACE);
    while (node && !p->rc && !parser_skip(p, LEX_RBRACE)) {
        struct node *key = parse_expression(p, true);
        parser_expect(p, LEX_COLON);
        list_add(&tail, with(p, NODE_PAIR, p->at->line, key, parse_expression(p, true)));
        if (p->at->kind != LEX_RBRACE)
            parser_expect(p, LEX_COMMA);
    }
    return node;
}

static struct node *parenthesis(struct parser *p)
{
    int line = p->at->line;
    p->at++;
    if (parser_skip(p, LEX_RPAREN))
        return parser_node(p, NODE_TUPLE, line);
    struct node *node = parse_tuple(p, true, NULL);
    parser_expect(p, LEX_RPAREN);
    return node;
}

struct node *parse_primary(struct parser *p)
{
    switch (p->at->kind) {
    case LEX_NAME:
        return name(p);
    case LEX_STRING:
        return string(p);
    case LEX_INT:
        p->at++;
        return constant(p, INT(p->at[-1].integer));
    case LEX_FLOAT:
        p->at++;
        return constant(p, FLOAT(p->at[-1].real));
    case LEX_LPAREN:
        return parenthesis(p);
    case LEX_LBRACKET:
        return list(p);
    case LEX_LBRACE:
        return dict(p);
    default:
        return parser_fail(p, p->at->line, "an expression was expected, not %s",
                           lex_written(p->at->kind));
    }
}

/* "(", arguments, ")". */
static struct node *arguments(struct parser *p)
{
    struct node *first = NULL, **tail = &first;
    bool named = false;
    parser_expect(p, LEX_LPAREN);
    while (!p->rc && !parser_skip(p, LEX_RPAREN)) {
        if (p->at->kind == LEX_MUL || p->at->kind == LEX_POW)
            return parser_fail(p, p->at->line, "arguments spread by * or ** are not supported");
        struct node *arg = parser_node(p, NODE_ARG, p->at->line);
        if (arg && p->at->kind == LEX_NAME && p->at[1].kind == LEX_ASSIGN) {
            arg->name = parser_name(p);
            parser_expect(p, LEX_ASSIGN);
            named = true;
        } else if (named) {
            return parser_fail(p, p->at->line, "an argument without a name follows a named one");
        }
        struct node *value = parse_expression(p, true);
        if (arg)
            arg->a = value;
        list_add(&tail, arg);
        if (p->at->kind != LEX_RPAREN)
            parser_expect(p, LEX_COMMA);
    }
    return first;
}

/* What stands between brackets behind `a`. */
static struct node *subscript(struct parser *p, struct node *a)
{
    struct node *node = parser_node(p, NODE_ITEM, p->at->line), *part[3] = {0};
    parser_expect(p, LEX_LBRACKET);
    int n = 0;
    for (; n < 3 && !p->rc; n++) {
        if (p->at->kind != LEX_COLON && (p->at->kind != LEX_RBRACKET || n == 0))
            part[n] = parse_expression(p, true);
        if (n == 2 || !parser_skip(p, LEX_COLON))
            break;
    }
    parser_expect(p, LEX_RBRACKET);
    if (!node)
        return NULL;
    node->a = a;
    node->b = part[0];
    node->c = part[1];
    node->d = part[2];
    node->kind = n ? NODE_SLICE : NODE_ITEM;
    return node;
}

static struct node *attribute(struct parser *p, struct node *a)
{
    struct node *node = with(p, NODE_ATTR, p->at->line, a, NULL);
    parser_expect(p, LEX_DOT);
    if (!node)
        return NULL;
    if (p->at->kind == LEX_INT) {
        node->kind = NODE_ITEM;
        node->b = parse_primary(p);
    } else {
        node->name = parser_name(p);
    }
    return node;
}

static struct node *postfix(struct parser *p, struct node *a)
{
    while (!p->rc) {
        int line = p->at->line;
        if (p->at->kind == LEX_DOT)
            a = attribute(p, a);
        else if (p->at->kind == LEX_LBRACKET)
            a = subscript(p, a);
        else if (p->at->kind == LEX_LPAREN)
            a = with(p, NODE_CALL, line, a, arguments(p));
        else
            break;
    }
    return a;
}

static void unknown(struct parser *p, const struct node *node)
{
    if (p->unknown || p->rc || node->builtin)
        return;
    p->unknown = node->name;
    p->unknown_line = node->line;
}

struct node *parse_filters(struct parser *p, struct node *a, bool first)
{
    while (!p->rc && (first || parser_skip(p, LEX_PIPE))) {
        first = false;
        struct node *node = with(p, NODE_FILTER, p->at->line, a, NULL);
        const char *text = parser_name(p);
        if (!node || !text)
            return NULL;
        node->name = text;
        node->builtin = filter_find(text);
        unknown(p, node);
        if (p->at->kind == LEX_LPAREN)
            node->b = arguments(p);
        a = node;
    }
    return a;
}

/* Whether what stands here is a test's argument without parentheses. */
static bool test_argument(const struct parser *p)
{
    switch (p->at->kind) {
    case LEX_NAME:
        return !parser_is(p, "else") && !parser_is(p, "or") && !parser_is(p, "and");
    case LEX_STRING:
    case LEX_INT:
    case LEX_FLOAT:
    case LEX_LBRACKET:
    case LEX_LBRACE:
        return true;
    default:
        return false;
    }
}

static struct node *test(struct parser *p, struct node *a)
{
    int line = p->at->line;
    p->at++;
    bool negated = parser_skip_word(p, "not");
    struct node *node = with(p, NODE_TEST, line, a, NULL);
    const char *text = parser_name(p);
    if (!node || !text)
        return NULL;
    node->name = text;
    node->builtin = test_find(text);
    unknown(p, node);
    if (p->at->kind == LEX_LPAREN) {
        node->b = arguments(p);
    } else if (test_argument(p)) {
        if (parser_is(p, "is"))
            return parser_fail(p, line, "tests with \"is\" cannot be chained");
        struct node *arg = parser_node(p, NODE_ARG, line);
        struct node *value = postfix(p, parse_primary(p));
        if (arg)
            arg->a = value;
        node->b = arg;
    }
    return negated ? with(p, NODE_NOT, line, node, NULL) : node;
}

static struct node *filters_and_tests(struct parser *p, struct node *a)
{
    while (!p->rc) {
        if (p->at->kind == LEX_PIPE)
            a = parse_filters(p, a, false);
        else if (parser_is(p, "is"))
            a = test(p, a);
        else if (p->at->kind == LEX_LPAREN)
            a = with(p, NODE_CALL, p->at->line, a, arguments(p));
        else
            break;
    }
    return a;
}

static struct node *unary(struct parser *p, bool filters)
{
    struct node *node;
    if (p->at->kind == LEX_SUB || p->at->kind == LEX_ADD) {
        int op = (int)p->at->kind, line = p->at->line;
        p->at++;
        node = with(p, NODE_NEG, line, parser_enter(p) ? unary(p, false) : NULL, NULL);
        p->depth--;
        if (node)
            node->op = op;
    } else {
        node = parse_primary(p);
    }
    node = postfix(p, node);
    return filters ? filters_and_tests(p, node) : node;
}

/* Operators of one level, from the left: those between `from` and `to`. */
static struct node *binary(struct parser *p, enum lexeme_kind from, enum lexeme_kind to,
                           struct node *(*next)(struct parser *p))
{
    struct node *a = next(p);
    while (!p->rc && p->at->kind >= from && p->at->kind <= to) {
        int op = (int)p->at->kind, line = p->at->line;
        p->at++;
        a = with(p, NODE_BINARY, line, a, next(p));
        if (a)
            a->op = op;
    }
    return a;
}

static struct node *operand(struct parser *p)
{
    return unary(p, true);
}

static struct node *power(struct parser *p)
{
    return binary(p, LEX_POW, LEX_POW, operand);
}

static struct node *product(struct parser *p)
{
    return binary(p, LEX_MUL, LEX_MOD, power);
}

static struct node *concat(struct parser *p)
{
    int line = p->at->line;
    struct node *first = product(p), **tail;
    if (p->at->kind != LEX_TILDE || !first)
        return first;
    tail = &first->next;
    while (!p->rc && parser_skip(p, LEX_TILDE))
        list_add(&tail, product(p));
    return with(p, NODE_CONCAT, line, first, NULL);
}

static struct node *sum(struct parser *p)
{
    return binary(p, LEX_ADD, LEX_SUB, concat);
}

/* The comparison that stands here, moved over; 0 for none. */
static int comparison(struct parser *p)
{
    if (p->at->kind >= LEX_EQ && p->at->kind <= LEX_GE)
        return (int)(p->at++)->kind;
    if (parser_skip_word(p, "in"))
        return LEX_IN;
    if (!parser_is(p, "not") || p->at[1].kind != LEX_NAME || p->at[1].len != 2 ||
        memcmp(p->at[1].text, "in", 2))
        return 0;
    p->at += 2;
    return LEX_NOT_IN;
}

static struct node *compare(struct parser *p)
{
    int line = p->at->line;
    struct node *a = sum(p), *operands = NULL, **tail = &operands;
    for (int op; !p->rc && (op = comparison(p));) {
        struct node *node = with(p, NODE_OPERAND, p->at->line, sum(p), NULL);
        if (node)
            node->op = op;
        list_add(&tail, node);
    }
    return operands ? with(p, NODE_COMPARE, line, a, operands) : a;
}

static struct node *negation(struct parser *p)
{
    int line = p->at->line;
    if (!parser_skip_word(p, "not"))
        return compare(p);
    struct node *a = parser_enter(p) ? negation(p) : NULL;
    p->depth--;
    return with(p, NODE_NOT, line, a, NULL);
}

static struct node *conjunction(struct parser *p)
{
    int line = p->at->line;
    struct node *a = negation(p);
    while (parser_skip_word(p, "and"))
        a = with(p, NODE_AND, line, a, negation(p));
    return a;
}

static struct node *disjunction(struct parser *p)
{
    int line = p->at->line;
    struct node *a = conjunction(p);
    while (parser_skip_word(p, "or"))
        a = with(p, NODE_OR, line, a, conjunction(p));
    return a;
}

struct node *parse_expression(struct parser *p, bool conditional)
{
    int line = p->at->line, unknown_line = p->unknown_line;
    const char *unknown_before = p->unknown;
    struct node *a = parser_enter(p) ? disjunction(p) : NULL;
    while (conditional && parser_skip_word(p, "if")) {
        struct node *node = parser_node(p, NODE_COND, line);
        struct node *condition = disjunction(p), *otherwise = NULL;
        if (parser_skip_word(p, "else"))
            otherwise = parse_expression(p, true);
        if (!node)
            break;
        node->a = condition;
        node->b = a;
        node->c = otherwise;
        a = node;
        p->unknown = unknown_before;
        p->unknown_line = unknown_line;
    }
    p->depth--;
    return a;
}

struct node *parse_tuple(struct parser *p, bool conditional, const char *end)
{
    int line = p->at->line;
    struct node *first = parse_expression(p, conditional);
    if (!first || p->at->kind != LEX_COMMA)
        return first;
    struct node **tail = &first->next;
    while (!p->rc && parser_skip(p, LEX_COMMA)) {
        if (p->at->kind == LEX_PRINT_END || p->at->kind == LEX_TAG_END ||
            p->at->kind == LEX_RPAREN || (end && parser_is(p, end)))
            break;
        list_add(&tail, parse_expression(p, conditional));
    }
    return with(p, NODE_TUPLE, line, first, NULL);
}
