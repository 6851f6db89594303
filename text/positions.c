/* Sets of places, known by number: see positions.h. A place is a state and a stack of states to
 * return to. Stacks are lists that share their lower parts, and equal ones are one, so that sets
 * are compared by numbers. */
#include "text/positions.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define PLACES 65536 /* of all sets of a pool together */
#define STACKS 32768
#define SET_BUCKETS 4096
#define STACK_BUCKETS 16384
#define WORK 4096 /* places looked at for one set, those included that read nothing */
#define WORK_BUCKETS 8192

struct place {
    int32_t state, stack; /* stack 0: empty */
};

struct place_set {
    int32_t first; /* its places */
    uint16_t n;
    bool accepts;
    int16_t same_hash; /* the set before it in its bucket, -1: none */
};

struct return_stack {
    int32_t state, below; /* where to return to; what is under it */
    int32_t same_hash;
    int32_t depth;
};

struct position_pool {
    struct place_set *sets;
    struct place *places;
    struct return_stack *stacks;
    int16_t *next;
    int16_t *set_bucket;   /* the last set in it, -1: none */
    int32_t *stack_bucket; /* 0: none */
    int n_sets, n_places, n_stacks;
};

/* One set while it is made. */
struct position_work {
    struct place list[WORK]; /* all places that were reached, in the order in which they were */
    int n;
    struct place kept[POSITIONS_PLACES_MAX + 1]; /* those that can read */
    int n_kept;
    bool accepts, too_many, full;
    uint32_t round; /* entries of `seen` of other rounds are old */
    struct {
        uint32_t round;
        int16_t at; /* in list */
    } seen[WORK_BUCKETS];
};

/* ---- memory ---- */

static void clear(struct position_pool *p)
{
    p->n_sets = p->n_places = 0;
    p->n_stacks = 1;
    p->stacks[0] = (struct return_stack){0};
    memset(p->set_bucket, 0xff, SET_BUCKETS * sizeof *p->set_bucket);
    memset(p->stack_bucket, 0, STACK_BUCKETS * sizeof *p->stack_bucket);
}

static void pool_release(struct position_pool *p)
{
    free(p->sets);
    free(p->places);
    free(p->stacks);
    free(p->next);
    free(p->set_bucket);
    free(p->stack_bucket);
}

static bool pool_init(struct position_pool *p, int n_classes)
{
    p->sets = malloc(POSITIONS_MAX * sizeof *p->sets);
    p->places = malloc(PLACES * sizeof *p->places);
    p->stacks = malloc(STACKS * sizeof *p->stacks);
    p->next = malloc(POSITIONS_MAX * (size_t)n_classes * sizeof *p->next);
    p->set_bucket = malloc(SET_BUCKETS * sizeof *p->set_bucket);
    p->stack_bucket = malloc(STACK_BUCKETS * sizeof *p->stack_bucket);
    if (!p->sets || !p->places || !p->stacks || !p->next || !p->set_bucket || !p->stack_bucket)
        return false;
    clear(p);
    return true;
}

static void use(struct positions *p, struct position_pool *pool)
{
    p->pool = pool;
    p->next = pool->next;
}

static void find_classes(struct positions *p)
{
    const struct automaton *a = p->automaton;
    bool begins[257] = {false}; /* a class begins with that byte */
    for (int i = 0; i < a->n_edges; i++)
        if (a->edges[i].kind == AUTOMATON_BYTES)
            begins[a->edges[i].low] = begins[a->edges[i].high + 1] = true;
    p->n_classes = 1;
    for (int b = 0; b < 256; b++) {
        p->n_classes += b > 0 && begins[b];
        p->class_of[b] = (uint8_t)(p->n_classes - 1);
    }
}

int positions_init(struct positions *p, const struct automaton *a, struct err *err)
{
    *p = (struct positions){.automaton = automaton_retain(a)};
    find_classes(p);
    p->pools = calloc(2, sizeof *p->pools);
    p->work = calloc(1, sizeof *p->work);
    if (!p->pools || !p->work || !pool_init(&p->pools[0], p->n_classes) ||
        !pool_init(&p->pools[1], p->n_classes)) {
        positions_release(p);
        return err_set(err, ERR_MEMORY, "no memory left to follow a text's structure");
    }
    use(p, p->pools);
    return 0;
}

void positions_release(struct positions *p)
{
    for (int i = 0; p->pools && i < 2; i++)
        pool_release(&p->pools[i]);
    free(p->pools);
    free(p->work);
    automaton_release(p->automaton);
    *p = (struct positions){0};
}

/* ---- stacks ---- */

static uint32_t mix(uint32_t hash, int32_t value)
{
    hash = (hash ^ (uint32_t)value) * 0x9e3779b1u;
    return hash ^ hash >> 15;
}

/* The stack with one more state on top; -1 when there is no room. */
static int32_t push(struct position_pool *p, int32_t below, int32_t state)
{
    int32_t *bucket = &p->stack_bucket[mix(mix(0, below), state) % STACK_BUCKETS];
    for (int32_t s = *bucket; s; s = p->stacks[s].same_hash)
        if (p->stacks[s].below == below && p->stacks[s].state == state)
            return s;
    if (p->n_stacks == STACKS)
        return -1;
    p->stacks[p->n_stacks] = (struct return_stack){
        .state = state, .below = below, .same_hash = *bucket, .depth = p->stacks[below].depth + 1};
    return *bucket = p->n_stacks++;
}

/* ---- making a set ---- */

static void begin(struct position_work *w)
{
    w->n = w->n_kept = 0;
    w->accepts = w->too_many = w->full = false;
    if (++w->round == 0) { /* all rounds are used up: the oldest entries would look new */
        memset(w->seen, 0, sizeof w->seen);
        w->round = 1;
    }
}

/* Adds a place from which the text can still be ended. */
static void reach(struct positions *p, int32_t state, int32_t stack)
{
    struct position_work *w = p->work;
    if (p->pool->stacks[stack].depth + p->automaton->need[state] > AUTOMATON_DEPTH_MAX)
        return;
    uint32_t at = mix(mix(1, state), stack) % WORK_BUCKETS;
    for (; w->seen[at].round == w->round; at = (at + 1) % WORK_BUCKETS) {
        const struct place *other = &w->list[w->seen[at].at];
        if (other->state == state && other->stack == stack)
            return;
    }
    if (w->n == WORK) {
        w->too_many = true;
        return;
    }
    w->seen[at].round = w->round;
    w->seen[at].at = (int16_t)w->n;
    w->list[w->n++] = (struct place){state, stack};
}

static void call(struct positions *p, const struct automaton_edge *e, int32_t stack)
{
    /* Does what is behind the call fit as well? That is no deeper than the stack is now. */
    if (p->pool->stacks[stack].depth + p->automaton->need[e->to] > AUTOMATON_DEPTH_MAX)
        return;
    int32_t within = e->tail ? stack : push(p->pool, stack, e->to);
    if (within < 0)
        p->work->full = true;
    else
        reach(p, p->automaton->rules[e->rule].start, within);
}

/* Follows all edges that read nothing from the places that were reached. */
static void follow(struct positions *p)
{
    const struct automaton *a = p->automaton;
    struct position_work *w = p->work;
    for (int i = 0; i < w->n && !w->too_many && !w->full; i++) {
        struct place at = w->list[i];
        bool reads = false;
        for (int k = a->first[at.state]; k < a->first[at.state + 1]; k++) {
            const struct automaton_edge *e = &a->edges[k];
            if (e->kind == AUTOMATON_BYTES)
                reads |= a->need[e->to] != AUTOMATON_NEVER;
            else if (e->kind == AUTOMATON_EMPTY)
                reach(p, e->to, at.stack);
            else
                call(p, e, at.stack);
        }
        if (a->final[at.state] && at.stack)
            reach(p, p->pool->stacks[at.stack].state, p->pool->stacks[at.stack].below);
        w->accepts |= a->final[at.state] && !at.stack;
        if (reads && w->n_kept <= POSITIONS_PLACES_MAX)
            w->kept[w->n_kept++] = at;
    }
    w->too_many |= w->n_kept > POSITIONS_PLACES_MAX;
}

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->state != y->state)
        return x->state < y->state ? -1 : 1;
    return (x->stack > y->stack) - (x->stack < y->stack);
}

/* The number of the set of these places, sorted. */
static int32_t intern(struct position_pool *p, int n_classes, const struct place *places, int n,
                      bool accepts)
{
    uint32_t hash = mix(3, accepts);
    for (int i = 0; i < n; i++)
        hash = mix(mix(hash, places[i].state), places[i].stack);
    int16_t *bucket = &p->set_bucket[hash % SET_BUCKETS];
    for (int s = *bucket; s >= 0; s = p->sets[s].same_hash)
        if (p->sets[s].n == n && p->sets[s].accepts == accepts &&
            !memcmp(p->places + p->sets[s].first, places, (size_t)n * sizeof *places))
            return s;
    if (p->n_sets == POSITIONS_MAX || p->n_places + n > PLACES)
        return POSITION_FULL;
    int32_t s = p->n_sets++;
    p->sets[s] = (struct place_set){p->n_places, (uint16_t)n, accepts, *bucket};
    memcpy(p->places + p->n_places, places, (size_t)n * sizeof *places);
    p->n_places += n;
    for (int i = 0; i < n_classes; i++)
        p->next[s * n_classes + i] = POSITION_UNKNOWN;
    return *bucket = (int16_t)s;
}

/* The set of what was reached. */
static int32_t finish(struct positions *p)
{
    struct position_work *w = p->work;
    follow(p);
    if (w->full)
        return POSITION_FULL;
    if (w->too_many || (!w->n_kept && !w->accepts))
        return POSITION_NONE;
    qsort(w->kept, (size_t)w->n_kept, sizeof *w->kept, by_place);
    return intern(p->pool, p->n_classes, w->kept, w->n_kept, w->accepts);
}

int32_t positions_start(struct positions *p)
{
    begin(p->work);
    reach(p, p->automaton->rules[0].start, 0);
    return finish(p);
}

int32_t positions_make(struct positions *p, int32_t at, uint8_t byte)
{
    const struct automaton *a = p->automaton;
    const struct place_set *set = &p->pool->sets[at];
    begin(p->work);
    for (int i = 0; i < set->n; i++) {
        struct place from = p->pool->places[set->first + i];
        for (int k = a->first[from.state]; k < a->first[from.state + 1]; k++) {
            const struct automaton_edge *e = &a->edges[k];
            if (e->kind == AUTOMATON_BYTES && byte >= e->low && byte <= e->high)
                reach(p, e->to, from.stack);
        }
    }
    int32_t next = finish(p);
    if (next != POSITION_FULL)
        p->next[at * p->n_classes + p->class_of[byte]] = (int16_t)next;
    return next;
}

bool positions_accepts(const struct positions *p, int32_t at)
{
    return at >= 0 && p->pool->sets[at].accepts;
}

bool positions_goes_on(const struct positions *p, int32_t at)
{
    return at >= 0 && p->pool->sets[at].n > 0;
}

int positions_describe(const struct positions *p, int32_t at, int32_t *to, int room)
{
    const struct place_set *set = &p->pool->sets[at];
    int n = 0;
    if (room > 0)
        to[n++] = set->accepts;
    for (int i = 0; i < set->n; i++) {
        struct place place = p->pool->places[set->first + i];
        int depth = p->pool->stacks[place.stack].depth;
        if (n + 2 + depth > room)
            return 0;
        to[n++] = place.state;
        to[n++] = depth;
        for (int32_t s = place.stack; s; s = p->pool->stacks[s].below)
            to[n++] = p->pool->stacks[s].state;
    }
    return n;
}

/* ---- making room ---- */

static int32_t move_stack(const struct position_pool *from, struct position_pool *to, int32_t stack)
{
    int32_t states[AUTOMATON_DEPTH_MAX + 1], moved = 0;
    int n = 0;
    for (; stack; stack = from->stacks[stack].below)
        states[n++] = from->stacks[stack].state;
    while (n && moved >= 0)
        moved = push(to, moved, states[--n]);
    return moved;
}

static int32_t move_set(struct positions *p, const struct position_pool *from,
                        struct position_pool *to, int32_t at)
{
    const struct place_set *set = &from->sets[at];
    struct place *places = p->work->kept;
    for (int i = 0; i < set->n; i++) {
        places[i] = from->places[set->first + i];
        places[i].stack = move_stack(from, to, places[i].stack);
        if (places[i].stack < 0)
            return POSITION_FULL;
    }
    qsort(places, set->n, sizeof *places, by_place);
    return intern(to, p->n_classes, places, set->n, set->accepts);
}

bool positions_collect(struct positions *p, int32_t *kept, int n)
{
    struct position_pool *from = p->pool, *to = &p->pools[from == p->pools];
    bool fits = true;
    clear(to);
    for (int i = 0; i < n && fits; i++)
        if (kept[i] >= 0) {
            kept[i] = move_set(p, from, to, kept[i]);
            fits = kept[i] >= 0;
        }
    if (!fits)
        clear(to);
    use(p, to);
    return fits;
}
