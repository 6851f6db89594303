/* Can every text that is begun be ended, and within how many calls: see automaton.h. From the final
 * states the edges are walked backwards; a call is behind its callee's start and behind where its
 * caller goes on, whichever needs more. States that need more than AUTOMATON_DEPTH_MAX calls, or
 * from which nothing leads to the end, are AUTOMATON_NEVER: matchers leave them out, so that no
 * text runs into a dead end. */
#include <stdlib.h>
#include <string.h>

#include "text/automaton.h"

/* Edges that lead to a state and, behind those, calls of the rule that begins with it. */
struct backwards {
    const struct automaton *a;
    bool empty_only; /* leave out edges that read: what is reached can end without reading */
    int32_t *first;  /* (n_states + 1) */
    int32_t *edge;   /* (2 n_edges) */
    int32_t *from;   /* (n_edges) the state that an edge leaves */
    uint8_t *need;   /* (n_states) */
    int32_t *stack;  /* (n_states) */
    bool *done;      /* (n_states) */
    int n_stack;
};

static void backwards_release(struct backwards *b)
{
    free(b->first);
    free(b->edge);
    free(b->from);
    free(b->need);
    free(b->stack);
    free(b->done);
}

static int backwards_init(struct backwards *b, const struct automaton *a)
{
    size_t states = (size_t)a->n_states, edges = (size_t)a->n_edges;
    *b = (struct backwards){.a = a};
    b->first = calloc(states + 1, sizeof *b->first);
    b->edge = calloc(2 * edges + 1, sizeof *b->edge);
    b->from = calloc(edges + 1, sizeof *b->from);
    b->need = malloc(states);
    b->stack = calloc(states, sizeof *b->stack);
    b->done = calloc(states, sizeof *b->done);
    if (!b->first || !b->edge || !b->from || !b->need || !b->stack || !b->done)
        return ERR_MEMORY;
    for (int s = 0; s < a->n_states; s++)
        for (int i = a->first[s]; i < a->first[s + 1]; i++) {
            const struct automaton_edge *e = &a->edges[i];
            b->from[i] = s;
            b->first[e->to]++;
            if (e->kind == AUTOMATON_CALL)
                b->first[a->rules[e->rule].start]++;
        }
    for (int s = 0; s < a->n_states; s++)
        b->first[s + 1] += b->first[s];
    for (int i = a->n_edges; i-- > 0;) {
        const struct automaton_edge *e = &a->edges[i];
        b->edge[--b->first[e->to]] = i;
        if (e->kind == AUTOMATON_CALL)
            b->edge[--b->first[a->rules[e->rule].start]] = i;
    }
    return 0;
}

/* What a state needs to go on by this edge, as far as is known. */
static int need_by(const struct backwards *b, const struct automaton_edge *e)
{
    int behind = b->need[e->to];
    if (e->kind == AUTOMATON_BYTES)
        return b->empty_only ? AUTOMATON_NEVER : behind;
    if (e->kind == AUTOMATON_EMPTY)
        return behind;
    int within = b->need[b->a->rules[e->rule].start];
    if (within == AUTOMATON_NEVER || behind == AUTOMATON_NEVER)
        return AUTOMATON_NEVER;
    within += !e->tail;
    return within > behind ? within : behind;
}

/* All states that can be known to need `level`, from those that are. */
static void spread(struct backwards *b, int level)
{
    while (b->n_stack) {
        int32_t s = b->stack[--b->n_stack];
        for (int i = b->first[s]; i < b->first[s + 1]; i++) {
            int32_t from = b->from[b->edge[i]];
            int need = need_by(b, &b->a->edges[b->edge[i]]);
            if (need >= b->need[from])
                continue;
            b->need[from] = (uint8_t)need;
            if (need <= level && !b->done[from]) {
                b->done[from] = true;
                b->stack[b->n_stack++] = from;
            }
        }
    }
}

static void find_needs(struct backwards *b, bool empty_only)
{
    const struct automaton *a = b->a;
    b->empty_only = empty_only;
    memset(b->need, AUTOMATON_NEVER, (size_t)a->n_states);
    memset(b->done, 0, (size_t)a->n_states);
    for (int s = 0; s < a->n_states; s++)
        if (a->final[s])
            b->need[s] = 0;
    for (int level = 0; level <= AUTOMATON_DEPTH_MAX; level++) {
        for (int32_t s = 0; s < a->n_states; s++)
            if (!b->done[s] && b->need[s] <= level) {
                b->done[s] = true;
                b->stack[b->n_stack++] = s;
            }
        spread(b, level);
    }
    for (int s = 0; s < a->n_states; s++)
        if (!b->done[s])
            b->need[s] = AUTOMATON_NEVER;
}

/* A call needs no return where its caller is at its end and can do nothing else. */
static void find_tails(struct automaton *a)
{
    for (int i = 0; i < a->n_edges; i++) {
        int32_t s = a->edges[i].to;
        for (int hops = 0; hops < 8 && !a->final[s] && a->first[s + 1] - a->first[s] == 1 &&
                           a->edges[a->first[s]].kind == AUTOMATON_EMPTY;
             hops++)
            s = a->edges[a->first[s]].to;
        a->edges[i].tail =
            a->edges[i].kind == AUTOMATON_CALL && a->final[s] && a->first[s + 1] == a->first[s];
    }
}

/* ---- rules that call themselves at once ---- */

/* What rules call before they have read anything. */
struct early {
    const struct automaton *a;
    const uint8_t *empty; /* states that can end their rule without reading: not NEVER */
    int32_t *stack;
    bool *seen;
    int *callers; /* (n_rules) how many rules call it early that are not done yet */
};

static void visit(struct early *e, int rule, int change, int32_t *ready, int *n_ready)
{
    const struct automaton *a = e->a;
    int n = 0;
    memset(e->seen, 0, (size_t)a->n_states);
    e->seen[e->stack[n++] = a->rules[rule].start] = true;
    while (n) {
        int32_t s = e->stack[--n];
        for (int i = a->first[s]; i < a->first[s + 1]; i++) {
            const struct automaton_edge *edge = &a->edges[i];
            bool call = edge->kind == AUTOMATON_CALL;
            if (edge->kind == AUTOMATON_BYTES)
                continue;
            if (call && !(e->callers[edge->rule] += change) && change < 0)
                ready[(*n_ready)++] = edge->rule;
            bool on = !call || e->empty[a->rules[edge->rule].start] != AUTOMATON_NEVER;
            if (on && !e->seen[edge->to])
                e->seen[e->stack[n++] = edge->to] = true;
        }
    }
}

/* Sorts the rules so that each stands before those that it calls early; those that cannot be are in
 * a circle. */
static int check_circles(struct early *e, struct err *err)
{
    int n = e->a->n_rules, n_ready = 0, done = 0;
    int32_t *ready = calloc((size_t)n, sizeof *ready);
    if (!ready)
        return err_set(err, ERR_MEMORY, "no memory left for %d rules", n);
    for (int r = 0; r < n; r++)
        visit(e, r, 1, ready, &n_ready);
    for (int r = 0; r < n; r++)
        if (!e->callers[r])
            ready[n_ready++] = r;
    while (done < n_ready)
        visit(e, ready[done++], -1, ready, &n_ready);
    free(ready);
    return done == n ? 0
                     : err_set(err, ERR_INVALID,
                               "it refers to itself with nothing to be read in between");
}

int automaton_check(struct automaton *a, struct err *err)
{
    struct backwards b;
    struct early early = {.a = a};
    int rc = backwards_init(&b, a);
    early.callers = calloc((size_t)a->n_rules, sizeof *early.callers);
    if (rc || !early.callers) {
        rc = err_set(err, ERR_MEMORY, "no memory left for %d states", a->n_states);
        goto out;
    }
    find_tails(a);
    find_needs(&b, true);
    early.empty = b.need;
    early.stack = b.stack;
    early.seen = b.done;
    rc = check_circles(&early, err);
    if (rc)
        goto out;
    find_needs(&b, false);
    memcpy(a->need, b.need, (size_t)a->n_states);
    if (a->need[a->rules[0].start] == AUTOMATON_NEVER)
        rc = err_set(err, ERR_INVALID, "no finite text is in it");
out:
    free(early.callers);
    backwards_release(&b);
    return rc;
}
