/* From a regular expression to states and edges (Thompson 1968), with calls for what is repeated:
 * see regex.h. Each node draws at least one state, so that a full draft ends every loop. */
#include <stdlib.h>

#include "text/char_set.h"
#include "text/regex.h"

struct drawing {
    struct regex *re;
    struct automaton_draft *draft;
    bool json;
};

static int32_t draw(struct drawing *g, int node, int32_t from);

/* Few edges, no more than a call would be. */
static bool is_small(const struct char_set *set, bool json)
{
    return set->n == 1 && set->ranges[0].high < 0x80 &&
           (!json || (set->ranges[0].low > '\\') ||
            (set->ranges[0].low > '"' && set->ranges[0].high < '\\'));
}

static int32_t draw_set(struct drawing *g, int index, int32_t from)
{
    const struct char_set *set = &g->re->sets[index];
    int32_t to = automaton_state(g->draft);
    int *rule = &g->re->set_rule[index];
    if (is_small(set, g->json)) {
        char_set_draw(set, g->json, g->draft, from, to);
        return to;
    }
    if (*rule < 0) {
        *rule = automaton_rule(g->draft);
        if (!g->draft->full)
            char_set_draw(set, g->json, g->draft, g->draft->rules[*rule].start,
                          g->draft->rules[*rule].final);
    }
    automaton_call(g->draft, from, to, *rule);
    return to;
}

static int32_t draw_sequence(struct drawing *g, const struct regex_node *node, int32_t from)
{
    int32_t to = automaton_state(g->draft);
    automaton_empty(g->draft, from, to);
    for (int i = node->child; i >= 0 && !g->draft->full; i = g->re->nodes[i].next)
        to = draw(g, i, to);
    return to;
}

static int32_t draw_choice(struct drawing *g, const struct regex_node *node, int32_t from)
{
    int32_t to = automaton_state(g->draft);
    for (int i = node->child; i >= 0 && !g->draft->full; i = g->re->nodes[i].next)
        automaton_empty(g->draft, draw(g, i, from), to);
    return to;
}

/* One time what is repeated: by a call, when it is more than a character. */
static int32_t draw_once(struct drawing *g, int node, int rule, int32_t from)
{
    if (rule < 0)
        return draw(g, node, from);
    int32_t to = automaton_state(g->draft);
    automaton_call(g->draft, from, to, rule);
    return to;
}

static int32_t draw_repeat(struct drawing *g, const struct regex_node *node, int32_t from)
{
    struct automaton_draft *d = g->draft;
    int child = node->child, least = node->least, most = node->most, rule = -1;
    int times = (most < 0 ? least + 1 : most);
    if (times > 1 && g->re->nodes[child].kind != REGEX_SET) {
        rule = automaton_rule(d);
        if (!d->full)
            automaton_empty(d, draw(g, child, d->rules[rule].start), d->rules[rule].final);
    }
    for (int i = 0; i < least && !d->full; i++)
        from = draw_once(g, child, rule, from);
    int32_t to = automaton_state(d);
    if (most < 0) {
        automaton_empty(d, from, to);
        automaton_empty(d, draw_once(g, child, rule, to), to);
        return to;
    }
    for (int i = least; i < most && !d->full; i++) {
        automaton_empty(d, from, to);
        from = draw_once(g, child, rule, from);
    }
    automaton_empty(d, from, to);
    return to;
}

static int32_t draw(struct drawing *g, int node, int32_t from)
{
    const struct regex_node *n = &g->re->nodes[node];
    switch (n->kind) {
    case REGEX_SET:
        return draw_set(g, n->set, from);
    case REGEX_SEQUENCE:
        return draw_sequence(g, n, from);
    case REGEX_CHOICE:
        return draw_choice(g, n, from);
    case REGEX_REPEAT:
        return draw_repeat(g, n, from);
    }
    return from;
}

/* ---- the whole ---- */

/* Any text. */
static int32_t draw_anything(struct drawing *g, int32_t from)
{
    struct char_set all = {0};
    int32_t to = automaton_state(g->draft);
    char_set_add(&all, 0, CHAR_MOST);
    char_set_settle(&all);
    automaton_empty(g->draft, from, to);
    char_set_draw(&all, g->json, g->draft, to, to);
    g->draft->no_memory |= all.failed;
    g->draft->full |= all.failed;
    char_set_release(&all);
    return to;
}

static int32_t draw_whole(struct drawing *g, bool search, int32_t from)
{
    struct automaton_draft *d = g->draft;
    int32_t to = automaton_state(d);
    for (int i = g->re->nodes[g->re->root].child; i >= 0 && !d->full; i = g->re->nodes[i].next) {
        const struct regex_node *sequence = &g->re->nodes[i];
        int32_t at = search && !sequence->begins ? draw_anything(g, from) : from;
        at = draw_sequence(g, sequence, at);
        if (search && !sequence->ends)
            at = draw_anything(g, at);
        automaton_empty(d, at, to);
    }
    return to;
}

int regex_draw(struct automaton_draft *draft, const char *expression, size_t len,
               const struct regex_options *options, int32_t from, int32_t *to, struct err *err)
{
    struct regex re;
    int rc = regex_parse(&re, expression, len, err);
    if (!rc)
        *to = draw_whole(&(struct drawing){&re, draft, options->json}, options->search, from);
    regex_release(&re);
    return rc;
}

int regex_compile(const char *expression, size_t len, struct automaton **automaton, struct err *err)
{
    struct automaton_draft draft = {0};
    int32_t to;
    *automaton = NULL;
    automaton_rule(&draft);
    if (!draft.full) {
        int rc = regex_draw(&draft, expression, len, &(struct regex_options){0},
                            draft.rules[0].start, &to, err);
        if (rc) {
            automaton_draft_release(&draft);
            return rc;
        }
        automaton_empty(&draft, to, draft.rules[0].final);
    }
    return automaton_finish(&draft, automaton, err);
}
