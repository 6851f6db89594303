/* A suffix automaton with hashed edges. State 0 is the empty suffix; a state stands for the
 * substrings that end at the same positions, `len` being the longest of them, and its link is the
 * state of the longest suffix that ends at more positions. */
#include "engine/lookup.h"

#include <stdbool.h>
#include <stdlib.h>

struct lookup_state {
    int32_t len;
    int32_t link;
    int32_t end;  /* where it ended last */
    int32_t edge; /* first of its edges */
};

struct lookup_edge {
    int32_t from, token, to;
    int32_t sibling; /* next edge of the same state */
    int32_t next;    /* next edge of the same hash */
};

/* Suffixes of the text whose last occurrence is brought up to date with each token, longest first.
 * Without a limit a text like "aaaa" would take quadratic time. Ordinary text nests far fewer
 * repeats; a longer match keeps its place by being extended. */
#define RECENT 32

int lookup_init(struct lookup *l, int context, struct err *err)
{
    size_t n = (size_t)context, slots = 64;
    while (slots < 3 * n)
        slots *= 2;
    size_t n_states = 2 * n + 2, n_edges = 3 * n + 4;
    size_t states = n_states * sizeof(struct lookup_state);
    size_t edges = n_edges * sizeof(struct lookup_edge);
    *l = (struct lookup){.context = context, .mask = (uint32_t)(slots - 1)};
    /* Zeroes that take no memory before they are written: most sequences are short. */
    char *p = l->block = calloc(1, states + edges + (slots + n + 1) * sizeof(int32_t));
    if (!p)
        return err_set(err, ERR_MEMORY, "no memory to look up drafts in %d tokens", context);
    l->states = (struct lookup_state *)p;
    l->edges = (struct lookup_edge *)(p + states);
    l->first = (int32_t *)(p + states + edges);
    l->tokens = l->first + slots;
    lookup_reset(l);
    return 0;
}

void lookup_release(struct lookup *l)
{
    free(l->block);
    *l = (struct lookup){0};
}

/* Mixes so that neither neighbouring states nor neighbouring tokens share slots. */
static uint32_t slot_of(const struct lookup *l, int state, int32_t token)
{
    uint64_t h = ((uint64_t)(uint32_t)state << 32 | (uint32_t)token) * 0x9e3779b97f4a7c15u;
    return (uint32_t)((h ^ h >> 29) * 0xbf58476d1ce4e5b9u >> 32) & l->mask;
}

void lookup_reset(struct lookup *l)
{
    for (int e = 0; e < l->n_edges; e++)
        l->first[slot_of(l, l->edges[e].from, l->edges[e].token)] = 0;
    l->n = l->n_edges = l->last = 0;
    l->match_length = l->match_end = 0;
    l->states[0] = (struct lookup_state){.link = -1, .edge = -1};
    l->n_states = 1;
}

static struct lookup_edge *edge_find(const struct lookup *l, int state, int32_t token)
{
    int e = l->first[slot_of(l, state, token)] - 1;
    while (e >= 0 && (l->edges[e].from != state || l->edges[e].token != token))
        e = l->edges[e].next;
    return e < 0 ? NULL : &l->edges[e];
}

static void edge_add(struct lookup *l, int from, int32_t token, int to)
{
    int32_t *slot = &l->first[slot_of(l, from, token)];
    int e = l->n_edges++;
    l->edges[e] = (struct lookup_edge){from, token, to, l->states[from].edge, *slot - 1};
    l->states[from].edge = e;
    *slot = e + 1;
}

/* Splits q: the suffixes of up to `len` tokens, which also end at the new position, get a state of
 * their own, reached from p and p's suffixes. */
static int split(struct lookup *l, int p, int32_t token, int q, int len)
{
    int copy = l->n_states++;
    l->states[copy] = (struct lookup_state){len, l->states[q].link, l->states[q].end, -1};
    for (int e = l->states[q].edge; e >= 0; e = l->edges[e].sibling)
        edge_add(l, copy, l->edges[e].token, l->edges[e].to);
    l->states[q].link = copy;
    for (struct lookup_edge *e; p >= 0; p = l->states[p].link) {
        e = edge_find(l, p, token);
        if (!e || e->to != q)
            break;
        e->to = copy;
    }
    return copy;
}

/* The state of the longest suffix of text + token that occurred before; adds the new state's edges.
 */
static int extend(struct lookup *l, int state, int32_t token)
{
    struct lookup_edge *e = NULL;
    int p = l->last;
    while (p >= 0 && !(e = edge_find(l, p, token))) {
        int link = l->states[p].link;
        if (link >= 0 && l->states[link].end < l->states[p].end)
            l->states[link].end = l->states[p].end; /* what RECENT left behind */
        edge_add(l, p, token, state);
        p = link;
    }
    if (p < 0)
        return 0;
    int len = l->states[p].len + 1;
    return l->states[e->to].len == len ? e->to : split(l, p, token, e->to, len);
}

void lookup_append(struct lookup *l, int32_t token)
{
    if (l->n == l->context)
        return;
    int state = l->n_states++, at = l->n++;
    l->tokens[at] = token;
    l->states[state] = (struct lookup_state){at + 1, 0, at, -1};
    int s = l->states[state].link = extend(l, state, token);
    bool goes_on = l->match_length && l->states[s].len == l->match_length + 1 &&
                   l->tokens[l->match_end + 1] == token;
    l->match_end = goes_on ? l->match_end + 1 : l->states[s].end;
    l->match_length = l->states[s].len;
    for (int i = 0; i < RECENT && s > 0; i++, s = l->states[s].link)
        l->states[s].end = at;
    l->last = state;
}

int lookup_propose(const struct lookup *l, int most, int32_t *tokens, int *match_length)
{
    *match_length = l->match_length;
    if (!l->match_length)
        return 0;
    for (int i = 0, from = l->match_end + 1; i < most; i++, from++)
        tokens[i] = from < l->n ? l->tokens[from] : tokens[from - l->n];
    return most > 0 ? most : 0;
}
