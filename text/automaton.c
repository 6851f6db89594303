/* Drawing an automaton, and its life: see automaton.h. */
#include "text/automaton.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "text/mask_store.h"

/* ---- drawing ---- */

int32_t automaton_state(struct automaton_draft *d)
{
    if (d->n_states >= AUTOMATON_STATES_MAX)
        d->full = true;
    return d->full ? 0 : d->n_states++;
}

/* Room for one more; false when the draft is full now. */
static bool grow(struct automaton_draft *d, void *list, int n, int *room, int most, size_t size)
{
    void **at = list;
    d->full |= n >= most;
    if (d->full || n < *room)
        return !d->full;
    int more = *room ? *room * 2 : 64;
    void *larger = realloc(*at, (size_t)more * size);
    if (!larger) {
        d->full = d->no_memory = true;
        return false;
    }
    *at = larger;
    *room = more;
    return true;
}

static int add_rule(struct automaton_draft *d, int32_t start, int32_t final)
{
    if (!grow(d, &d->rules, d->n_rules, &d->room_rules, AUTOMATON_RULES_MAX, sizeof *d->rules))
        return 0;
    d->rules[d->n_rules] = (struct automaton_rule){start, final};
    return d->n_rules++;
}

int automaton_rule(struct automaton_draft *d)
{
    int32_t start = automaton_state(d);
    return add_rule(d, start, automaton_state(d));
}

static void draw(struct automaton_draft *d, int32_t from, struct automaton_edge edge)
{
    if (grow(d, &d->edges, d->n_edges, &d->room_edges, AUTOMATON_EDGES_MAX, sizeof *d->edges))
        d->edges[d->n_edges++] = (struct automaton_drawn){from, edge};
}

void automaton_bytes(struct automaton_draft *d, int32_t from, int32_t to, int low, int high)
{
    draw(d, from,
         (struct automaton_edge){
             .to = to, .kind = AUTOMATON_BYTES, .low = (uint8_t)low, .high = (uint8_t)high});
}

void automaton_empty(struct automaton_draft *d, int32_t from, int32_t to)
{
    draw(d, from, (struct automaton_edge){.to = to, .kind = AUTOMATON_EMPTY});
}

void automaton_call(struct automaton_draft *d, int32_t from, int32_t to, int rule)
{
    draw(d, from, (struct automaton_edge){.to = to, .rule = rule, .kind = AUTOMATON_CALL});
}

int32_t automaton_text(struct automaton_draft *d, int32_t from, const char *text, size_t len)
{
    for (size_t i = 0; i < len && !d->full; i++) {
        int32_t to = automaton_state(d);
        automaton_bytes(d, from, to, (unsigned char)text[i], (unsigned char)text[i]);
        from = to;
    }
    return from;
}

int automaton_include(struct automaton_draft *d, const struct automaton *a)
{
    int32_t state = d->n_states;
    int rule = d->n_rules;
    d->full |= a->n_states > AUTOMATON_STATES_MAX - d->n_states;
    if (d->full)
        return 0;
    d->n_states += a->n_states;
    for (int r = 0; r < a->n_rules; r++)
        add_rule(d, state + a->rules[r].start, state + a->rules[r].final);
    for (int s = 0; s < a->n_states; s++)
        for (int i = a->first[s]; i < a->first[s + 1]; i++) {
            struct automaton_edge edge = a->edges[i];
            edge.to += state;
            edge.rule += edge.kind == AUTOMATON_CALL ? rule : 0;
            draw(d, state + s, edge);
        }
    return rule;
}

void automaton_draft_release(struct automaton_draft *d)
{
    free(d->edges);
    free(d->rules);
    *d = (struct automaton_draft){0};
}

/* ---- finishing ---- */

/* Edges by the state that they leave, in the order in which they were drawn. */
static void sort_edges(struct automaton *a, const struct automaton_draft *d)
{
    for (int i = 0; i < d->n_edges; i++)
        a->first[d->edges[i].from + 1]++;
    for (int s = 0; s < a->n_states; s++)
        a->first[s + 1] += a->first[s];
    for (int i = d->n_edges; i-- > 0;)
        a->edges[--a->first[d->edges[i].from + 1]] = d->edges[i].edge;
    /* Each entry stands now where its state begins, one place too far. */
    memmove(a->first, a->first + 1, (size_t)a->n_states * sizeof *a->first);
    a->first[a->n_states] = a->n_edges;
}

static struct automaton *make(const struct automaton_draft *d)
{
    struct automaton *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->references = 1;
    a->n_states = d->n_states;
    a->n_edges = d->n_edges;
    a->n_rules = d->n_rules;
    a->edges = calloc((size_t)d->n_edges + 1, sizeof *a->edges);
    a->first = calloc((size_t)d->n_states + 1, sizeof *a->first);
    a->need = calloc((size_t)d->n_states, sizeof *a->need);
    a->final = calloc((size_t)d->n_states, sizeof *a->final);
    a->rules = calloc((size_t)d->n_rules, sizeof *a->rules);
    if (!a->edges || !a->first || !a->need || !a->final || !a->rules) {
        automaton_release(a);
        return NULL;
    }
    memcpy(a->rules, d->rules, (size_t)d->n_rules * sizeof *a->rules);
    for (int r = 0; r < a->n_rules; r++)
        a->final[a->rules[r].final] = true;
    sort_edges(a, d);
    return a;
}

int automaton_finish(struct automaton_draft *d, struct automaton **automaton, struct err *err)
{
    *automaton = NULL;
    int rc = 0;
    if (d->no_memory)
        rc = err_set(err, ERR_MEMORY, "no memory left for %d states", d->n_states);
    else if (d->full)
        rc = err_set(err, ERR_INVALID,
                     "it is too large: it may have %d states, %d edges and %d rules",
                     AUTOMATON_STATES_MAX, AUTOMATON_EDGES_MAX, AUTOMATON_RULES_MAX);
    assert(d->full || d->n_rules > 0);
    struct automaton *a = rc ? NULL : make(d);
    if (!rc && !a)
        rc = err_set(err, ERR_MEMORY, "no memory left for %d states", d->n_states);
    automaton_draft_release(d);
    if (!rc)
        rc = automaton_check(a, err);
    if (rc)
        automaton_release(a);
    else
        *automaton = a;
    return rc;
}

/* ---- owners ---- */

struct automaton *automaton_retain(const struct automaton *automaton)
{
    struct automaton *a = (struct automaton *)automaton; /* the count alone is not constant */
    if (a)
        __atomic_add_fetch(&a->references, 1, __ATOMIC_RELAXED);
    return a;
}

void automaton_release(const struct automaton *automaton)
{
    struct automaton *a = (struct automaton *)automaton;
    if (!a || __atomic_sub_fetch(&a->references, 1, __ATOMIC_ACQ_REL))
        return;
    free(a->edges);
    free(a->first);
    free(a->need);
    free(a->final);
    free(a->rules);
    mask_store_free(a->masks);
    free(a);
}

static_assert(sizeof(struct automaton_edge) == 12, "no bytes between its fields, for memcmp");

bool automaton_same(const struct automaton *a, const struct automaton *b)
{
    if (a->n_states != b->n_states || a->n_edges != b->n_edges || a->n_rules != b->n_rules)
        return false;
    return !memcmp(a->edges, b->edges, (size_t)a->n_edges * sizeof *a->edges) &&
           !memcmp(a->first, b->first, ((size_t)a->n_states + 1) * sizeof *a->first) &&
           !memcmp(a->rules, b->rules, (size_t)a->n_rules * sizeof *a->rules);
}
