/* Statements: tags and what stands between them. */
#include "text/template_parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text/template_chars.h"

static struct node *body(struct parser *p, const char *const *ends);

/* ---- what both halves use ---- */

struct node *parser_node(struct parser *p, enum node_kind kind, int line)
{
    struct node *node = p->rc ? NULL : pool_take(&p->t->pool, 1, sizeof *node);
    if (!node)
        return parser_fail(p, line, "memory ran out for its tree");
    node->kind = kind;
    node->line = line;
    return node;
}

struct node *parser_fail(struct parser *p, int line, const char *format, ...)
{
    if (!p->rc) {
        char what[256];
        va_list args;
        va_start(args, format);
        vsnprintf(what, sizeof what, format, args);
        va_end(args);
        chars_mend(what);
        p->rc = err_set(p->err, ERR_INVALID, "line %d of the chat template: %s", line, what);
    }
    p->at = p->end;
    return NULL;
}

bool parser_enter(struct parser *p)
{
    if (++p->depth > PARSE_DEPTH)
        parser_fail(p, p->at->line, "it is nested more than %d deep", PARSE_DEPTH);
    return !p->rc;
}

bool parser_is(const struct parser *p, const char *word)
{
    return p->at->kind == LEX_NAME && p->at->len == strlen(word) &&
           !memcmp(p->at->text, word, p->at->len);
}

bool parser_skip(struct parser *p, enum lexeme_kind kind)
{
    if (p->at->kind != kind)
        return false;
    p->at += kind != LEX_END;
    return true;
}

bool parser_skip_word(struct parser *p, const char *word)
{
    if (!parser_is(p, word))
        return false;
    p->at++;
    return true;
}

/* What stands here, for a message. */
static void expected(struct parser *p, const char *what)
{
    if (p->at->kind == LEX_NAME)
        parser_fail(p, p->at->line, "%s was expected, not \"%.*s\"", what,
                    p->at->len < 60 ? (int)p->at->len : 60, p->at->text);
    else
        parser_fail(p, p->at->line, "%s was expected, not %s", what, lex_written(p->at->kind));
}

void parser_expect(struct parser *p, enum lexeme_kind kind)
{
    if (!parser_skip(p, kind))
        expected(p, lex_written(kind));
}

void parser_expect_word(struct parser *p, const char *word)
{
    if (!parser_skip_word(p, word))
        expected(p, word);
}

static unsigned bucket(const char *name, size_t len)
{
    unsigned hash = (unsigned)len;
    for (size_t i = 0; i < len; i++)
        hash = hash * 31 + (unsigned char)name[i];
    return hash % NAME_BUCKETS;
}

const char *template_name(const struct template *t, const char *name, size_t len)
{
    for (const struct name *n = t->names[bucket(name, len)]; n; n = n->next)
        if (!strncmp(n->text, name, len) && !n->text[len])
            return n->text;
    return NULL;
}

const char *parser_name(struct parser *p)
{
    if (p->at->kind != LEX_NAME) {
        expected(p, "a name");
        return NULL;
    }
    const struct lexeme *l = p->at++;
    const char *known = template_name(p->t, l->text, l->len);
    if (known)
        return known;
    struct name *name = pool_take(&p->t->pool, 1, sizeof *name + l->len + 1);
    if (!name || ++p->t->n_names > PARSE_NAMES) {
        parser_fail(p, l->line, "it uses more than %d different names", PARSE_NAMES);
        return NULL;
    }
    struct name **first = &p->t->names[bucket(l->text, l->len)];
    memcpy(name->text, l->text, l->len);
    name->next = *first;
    *first = name;
    return name->text;
}

/* ---- targets ---- */

static bool assignable(struct parser *p, struct node *target)
{
    if (target && target->kind == NODE_TUPLE) {
        for (struct node *n = target->a; n; n = n->next)
            if (!assignable(p, n))
                return false;
        return true;
    }
    if (!target || (target->kind != NODE_NAME && target->kind != NODE_NAMESPACE)) {
        parser_fail(p, target ? target->line : p->at->line, "only names can be assigned to");
        return false;
    }
    if (p->fors && target->kind == NODE_NAME && !strcmp(target->name, "loop")) {
        parser_fail(p, target->line, "\"loop\" cannot be assigned to inside a loop");
        return false;
    }
    return true;
}

static struct node *one_target(struct parser *p, bool attributes)
{
    if (!attributes || p->at->kind != LEX_NAME || p->at[1].kind != LEX_DOT)
        return parse_primary(p);
    struct node *node = parser_node(p, NODE_NAMESPACE, p->at->line);
    const char *name = parser_name(p);
    parser_expect(p, LEX_DOT);
    struct node *attribute = parser_node(p, NODE_NAME, p->at->line);
    const char *text = parser_name(p);
    if (!node || !attribute || !text)
        return NULL;
    node->name = name;
    node->a = attribute;
    attribute->name = text;
    return node;
}

/* A name, a namespace's attribute if `attributes`, or a tuple of such. */
static struct node *target(struct parser *p, bool attributes)
{
    int line = p->at->line;
    struct node *first = one_target(p, attributes);
    if (first && p->at->kind == LEX_COMMA) {
        struct node *tuple = parser_node(p, NODE_TUPLE, line), **tail = &first->next;
        while (!p->rc && parser_skip(p, LEX_COMMA)) {
            if (p->at->kind == LEX_TAG_END || parser_is(p, "in"))
                break;
            list_add(&tail, one_target(p, attributes));
        }
        if (tuple)
            tuple->a = first;
        first = tuple;
    }
    return assignable(p, first) ? first : NULL;
}

/* ---- statements ---- */

/* Unknown filters and tests are not forgiven from here on. */
static void refuse_unknown(struct parser *p)
{
    if (p->unknown)
        parser_fail(p, p->unknown_line, "there is no filter or test \"%s\"", p->unknown);
}

/* A body that is a scope of its own, up to one of `ends`, which is left standing: where a branch
 * around it would be forgiven for unknown filters, it is not. */
static struct node *scope(struct parser *p, const char *const *ends)
{
    const char *before = p->unknown;
    int line = p->unknown_line;
    p->unknown = NULL;
    struct node *first = body(p, ends);
    refuse_unknown(p);
    p->unknown = before;
    p->unknown_line = line;
    return first;
}

static struct node *scope_to(struct parser *p, const char *end)
{
    struct node *first = scope(p, (const char *const[]){end, NULL});
    parser_expect_word(p, end);
    return first;
}

/* One IF for each condition, chained by c. */
static struct node *parse_if(struct parser *p, int line)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    const char *before = p->unknown;
    int before_line = p->unknown_line;
    struct node *first = NULL, *last = NULL, **branch = &first;
    do {
        struct node *node = parser_node(p, NODE_IF, line);
        if (!node)
            return NULL;
        node->a = parse_tuple(p, false, NULL);
        node->b = body(p, ends);
        *branch = last = node;
        branch = &node->c;
        line = p->at->line;
    } while (parser_skip_word(p, "elif"));
    if (parser_skip_word(p, "else"))
        last->otherwise = body(p, ends + 2);
    parser_expect_word(p, "endif");
    p->unknown = before;
    p->unknown_line = before_line;
    return first;
}

static struct node *parse_for(struct parser *p, int line)
{
    struct node *node = parser_node(p, NODE_FOR, line);
    if (!node)
        return NULL;
    p->fors++;
    node->a = target(p, false);
    p->fors--;
    parser_expect_word(p, "in");
    node->b = parse_tuple(p, false, "recursive");
    if (parser_skip_word(p, "if"))
        node->c = parse_expression(p, true);
    if (parser_is(p, "recursive"))
        return parser_fail(p, line, "recursive loops are not supported");
    p->loops++;
    p->fors++;
    node->d = scope(p, (const char *const[]){"else", "endfor", NULL});
    p->loops--;
    if (parser_skip_word(p, "else"))
        node->otherwise = scope_to(p, "endfor");
    else
        parser_expect_word(p, "endfor");
    p->fors--;
    return node;
}

static struct node *parse_set(struct parser *p, int line)
{
    struct node *node = parser_node(p, NODE_SET, line);
    if (!node)
        return NULL;
    node->a = target(p, true);
    if (parser_skip(p, LEX_ASSIGN)) {
        node->b = parse_tuple(p, true, NULL);
        return node;
    }
    node->kind = NODE_SET_BLOCK;
    node->c = parse_filters(p, NULL, false);
    node->b = scope_to(p, "endset");
    return node;
}

static void parse_params(struct parser *p, struct node *macro)
{
    struct node **tail = &macro->a;
    bool defaults = false;
    parser_expect(p, LEX_LPAREN);
    while (!p->rc && !parser_skip(p, LEX_RPAREN)) {
        struct node *param = parser_node(p, NODE_PARAM, p->at->line);
        const char *name = parser_name(p);
        if (!param || !name)
            return;
        param->name = name;
        if (parser_skip(p, LEX_ASSIGN)) {
            param->a = parse_expression(p, true);
            defaults = true;
        } else if (defaults) {
            parser_fail(p, param->line, "a parameter without a default follows one with");
        }
        list_add(&tail, param);
        if (p->at->kind != LEX_RPAREN)
            parser_expect(p, LEX_COMMA);
    }
}

static struct node *parse_macro(struct parser *p, int line)
{
    struct node *node = parser_node(p, NODE_MACRO, line);
    const char *name = parser_name(p);
    if (!node || !name)
        return NULL;
    int loops = p->loops;
    node->name = name;
    parse_params(p, node);
    p->loops = 0;
    node->b = scope_to(p, "endmacro");
    p->loops = loops;
    return node;
}

static struct node *parse_with(struct parser *p, int line)
{
    struct node *node = parser_node(p, NODE_WITH, line), **tail = node ? &node->a : NULL;
    while (node && !p->rc && p->at->kind != LEX_TAG_END && p->at->kind != LEX_COLON) {
        if (node->a)
            parser_expect(p, LEX_COMMA);
        struct node *set = parser_node(p, NODE_SET, p->at->line);
        struct node *to = one_target(p, false);
        assignable(p, to);
        parser_expect(p, LEX_ASSIGN);
        struct node *value = parse_expression(p, true);
        if (!set)
            return NULL;
        set->a = to;
        set->b = value;
        list_add(&tail, set);
    }
    if (node)
        node->b = scope_to(p, "endwith");
    return node;
}

static struct node *parse_filter_block(struct parser *p, int line)
{
    struct node *node = parser_node(p, NODE_FILTER_BLOCK, line);
    if (!node)
        return NULL;
    node->a = parse_filters(p, NULL, true);
    node->b = scope_to(p, "endfilter");
    return node;
}

/* Marks what the model wrote for trainers; here it is a scope. Jinja makes it a function: no loop
 * can be left from inside. */
static struct node *parse_generation(struct parser *p, int line)
{
    struct node *node = parser_node(p, NODE_SCOPE, line);
    if (!node)
        return NULL;
    int loops = p->loops;
    p->loops = 0;
    node->b = scope_to(p, "endgeneration");
    p->loops = loops;
    return node;
}

static struct node *parse_jump(struct parser *p, int line, enum node_kind kind)
{
    if (!p->loops)
        return parser_fail(p, line, "break or continue stands outside a loop");
    return parser_node(p, kind, line);
}

static struct node *statement(struct parser *p)
{
    int line = p->at->line;
    if (parser_skip_word(p, "if"))
        return parse_if(p, line);
    if (parser_skip_word(p, "for"))
        return parse_for(p, line);
    if (parser_skip_word(p, "set"))
        return parse_set(p, line);
    if (parser_skip_word(p, "macro"))
        return parse_macro(p, line);
    if (parser_skip_word(p, "break"))
        return parse_jump(p, line, NODE_BREAK);
    if (parser_skip_word(p, "continue"))
        return parse_jump(p, line, NODE_CONTINUE);
    if (parser_skip_word(p, "generation"))
        return parse_generation(p, line);
    if (parser_skip_word(p, "with"))
        return parse_with(p, line);
    if (parser_skip_word(p, "filter"))
        return parse_filter_block(p, line);
    if (p->at->kind == LEX_NAME)
        return parser_fail(p, line, "the tag \"%.*s\" is out of place or not supported",
                           p->at->len < 60 ? (int)p->at->len : 60, p->at->text);
    return parser_fail(p, line, "a tag's name was expected, not %s", lex_written(p->at->kind));
}

static struct node *data(struct parser *p)
{
    struct node *node = parser_node(p, NODE_DATA, p->at->line);
    struct marked *marked = pool_take(&p->t->pool, 1, sizeof *marked);
    if (!node || !marked)
        return parser_fail(p, p->at->line, "memory ran out for its text");
    *marked = (struct marked){.bytes = p->at->text, .len = p->at->len};
    node->value = (struct value){.kind = VALUE_STRING, .string = marked};
    p->at++;
    return node;
}

static bool at_end(const struct parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (parser_is(p, *ends))
            return true;
    return false;
}

/* Statements up to a tag that is one of `ends`, which is left standing behind its "{%"; up to the
 * template's end when ends is NULL. The tag before the body is closed here. */
static struct node *body(struct parser *p, const char *const *ends)
{
    struct node *first = NULL, **tail = &first;
    if (ends) {
        parser_skip(p, LEX_COLON);
        parser_expect(p, LEX_TAG_END);
    }
    bool deep = parser_enter(p);
    while (deep && !p->rc && p->at->kind != LEX_END) {
        if (p->at->kind == LEX_DATA) {
            list_add(&tail, data(p));
        } else if (parser_skip(p, LEX_PRINT_BEGIN)) {
            struct node *print = parser_node(p, NODE_PRINT, p->at->line);
            struct node *value = parse_tuple(p, true, NULL);
            parser_expect(p, LEX_PRINT_END);
            if (print)
                print->a = value;
            list_add(&tail, print);
        } else {
            parser_expect(p, LEX_TAG_BEGIN);
            if (at_end(p, ends))
                break;
            list_add(&tail, statement(p));
            parser_expect(p, LEX_TAG_END);
        }
    }
    p->depth--;
    if (ends && !p->rc && p->at->kind == LEX_END) {
        while (ends[1])
            ends++;
        parser_fail(p, p->at->line, "\"%s\" was expected, not the end of the template", *ends);
    }
    return first;
}

int parse_tree(struct template *t, const struct lexeme *lexemes, struct err *err)
{
    const struct lexeme *end = lexemes;
    while (end->kind != LEX_END)
        end++;
    struct parser p = {.t = t, .at = lexemes, .end = end, .err = err};
    t->body = body(&p, NULL);
    if (!p.rc)
        refuse_unknown(&p);
    t->loop = template_name(t, "loop", 4);
    return p.rc;
}
