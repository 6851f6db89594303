/* Growing trees, and the walk through all of them for the best speed. */
#include "engine/speculate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

_Static_assert(DRAFTS_MAX == ENGINE_DRAFTS_MAX, "a proposal is a step's drafts");

#define NODES_MAX                                                                                  \
    48 /* nodes grown for a sequence: more than a tree has, since with few heads                   \
          only the shallow ones count */
#define CHANCE_LEAST 0.002f /* a node of less is worth no row that costs anything */
#define LEAST_SHARED 0.3f   /* look-up's nodes may cost less than a row: heads have drafted them */
/* Of what a row costs at least, on average over as many as one likes, so much is sure. */
#define LEAST_SURE 0.4
#define REST_MOST 15 /* steps */
/* Where nothing pays for long it looks in so large a part of the steps. */
#define REST_LOOKS (1.0 / (REST_MOST + 1))
/* What looking costs: seconds for each wish to begin with, a low guess; the weight of an
 * observation, and how many times the average it counts at most. */
#define LOOK_FIRST 1e-6
#define LOOK_FORGET 0.05
#define LOOK_MOST 2.0
/* A new number of heads must promise 1 % more, a new number of rows 0.5 %: about the noise of the
 * estimates. */
#define KEEP_HEADS 1.01
#define KEEP_ROWS 1.005
/* Drafts must promise 1 % over none: the best of many estimates is more often too good than not. */
#define KEEP_PLAIN 1.01
/* Trials: 0.4 % of the time may go to them, so that together with what the credit begins with they
 * stay below 1 %; one step in 16 is looked at. */
#define TRIAL_SHARE 0.004
#define TRIAL_EVERY 16
#define TRIAL_LEAST 0.02 /* of a step's time is what a trial costs in any case */
#define PLAIN_LEAST 5    /* times that a pass without drafts must have been seen lately, */
#define PLAIN_EVERY 16   /* once in so many steps where drafts gain less than */
#define PLAIN_NEAR 1.1
#define TRIAL_FIRST 4.0 /* steps' time of credit to begin with */
#define TRIAL_MOST 16.0

struct node {
    float chance; /* of being accepted */
    float gain;   /* expected tokens that it adds to the tree without it */
    float rows;   /* expected rows that it adds: look-up's nodes may coincide with heads' */
    int8_t parent, depth, head, rank;
};

/* What a sequence could have, most gain per row first; any first part is a tree. */
struct list {
    int n;
    struct node node[NODES_MAX];
};

struct grown {
    struct list mixed; /* heads and look-up */
    struct list alone; /* look-up, where no head runs */
    int taken;         /* in the walk */
    bool drafting;     /* some of those are a head's */
};

struct sort {
    float key;
    int16_t sequence, node;
};

int speculate_init(struct speculate *s, int max_sequences, struct err *err)
{
    size_t n = (size_t)max_sequences;
    *s = (struct speculate){
        .max_sequences = max_sequences, .heads = -1, .rows = -1, .look = LOOK_FIRST};
    s->grown = calloc(n, sizeof *s->grown);
    s->sorted = calloc(n * NODES_MAX, sizeof *s->sorted);
    s->spare = calloc(n * NODES_MAX, sizeof *s->spare);
    if (s->grown && s->sorted && s->spare)
        return 0;
    speculate_release(s);
    return err_set(err, ERR_MEMORY, "no memory to choose drafts for %d sequences", max_sequences);
}

void speculate_release(struct speculate *s)
{
    free(s->grown);
    free(s->sorted);
    free(s->spare);
    *s = (struct speculate){0};
}

/* ---- one sequence: its nodes ---- */

/* A child that may be added next: rank r of its head, behind a node. */
struct open {
    float chance, behind; /* behind: the parent's chance */
    int8_t parent, depth, rank;
    bool best; /* all before it are best candidates */
};

static float rate_of(const struct rate *rate, bool hope)
{
    return hope ? rate_hope(rate) : rate->p;
}

static void head_rates(const struct wish *w, bool hope, float p[DRAFTS_MAX][DRAFT_RANKS])
{
    for (int i = 0; i < w->heads; i++)
        for (int r = 0; r < w->ranks; r++) {
            p[i][r] = rate_of(&w->rates->head[i][r], hope);
            if (r && p[i][r] > p[i][r - 1]) /* noise: candidates are sorted by their head */
                p[i][r] = p[i][r - 1];
        }
}

/* The likeliest nodes of heads, each after its parent and its better sibling. */
static void grow(struct list *list, const struct wish *w, bool hope, float least)
{
    float p[DRAFTS_MAX][DRAFT_RANKS], side = rate_of(&w->rates->side, false);
    struct open open[2 * NODES_MAX + 1];
    int n = 0, depth = w->heads < w->depth ? w->heads : w->depth;
    list->n = 0;
    head_rates(w, hope, p);
    if (depth > 0)
        open[n++] = (struct open){p[0][0], 1, -1, 1, 0, true};
    while (n > 0 && list->n < NODES_MAX) {
        int top = 0;
        for (int i = 1; i < n; i++)
            if (open[i].chance > open[top].chance)
                top = i;
        struct open o = open[top];
        if (o.chance < least)
            return;
        int j = list->n++;
        list->node[j] = (struct node){o.chance, o.chance, 1, o.parent, o.depth, o.depth, o.rank};
        open[top] = open[--n];
        bool best = o.best && o.rank == 0;
        if (o.rank + 1 < w->ranks) {
            float rate = p[o.depth - 1][o.rank + 1] * (o.best ? 1 : side);
            open[n++] = (struct open){o.behind * rate,      o.behind, o.parent, o.depth,
                                      (int8_t)(o.rank + 1), o.best};
        }
        if (o.depth < depth && (best || !w->chained)) {
            float rate = p[(int)o.depth][0] * (best ? 1 : side < 1 ? side : 1);
            open[n++] =
                (struct open){o.chance * rate, o.chance, (int8_t)j, (int8_t)(o.depth + 1), 0, best};
        }
    }
}

/* Look-up's chain. Where heads draft too, a part of what it gets right they get right as well, and
 * a part of its nodes are theirs. */
static int lookup_chain(const struct wish *w, bool heads, bool hope, float least, struct node *node)
{
    int m = rates_match(w->match_length), n = 0;
    float chance = 1, both = 1, agree = 1;
    for (; n < w->n_lookup && n < w->depth && n < DRAFTS_MAX; n++) {
        chance *= rate_of(rates_lookup(w->rates, w->match_length, n + 1), hope);
        both *= w->rates->both[m].p;
        agree *= w->rates->agree[m].p;
        if (chance < LEAST_SHARED * least)
            break;
        bool shared = heads && n < w->heads;
        float gain = shared ? chance * (1 - both) : chance;
        float rows = shared ? 1 - agree : 1;
        node[n] = (struct node){
            chance, gain, rows > 0.1f ? rows : 0.1f, (int8_t)(n - 1), (int8_t)(n + 1), 0, 0};
    }
    return n;
}

/* Nodes must be taken in the chain's order, but later ones may gain more per row. A run that pays
 * best together shares its gain evenly. */
static void level_gains(struct node *node, int n)
{
    for (int from = 0, to; from < n; from = to) {
        float gain = 0, rows = 0, best = -1, best_gain = 0, best_rows = 1;
        to = from + 1;
        for (int i = from; i < n; i++) {
            gain += node[i].gain;
            rows += node[i].rows;
            if (gain / rows > best) {
                best = gain / rows;
                best_gain = gain;
                best_rows = rows;
                to = i + 1;
            }
        }
        for (int i = from; i < to; i++) {
            node[i].gain = best_gain / (float)(to - from);
            node[i].rows = best_rows / (float)(to - from);
        }
    }
}

static float worth(const struct node *node)
{
    return node->gain / node->rows;
}

/* Merges look-up's chain into the heads' nodes, keeping the order of worth. */
static void merge(struct list *list, const struct node *chain, int n)
{
    struct list heads = *list;
    int8_t head_at[NODES_MAX], chain_at[DRAFTS_MAX];
    int h = 0, c = 0;
    for (list->n = 0; list->n < NODES_MAX && (h < heads.n || c < n); list->n++) {
        bool look = h == heads.n || (c < n && worth(&chain[c]) > worth(&heads.node[h]));
        struct node *to = &list->node[list->n];
        *to = look ? chain[c] : heads.node[h];
        if (to->parent >= 0)
            to->parent = look ? chain_at[(int)to->parent] : head_at[(int)to->parent];
        if (look)
            chain_at[c++] = (int8_t)list->n;
        else
            head_at[h++] = (int8_t)list->n;
    }
}

static void grow_sequence(struct grown *g, const struct wish *w, bool hope, float least)
{
    struct node chain[DRAFTS_MAX];
    g->mixed.n = g->alone.n = 0;
    grow(&g->mixed, w, hope, least);
    if (w->n_lookup < 1)
        return;
    g->alone.n = lookup_chain(w, false, hope, least, g->alone.node);
    level_gains(g->alone.node, g->alone.n);
    int n = lookup_chain(w, true, hope, least, chain);
    level_gains(chain, n);
    merge(&g->mixed, chain, n);
}

static void shape_add(struct shape *s, const struct node *node, const int8_t *at)
{
    int j = s->n++;
    s->parent[j] = node->parent < 0 ? -1 : at[(int)node->parent];
    s->depth[j] = node->depth;
    s->head[j] = node->head;
    s->rank[j] = node->rank;
    s->chance[j] = node->chance;
    s->heads = s->heads > node->head ? s->heads : node->head;
}

/* The first `most` nodes of no head above `heads`. */
static void shape_take(struct shape *s, const struct list *list, int heads, int most)
{
    int8_t at[NODES_MAX];
    s->n = s->heads = 0;
    for (int j = 0; j < list->n && s->n < most; j++) {
        if (list->node[j].head > heads)
            continue;
        at[j] = (int8_t)s->n;
        shape_add(s, &list->node[j], at);
    }
}

/* ---- all sequences: the walk ---- */

/* What a first part of the walk promises. */
struct plan {
    int heads, drafting; /* heads that run, sequences they draft for */
    int limit;           /* the walk was one through nodes of heads 1..limit */
    int taken;           /* its steps */
    double look; /* seconds that choosing takes, which none but a plan without drafts saves */
    double rows, positions, tokens, seconds, speed;
};

static int sort_all(struct speculate *s, const struct wish *w, int n, bool alone)
{
    int total = 0;
    struct sort *a = s->sorted, *b = s->spare;
    for (int q = 0; q < n; q++) {
        const struct list *list = alone ? &s->grown[q].alone : &s->grown[q].mixed;
        int from = total, i = 0, j = 0, m = 0;
        if (w[q].mode != SPECULATE_BEST || !list->n)
            continue;
        /* Merge into what is sorted already, from one array into the other. */
        for (; i < from || j < list->n; m++)
            if (j == list->n || (i < from && a[i].key >= worth(&list->node[j])))
                b[m] = a[i++];
            else {
                b[m] = (struct sort){worth(&list->node[j]), (int16_t)q, (int16_t)j};
                j++;
            }
        total = m;
        struct sort *swap = a;
        a = b;
        b = swap;
    }
    s->sorted = a;
    s->spare = b;
    return total;
}

static void price(struct plan *p, const struct costs *costs, bool hope)
{
    p->seconds = costs_pass(costs, p->rows, p->positions, hope) +
                 costs_draft(costs, p->heads, p->drafting, hope) +
                 p->look * (p->taken ? 1 : REST_LOOKS);
    p->speed = p->tokens / p->seconds;
}

static double bonus(const struct speculate *s, const struct plan *p)
{
    return (p->heads == s->heads ? KEEP_HEADS : 1) *
           (fabs(p->rows - s->rows) < 0.5 ? KEEP_ROWS : 1) * (p->taken ? 1 : KEEP_PLAIN);
}

struct walk {
    const struct costs *costs;
    const struct wish *wishes;
    int n;
    bool hope;
    double most; /* rows at which the walk ends */
    float least; /* a node that adds fewer tokens per row than this cannot pay */
    /* With hope: what is tried may cost so many seconds, by what we know; the best step's are. */
    double credit, best_seconds;
};

/* What a trial costs as far as we know: the time by which its step differs from the best one's, and
 * a little in any case. */
static double regret(const struct walk *k, const struct plan *p)
{
    struct plan q = *p;
    price(&q, k->costs, false);
    double more = fabs(q.seconds - k->best_seconds), least = TRIAL_LEAST * k->best_seconds;
    return more > least ? more : least;
}

/* Takes nodes of heads 1..heads one after another; the best plan on the way, if better. */
static void walk(struct speculate *s, const struct walk *k, const struct plan *base, int heads,
                 int total, struct plan *best)
{
    struct plan p = *base;
    p.limit = heads;
    for (int q = 0; q < k->n; q++) {
        s->grown[q].taken = 0;
        s->grown[q].drafting = false;
    }
    for (int i = 0; i < total && p.rows < k->most && s->sorted[i].key >= k->least; i++) {
        const struct sort *at = &s->sorted[i];
        struct grown *g = &s->grown[at->sequence];
        const struct wish *w = &k->wishes[at->sequence];
        const struct node *node = &(heads ? &g->mixed : &g->alone)->node[at->node];
        if (node->head > heads || g->taken >= w->nodes)
            continue;
        g->taken++;
        p.drafting += node->head && !g->drafting;
        g->drafting |= node->head > 0;
        p.heads = p.heads > node->head ? p.heads : node->head;
        p.tokens += node->gain;
        p.rows += node->rows;
        p.positions += node->rows * w->positions;
        p.taken = i + 1;
        price(&p, k->costs, k->hope);
        if (k->hope && regret(k, &p) > k->credit)
            continue;
        if (p.speed * bonus(s, &p) > best->speed * bonus(s, best))
            *best = p;
    }
}

/* Tokens that a row must add to pay, at least: what the cheapest rows cost, at the speed there is
 * without drafts. It keeps the lists short where rows are dear. */
static float least_worth(const struct walk *k, const struct plan *base)
{
    double slope = INFINITY, each = base->positions / base->rows;
    double from = costs_pass(k->costs, base->rows, base->positions, k->hope);
    for (int more = 1; more <= DRAFTS_MAX * k->n && base->rows + more < k->most; more *= 2) {
        double rows = base->rows + more;
        double rise = costs_pass(k->costs, rows, rows * each, k->hope) - from;
        slope = rise / more < slope ? rise / more : slope;
    }
    float least = (float)(LEAST_SURE * slope * base->speed);
    return least > CHANCE_LEAST ? least < 0.5f ? least : 0.5f : CHANCE_LEAST;
}

/* The best plan over all numbers of heads. Leaves the sequences' lists for shape_all. */
static struct plan search(struct speculate *s, struct walk *k, const struct plan *base)
{
    struct plan best = *base;
    int heads = 0;
    price(&best, k->costs, k->hope);
    k->least = least_worth(k, &best);
    for (int q = 0; q < k->n; q++) {
        const struct list *list = &s->grown[q].mixed;
        if (k->wishes[q].mode != SPECULATE_BEST)
            continue;
        grow_sequence(&s->grown[q], &k->wishes[q], k->hope, k->least);
        for (int j = 0; j < list->n; j++)
            heads = heads > list->node[j].head ? heads : list->node[j].head;
    }
    walk(s, k, base, 0, sort_all(s, k->wishes, k->n, true), &best);
    int total = sort_all(s, k->wishes, k->n, false);
    for (int h = 1; h <= heads; h++)
        walk(s, k, base, h, total, &best);
    return best;
}

/* ---- the choice ---- */

/* Exactly as asked: the sequence's rows are the base of the others' choice. */
static void fix_shape(struct wish *w, struct grown *g)
{
    struct wish all = *w;
    if (w->mode == SPECULATE_CHAIN) {
        all.ranks = 1;
        all.mode = SPECULATE_TREE; /* however unlikely */
        all.n_lookup = 0;
    }
    grow_sequence(g, &all, false, 0);
    shape_take(&w->shape, &g->mixed, w->heads, w->nodes);
}

static struct plan plan_base(struct speculate *s, struct wish *w, int n, const struct company *c)
{
    struct plan p = {
        .rows = c->rows + n, .positions = c->positions, .tokens = n, .look = s->look * n};
    for (int q = 0; q < n; q++) {
        p.positions += w[q].positions;
        w[q].shape.n = w[q].shape.heads = 0;
        if (w[q].mode == SPECULATE_BEST)
            continue;
        fix_shape(&w[q], &s->grown[q]);
        for (int j = 0; j < w[q].shape.n; j++)
            p.tokens += w[q].shape.chance[j];
        p.rows += w[q].shape.n;
        p.positions += (double)w[q].shape.n * w[q].positions;
        p.drafting += w[q].shape.heads > 0;
        p.heads = p.heads > w[q].shape.heads ? p.heads : w[q].shape.heads;
    }
    return p;
}

/* Cuts the lists, as the search left them, where the plan ends. Returns how many heads run. */
static int shape_all(struct speculate *s, struct wish *w, int n, const struct plan *plan)
{
    bool alone = plan->limit == 0;
    int heads = 0;
    for (int q = 0; q < n; q++)
        s->grown[q].taken = 0;
    sort_all(s, w, n, alone);
    for (int i = 0; i < plan->taken; i++) {
        const struct sort *at = &s->sorted[i];
        struct grown *g = &s->grown[at->sequence];
        const struct node *node = &(alone ? &g->alone : &g->mixed)->node[at->node];
        if (node->head <= plan->limit && g->taken < w[at->sequence].nodes)
            g->taken++;
    }
    for (int q = 0; q < n; q++) {
        struct grown *g = &s->grown[q];
        if (w[q].mode == SPECULATE_BEST)
            shape_take(&w[q].shape, alone ? &g->alone : &g->mixed, plan->limit, g->taken);
        heads = heads > w[q].shape.heads ? heads : w[q].shape.heads;
    }
    return heads;
}

/* Whether it is time for a pass without drafts, which all else is measured by. */
static bool plain_is_due(struct speculate *s, const struct costs *costs, const struct plan *base,
                         const struct plan *best)
{
    struct plan plain = *base;
    price(&plain, costs, false);
    s->drafted = best->taken ? s->drafted + 1 : 0;
    bool known = costs_known(costs, (int)base->rows, base->positions) >= PLAIN_LEAST;
    return best->taken &&
           (known ? s->drafted >= PLAIN_EVERY && best->speed < PLAIN_NEAR * plain.speed
                  : s->steps % 2);
}

/* Now and then, what would be best if all that is not well known turned out well: otherwise a wrong
 * belief about what is never done would last forever. Its price
 * must have been saved up. */
static bool try_other(struct speculate *s, struct walk *k, const struct plan *base,
                      const struct plan *best, struct plan *other)
{
    if (s->steps++ == 0)
        s->credit = TRIAL_FIRST * best->seconds;
    s->credit += TRIAL_SHARE * best->seconds * (1 + s->unlooked);
    s->untried += 1 + s->unlooked;
    s->unlooked = 0;
    if (s->credit > TRIAL_MOST * best->seconds)
        s->credit = TRIAL_MOST * best->seconds;
    if (plain_is_due(s, k->costs, base, best)) {
        s->drafted = 0;
        *other = *base;
        return true;
    }
    if (s->untried < TRIAL_EVERY)
        return false;
    s->untried = 0;
    /* Costs far from what is known are learned on the way there. */
    double wide = base->rows + 2 * (best->rows - base->rows) + k->n;
    k->most = wide < k->most ? wide : k->most;
    k->hope = true;
    k->credit = s->credit;
    k->best_seconds = best->seconds;
    *other = search(s, k, base);
    double price = regret(k, other);
    if (other->heads == best->heads && fabs(other->rows - best->rows) < 0.5)
        return false;
    if (price > s->credit)
        return false;
    s->credit -= price;
    return true;
}

/* Where nothing has paid for some steps, nothing is chosen for as many more without looking:
 * looking costs several microseconds, some percent of a small model's step. */
static bool rests(struct speculate *s, struct wish *w, int n)
{
    bool rest = s->rest > 0 && n == s->resting;
    for (int q = 0; q < n && rest; q++)
        rest = w[q].mode == SPECULATE_BEST;
    if (!rest)
        return false;
    for (int q = 0; q < n; q++)
        w[q].shape.n = w[q].shape.heads = 0;
    s->rest--;
    s->unlooked++;
    return true;
}

void speculate_took(struct speculate *s, int n, double seconds)
{
    double each = seconds / n;
    if (s->unlooked)
        return;
    each = each < LOOK_MOST * s->look ? each : LOOK_MOST * s->look;
    s->look += LOOK_FORGET * (each - s->look);
}

int speculate_choose(struct speculate *s, const struct costs *costs, struct wish *wishes, int n,
                     const struct company *company)
{
    if (rests(s, wishes, n))
        return 0;
    struct plan base = plan_base(s, wishes, n, company), other;
    struct walk k = {.costs = costs, .wishes = wishes, .n = n, .most = company->most_rows};
    struct plan best = search(s, &k, &base);
    int heads = shape_all(s, wishes, n, &best);
    s->idle = best.taken ? 0 : s->idle < REST_MOST ? s->idle + 1 : REST_MOST;
    s->rest = s->idle;
    s->resting = n;
    s->trial = try_other(s, &k, &base, &best, &other);
    if (s->trial)
        return shape_all(s, wishes, n, &other);
    s->heads = best.heads;
    s->rows = best.rows;
    return heads;
}
