/* Expressions to values. */
#include "text/template_exec.h"

#include <string.h>

static struct value look_up(struct run *r, const struct scope *scope, const char *name)
{
    size_t visited = 0;
    struct binding *found = NULL;
    for (; scope && !found; scope = scope->outer)
        for (struct binding *b = scope->first; b && !found; b = b->next, visited++)
            if (b->name == name)
                found = b;
    run_step(r, visited / 16);
    if (found)
        return found->value;
    const struct builtin *function = builtin_find(jinja_functions, name);
    if (function)
        return (struct value){.kind = VALUE_FUNCTION, .function = function};
    return value_undefined(r, name, NULL);
}

static struct value eval_items(struct run *r, const struct scope *scope, const struct node *node,
                               enum value_kind kind)
{
    struct value list = value_seq(r, kind, 0);
    for (const struct node *n = node->a; n && !r->rc; n = n->next)
        seq_add(r, list, eval(r, scope, n));
    return list;
}

static struct value eval_dict(struct run *r, const struct scope *scope, const struct node *node)
{
    struct value dict = value_dict(r, VALUE_DICT, 0);
    for (const struct node *n = node->a; n && !r->rc; n = n->next) {
        struct value key = eval(r, scope, n->a);
        dict_set(r, dict, key, eval(r, scope, n->b));
    }
    return dict;
}

static struct value eval_slice(struct run *r, const struct scope *scope, const struct node *node)
{
    struct value v = eval(r, scope, node->a);
    struct value part[3] = {node->b ? eval(r, scope, node->b) : NONE,
                            node->c ? eval(r, scope, node->c) : NONE,
                            node->d ? eval(r, scope, node->d) : NONE};
    return value_range(r, v, part);
}

/* The arguments of a call, filter or test: node->b. */
static struct args eval_args(struct run *r, const struct scope *scope, const struct node *node)
{
    struct args args = {0};
    size_t n = 0, named = 0;
    for (const struct node *arg = node->b; arg; arg = arg->next)
        *(arg->name ? &named : &n) += 1;
    args.values = n ? run_take(r, n, sizeof *args.values) : NULL;
    args.named = named ? run_take(r, named, sizeof *args.named) : NULL;
    for (const struct node *arg = node->b; arg && !r->rc; arg = arg->next) {
        struct value value = eval(r, scope, arg->a);
        if (!arg->name)
            args.values[args.n++] = value;
        else
            args.named[args.n_named++] = (struct keyword){arg->name, value};
    }
    return args;
}

struct value value_call(struct run *r, struct value f, const struct args *args)
{
    if (r->rc)
        return NONE;
    switch (f.kind) {
    case VALUE_FUNCTION:
        return builtin_call(r, f.function, NONE, args);
    case VALUE_METHOD:
        return builtin_call(r, f.method->builtin, f.method->self, args);
    case VALUE_MACRO:
        return macro_call(r, f.macro, args);
    case VALUE_UNDEFINED:
        return run_fail(r, "\"%.100s\" of a %s cannot be called: it is undefined", f.missing->name,
                        f.missing->owner ? f.missing->owner : "template");
    default:
        return run_fail(r, "a %s cannot be called", value_type(f));
    }
}

static struct value eval_call(struct run *r, const struct scope *scope, const struct node *node)
{
    struct value f = eval(r, scope, node->a);
    struct args args = eval_args(r, scope, node);
    return value_call(r, f, &args);
}

static struct value eval_builtin(struct run *r, const struct scope *scope, const struct node *node)
{
    bool test = node->kind == NODE_TEST;
    if (!node->builtin)
        return run_fail(r, "there is no %s \"%.100s\"", test ? "test" : "filter", node->name);
    struct value v = eval(r, scope, node->a);
    struct args args = eval_args(r, scope, node);
    v = builtin_call(r, node->builtin, v, &args);
    return test ? BOOL(value_truth(r, v)) : v;
}

static struct value eval_compare(struct run *r, const struct scope *scope, const struct node *node)
{
    struct value a = eval(r, scope, node->a);
    for (const struct node *n = node->b; n && !r->rc; n = n->next) {
        struct value b = eval(r, scope, n->a);
        if (r->rc || !op_compare(r, n->op, a, b))
            return BOOL(false);
        a = b;
    }
    return BOOL(true);
}

static struct value eval_concat(struct run *r, const struct scope *scope, const struct node *node)
{
    struct value text = value_str(r, eval(r, scope, node->a));
    for (const struct node *n = node->a->next; n && !r->rc; n = n->next)
        text = value_concat(r, text, value_str(r, eval(r, scope, n)));
    return text;
}

static struct value eval_cond(struct run *r, const struct scope *scope, const struct node *node)
{
    if (value_truth(r, eval(r, scope, node->a)))
        return eval(r, scope, node->b);
    return node->c ? eval(r, scope, node->c)
                   : value_undefined(r, "value of an \"if\" without \"else\"", NULL);
}

static struct value eval_logic(struct run *r, const struct scope *scope, const struct node *node)
{
    struct value a = eval(r, scope, node->a);
    if (node->kind == NODE_NOT)
        return BOOL(!value_truth(r, a));
    return value_truth(r, a) == (node->kind == NODE_OR) ? a : eval(r, scope, node->b);
}

static struct value eval_binary(struct run *r, const struct scope *scope, const struct node *node)
{
    struct value a = eval(r, scope, node->a), b = eval(r, scope, node->b);
    return op_binary(r, node->op, a, b);
}

static struct value eval_item(struct run *r, const struct scope *scope, const struct node *node)
{
    struct value v = eval(r, scope, node->a), key = eval(r, scope, node->b);
    return value_item(r, v, key);
}

static struct value eval_kind(struct run *r, const struct scope *scope, const struct node *node)
{
    switch (node->kind) {
    case NODE_CONST:
        return node->value;
    case NODE_NAME:
        return look_up(r, scope, node->name);
    case NODE_LIST:
        return eval_items(r, scope, node, VALUE_LIST);
    case NODE_TUPLE:
        return eval_items(r, scope, node, VALUE_TUPLE);
    case NODE_DICT:
        return eval_dict(r, scope, node);
    case NODE_ATTR:
        return value_attr(r, eval(r, scope, node->a), node->name);
    case NODE_ITEM:
        return eval_item(r, scope, node);
    case NODE_SLICE:
        return eval_slice(r, scope, node);
    case NODE_CALL:
        return eval_call(r, scope, node);
    case NODE_FILTER:
    case NODE_TEST:
        return eval_builtin(r, scope, node);
    case NODE_NOT:
    case NODE_AND:
    case NODE_OR:
        return eval_logic(r, scope, node);
    case NODE_NEG:
        return op_negate(r, eval(r, scope, node->a), node->op == LEX_SUB);
    case NODE_BINARY:
        return eval_binary(r, scope, node);
    case NODE_COMPARE:
        return eval_compare(r, scope, node);
    case NODE_CONCAT:
        return eval_concat(r, scope, node);
    default:
        return eval_cond(r, scope, node);
    }
}

struct value eval(struct run *r, const struct scope *scope, const struct node *node)
{
    struct value v = NONE;
    int line = r->line;
    if (!r->rc)
        r->line = node->line;
    if (run_enter(r) && run_step(r, 1))
        v = eval_kind(r, scope, node);
    r->depth--;
    r->line = line;
    return v;
}
