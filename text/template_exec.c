/* Statements: they write text and bind names. */
#include "text/template_exec.h"

#include <string.h>

/* What is to be done after a statement. */
enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };

static enum flow exec_body(struct run *r, struct scope *scope, const struct node *body);

/* ---- names ---- */

static struct scope *scope_new(struct run *r, const struct scope *outer)
{
    struct scope *scope = run_take(r, 1, sizeof *scope);
    if (scope)
        scope->outer = outer;
    return scope;
}

static void scope_set(struct run *r, struct scope *scope, const char *name, struct value value)
{
    size_t visited = 0;
    for (struct binding *b = scope->first; b; b = b->next, visited++)
        if (b->name == name) {
            b->value = value;
            run_step(r, visited / 16);
            return;
        }
    struct binding *binding = run_take(r, 1, sizeof *binding);
    if (!binding || !run_step(r, visited / 16))
        return;
    *binding = (struct binding){scope->first, name, value};
    scope->first = binding;
}

static void assign(struct run *r, struct scope *scope, const struct node *target,
                   struct value value)
{
    if (r->rc)
        return;
    if (target->kind == NODE_NAME) {
        scope_set(r, scope, target->name, value);
        return;
    }
    if (target->kind == NODE_NAMESPACE) {
        struct node name = {.kind = NODE_NAME, .line = target->line, .name = target->name};
        struct value space = eval(r, scope, &name);
        const char *attribute = target->a->name;
        if (space.kind != VALUE_NAMESPACE)
            run_fail(r, "\"%.100s\" is no namespace: its attributes cannot be set", target->name);
        else
            dict_set(r, space, value_literal(r, attribute, strlen(attribute)), value);
        return;
    }
    struct value items = value_items(r, value);
    size_t n = 0;
    for (const struct node *t = target->a; t; t = t->next)
        n++;
    if (!r->rc && items.seq->n != n)
        run_fail(r, "%zu names stand for %zu values", n, items.seq->n);
    size_t i = 0;
    for (const struct node *t = target->a; t && !r->rc; t = t->next)
        assign(r, scope, t, items.seq->items[i++]);
}

/* ---- text ---- */

/* The text that a body writes. */
static struct value capture(struct run *r, struct scope *scope, const struct node *body,
                            enum flow *flow)
{
    struct builder text = {.run = r, .limit = r->max_output}, *out = r->out;
    r->out = &text;
    *flow = exec_body(r, scope, body);
    r->out = out;
    return builder_string(&text);
}

/* A chain of filters over a block's text: the innermost has no operand of its own. */
static struct value filter_text(struct run *r, const struct scope *scope, const struct node *filter,
                                struct value text)
{
    struct node operand = {.kind = NODE_CONST, .line = filter->line, .value = text};
    struct node copy = *filter;
    if (!run_enter(r)) {
        r->depth--;
        return NONE;
    }
    if (filter->a)
        operand.value = filter_text(r, scope, filter->a, text);
    copy.a = &operand;
    text = eval(r, scope, &copy);
    r->depth--;
    return text;
}

static enum flow exec_set_block(struct run *r, struct scope *scope, const struct node *node)
{
    struct scope *inner = scope_new(r, scope);
    enum flow flow;
    if (!inner)
        return FLOW_ON;
    struct value text = capture(r, inner, node->b, &flow);
    if (flow != FLOW_ON)
        return flow;
    if (node->c)
        text = filter_text(r, inner, node->c, text);
    assign(r, scope, node->a, text);
    return FLOW_ON;
}

static enum flow exec_filter_block(struct run *r, struct scope *scope, const struct node *node)
{
    struct scope *inner = scope_new(r, scope);
    enum flow flow;
    if (!inner)
        return FLOW_ON;
    struct value text = capture(r, inner, node->b, &flow);
    if (flow == FLOW_ON)
        print_str(r->out, filter_text(r, inner, node->a, text));
    return flow;
}

/* ---- macros ---- */

/* Gives the parameters their values; the number of named arguments among them. */
static size_t bind(struct run *r, struct scope *scope, const struct node *node,
                   const struct args *args)
{
    size_t n = 0, used = 0;
    for (const struct node *param = node->a; param && !r->rc; param = param->next, n++) {
        struct value value = {.kind = VALUE_ABSENT};
        if (n < args->n)
            value = args->values[n];
        for (size_t i = 0; i < args->n_named && value.kind == VALUE_ABSENT; i++)
            if (args->named[i].name == param->name) {
                value = args->named[i].value;
                used++;
            }
        if (value.kind == VALUE_ABSENT)
            value = param->a ? eval(r, scope, param->a) : value_undefined(r, param->name, NULL);
        scope_set(r, scope, param->name, value);
    }
    if (!r->rc && args->n > n)
        run_fail(r, "the macro \"%.100s\" takes %zu arguments, not %zu", node->name, n, args->n);
    return used;
}

struct value macro_call(struct run *r, const struct macro *macro, const struct args *args)
{
    const struct node *node = macro->node;
    struct scope *scope = scope_new(r, macro->scope);
    struct value text = NONE;
    enum flow flow;
    if (scope && run_enter(r)) {
        if (bind(r, scope, node, args) < args->n_named)
            run_fail(r,
                     "the macro \"%.100s\" has no such parameter as a named one, or has it twice",
                     node->name);
        text = capture(r, scope, node->b, &flow);
        r->depth--;
    }
    return text;
}

static void exec_macro(struct run *r, struct scope *scope, const struct node *node)
{
    struct macro *macro = run_take(r, 1, sizeof *macro);
    if (!macro)
        return;
    *macro = (struct macro){node, scope};
    scope_set(r, scope, node->name, (struct value){.kind = VALUE_MACRO, .macro = macro});
}

/* ---- loops ---- */

/* Takes one more item; false when there is none. */
static bool loop_take(struct run *r, struct loop *loop)
{
    while (!r->rc && loop->at < loop->source.seq->n && run_step(r, 1)) {
        struct value item = loop->source.seq->items[loop->at++];
        if (loop->node->c) {
            struct scope *scope = scope_new(r, loop->outer);
            if (!scope)
                break;
            assign(r, scope, loop->node->a, item);
            if (!value_truth(r, eval(r, scope, loop->node->c)))
                continue;
        }
        seq_add(r, loop->taken, item);
        return !r->rc;
    }
    return false;
}

static enum flow exec_for(struct run *r, struct scope *scope, const struct node *node)
{
    struct loop *loop = run_take(r, 1, sizeof *loop);
    if (!loop)
        return FLOW_ON;
    *loop = (struct loop){.node = node, .outer = scope};
    loop->source = value_items(r, eval(r, scope, node->b));
    loop->taken = value_seq(r, VALUE_LIST, 0);
    enum flow flow = FLOW_ON;
    for (; !r->rc && flow != FLOW_BREAK; loop->index0++) {
        if (loop->index0 == loop->taken.seq->n && !loop_take(r, loop))
            break;
        struct scope *turn = scope_new(r, scope);
        if (!turn)
            break;
        if (r->template->loop)
            scope_set(r, turn, r->template->loop, (struct value){.kind = VALUE_LOOP, .loop = loop});
        assign(r, turn, node->a, loop->taken.seq->items[loop->index0]);
        flow = exec_body(r, turn, node->d);
    }
    /* "else" runs where there was no item. */
    if (!r->rc && loop->taken.seq->n == 0 && node->otherwise) {
        struct scope *otherwise = scope_new(r, scope);
        return otherwise ? exec_body(r, otherwise, node->otherwise) : FLOW_ON;
    }
    return FLOW_ON;
}

static size_t loop_length(struct run *r, struct loop *loop)
{
    while (loop_take(r, loop))
        ;
    return loop->taken.seq->n;
}

static struct value loop_index(struct run *r, const struct call *call)
{
    (void)r;
    return INT((int64_t)call->self.loop->index0 + 1);
}

static struct value loop_index0(struct run *r, const struct call *call)
{
    (void)r;
    return INT((int64_t)call->self.loop->index0);
}

static struct value loop_revindex(struct run *r, const struct call *call)
{
    return INT((int64_t)(loop_length(r, call->self.loop) - call->self.loop->index0));
}

static struct value loop_revindex0(struct run *r, const struct call *call)
{
    return INT((int64_t)(loop_length(r, call->self.loop) - call->self.loop->index0) - 1);
}

static struct value loop_first(struct run *r, const struct call *call)
{
    (void)r;
    return BOOL(call->self.loop->index0 == 0);
}

static bool has_next(struct run *r, struct loop *loop)
{
    return loop->index0 + 1 < loop->taken.seq->n || loop_take(r, loop);
}

static struct value loop_last(struct run *r, const struct call *call)
{
    return BOOL(!has_next(r, call->self.loop));
}

static struct value loop_count(struct run *r, const struct call *call)
{
    return INT((int64_t)loop_length(r, call->self.loop));
}

static struct value loop_previtem(struct run *r, const struct call *call)
{
    struct loop *loop = call->self.loop;
    return loop->index0 ? loop->taken.seq->items[loop->index0 - 1]
                        : value_undefined(r, "item before", "loop at its first item");
}

static struct value loop_nextitem(struct run *r, const struct call *call)
{
    struct loop *loop = call->self.loop;
    return has_next(r, loop) ? loop->taken.seq->items[loop->index0 + 1]
                             : value_undefined(r, "item behind", "loop at its last item");
}

static struct value loop_cycle(struct run *r, const struct call *call)
{
    const struct args *args = call->args;
    return args->n ? args->values[call->self.loop->index0 % args->n]
                   : run_fail(r, "loop.cycle needs at least one item");
}

static struct value loop_changed(struct run *r, const struct call *call)
{
    struct loop *loop = call->self.loop;
    struct value now = value_seq(r, VALUE_TUPLE, 0);
    for (size_t i = 0; i < call->args->n; i++)
        seq_add(r, now, call->args->values[i]);
    bool changed = loop->changed.kind == VALUE_ABSENT || !value_equal(r, loop->changed, now);
    loop->changed = now;
    return BOOL(changed);
}

/* Those that take no arguments are attributes: they are computed where they are read. */
const struct builtin loop_methods[] = {
    {"index", loop_index, {0}, 0, false},         {"index0", loop_index0, {0}, 0, false},
    {"first", loop_first, {0}, 0, false},         {"last", loop_last, {0}, 0, false},
    {"length", loop_count, {0}, 0, false},        {"revindex", loop_revindex, {0}, 0, false},
    {"revindex0", loop_revindex0, {0}, 0, false}, {"previtem", loop_previtem, {0}, 0, false},
    {"nextitem", loop_nextitem, {0}, 0, false},   {"cycle", loop_cycle, {0}, 0, true},
    {"changed", loop_changed, {0}, 0, true},      {0},
};

/* ---- statements ---- */

static enum flow exec_if(struct run *r, struct scope *scope, const struct node *node)
{
    for (; node && !r->rc; node = node->c) {
        r->line = node->line;
        if (value_truth(r, eval(r, scope, node->a)))
            return exec_body(r, scope, node->b);
        if (!node->c)
            return exec_body(r, scope, node->otherwise);
    }
    return FLOW_ON;
}

static enum flow exec_with(struct run *r, struct scope *scope, const struct node *node)
{
    struct scope *inner = scope_new(r, scope);
    for (const struct node *set = node->a; inner && set; set = set->next)
        assign(r, inner, set->a, eval(r, scope, set->b));
    return inner ? exec_body(r, inner, node->b) : FLOW_ON;
}

static enum flow exec_scope(struct run *r, struct scope *scope, const struct node *node)
{
    struct scope *inner = scope_new(r, scope);
    return inner ? exec_body(r, inner, node->b) : FLOW_ON;
}

static enum flow exec_statement(struct run *r, struct scope *scope, const struct node *node)
{
    switch (node->kind) {
    case NODE_DATA:
        builder_value(r->out, node->value);
        return FLOW_ON;
    case NODE_PRINT:
        print_str(r->out, eval(r, scope, node->a));
        return FLOW_ON;
    case NODE_IF:
        return exec_if(r, scope, node);
    case NODE_FOR:
        return exec_for(r, scope, node);
    case NODE_SET:
        assign(r, scope, node->a, eval(r, scope, node->b));
        return FLOW_ON;
    case NODE_SET_BLOCK:
        return exec_set_block(r, scope, node);
    case NODE_MACRO:
        exec_macro(r, scope, node);
        return FLOW_ON;
    case NODE_FILTER_BLOCK:
        return exec_filter_block(r, scope, node);
    case NODE_WITH:
        return exec_with(r, scope, node);
    case NODE_SCOPE:
        return exec_scope(r, scope, node);
    default:
        return node->kind == NODE_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
    }
}

static enum flow exec_body(struct run *r, struct scope *scope, const struct node *body)
{
    enum flow flow = FLOW_ON;
    int line = r->line;
    if (run_enter(r))
        for (; body && flow == FLOW_ON && run_step(r, 1); body = body->next) {
            r->line = body->line;
            flow = exec_statement(r, scope, body);
        }
    r->depth--;
    r->line = line;
    return flow;
}

/* ---- what a template sees ---- */

static void define(struct run *r, struct scope *scope, const char *name, struct value value)
{
    const char *known = template_name(r->template, name, strlen(name));
    if (known)
        scope_set(r, scope, known, value);
}

void exec_template(struct run *r, const struct template *t)
{
    const struct template_input *in = r->input;
    const char *bos = in->bos_token ? in->bos_token : "", *eos = in->eos_token ? in->eos_token : "";
    struct scope *scope = scope_new(r, NULL);
    const char *key;
    json_t *item;
    r->template = t;
    if (!scope)
        return;
    json_object_foreach((json_t *)in->extra, key, item)
        define(r, scope, key, value_from_json(r, item));
    if (in->messages)
        define(r, scope, "messages", value_from_json(r, in->messages));
    if (in->tools)
        define(r, scope, "tools", value_from_json(r, in->tools));
    define(r, scope, "add_generation_prompt", BOOL(in->add_generation_prompt));
    define(r, scope, "bos_token", value_literal(r, bos, strlen(bos)));
    define(r, scope, "eos_token", value_literal(r, eos, strlen(eos)));
    exec_body(r, scope, t->body);
}
