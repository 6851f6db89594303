/* Learning costs. The constants were chosen with test_speculate's simulated machines. */
#include "engine/costs.h"

#include <math.h>
#include <string.h>

/* Of an average: the least weight of an observation. */
#define FORGET 0.03
/* Of what is known about a knot, what is left after a step: after some 700 steps it's half. */
#define FADE (1 - 1.0 / 1024)
/* That much stays: what a number of rows cost once says more than a line from far away. */
#define FADED 0.05
/* A residual (log) that is further off counts no more: interruptions are rare and long. */
#define CLIP 0.1
/* The log by which a cost seen once may be too high; two more observations leave little. One never
 * seen, or once long ago, may be too high by a factor of 30: when a program starts beside others,
 * its few first timings may all be. */
#define DOUBT 1.2
#define KNOWN_LEAST 0.5
/* What the level as it was counts for among the steps that make the new one: little, or it would
 * lag behind, and the curve take up what it has not. */
#define LEVEL_KEPT 0.3
/* Observations of a knot that make a step of it count half. */
#define LEVEL_KNOWN 8
/* A level that stays becomes part of the curve, within some 3000 steps. This bounds how far the two
 * can drift apart. */
#define PIN 0.99
#define LEVEL_EXACT 1e-3   /* log */
#define SECONDS_LEAST 1e-9 /* of a step: a clock may stand still */
/* A number of rows that comes back after longer than the level remembers may have changed by
 * itself: so many observations count as known, so that a residual goes to the curve before it could
 * make a level. */
#define NEWS 5
/* Positions per row at which the second range begins: attention is a small part before. */
#define CONTEXT_FIRST 1024
#define LEAST_REST 0.2 /* of a pass that is not attention, at least */
/* Of what is known about a number of rows, so much is known about the one below. */
#define NEAR 0.7
/* A knot with so much less behind it than its neighbour gives way where they contradict. */
#define LIGHT 0.2

/* ---- knots ---- */

static double knot_rows(int k)
{
    return k < 32 ? k + 1 : (8 + (k - 31) % 8) << (2 + (k - 31) / 8);
}

/* The knot at or below. */
static int knot_of(double rows)
{
    if (rows < 33)
        return rows < 1 ? 0 : (int)rows - 1;
    int e = 31 - __builtin_clz((unsigned)rows);
    int k = 31 + (e - 5) * 8 + ((int)rows >> (e - 3)) - 8;
    return k < COST_KNOTS ? k : COST_KNOTS - 1;
}

static double curve_at(const double *y, double rows)
{
    int k = knot_of(rows);
    if (k == COST_KNOTS - 1)
        return y[k] * rows / knot_rows(k);
    double from = knot_rows(k), part = rows < from ? 0 : (rows - from) / (knot_rows(k + 1) - from);
    return y[k] + part * (y[k + 1] - y[k]);
}

/* ---- the curve ---- */

struct pool {
    double y, n;
    int first, last; /* knots */
};

/* Rising values nearest to what was seen (pool adjacent violators): more rows never cost less, and
 * a knot that noise made too cheap or too dear is held by its neighbours. */
static int rising(const struct cost_curve *c, struct pool *pool)
{
    int n = 0;
    for (int k = 0; k < COST_KNOTS; k++) {
        if (c->n[k] < 1e-3)
            continue;
        pool[n++] = (struct pool){c->seen[k], c->n[k], k, k};
        for (; n > 1 && pool[n - 2].y >= pool[n - 1].y; n--) {
            struct pool *a = &pool[n - 2], *b = &pool[n - 1];
            if (a->n < LIGHT * b->n || b->n < LIGHT * a->n) {
                *a = a->n < b->n ? *b : *a;
                continue;
            }
            a->y = (a->y * a->n + b->y * b->n) / (a->n + b->n);
            a->n += b->n;
            a->last = b->last;
        }
    }
    return n;
}

static void line(double *y, int from, int to, double x0, double y0, double slope)
{
    for (int k = from; k < to; k++)
        y[k] = y0 + slope * (knot_rows(k) - x0);
}

/* Straight lines where nothing was seen; right of all with the average slope. Where that says
 * nothing, so large a share of the cost is taken to be proportional to the rows. */
static void fill(double *fit, double share, const struct pool *p, int n)
{
    double x = knot_rows(p[0].first), slope;
    line(fit, 0, p[0].first, x, p[0].y, share * p[0].y / x);
    for (int i = 0; i < n; i++) {
        line(fit, p[i].first, p[i].last + 1, 0, p[i].y, 0);
        if (i + 1 == n)
            break;
        x = knot_rows(p[i].last);
        slope = (p[i + 1].y - p[i].y) / (knot_rows(p[i + 1].first) - x);
        line(fit, p[i].last + 1, p[i + 1].first, x, p[i].y, slope);
    }
    x = knot_rows(p[n - 1].last);
    double width = x - knot_rows(p[0].first);
    slope = width > 0 ? (p[n - 1].y - p[0].y) / width : share * p[0].y / x;
    line(fit, p[n - 1].last + 1, COST_KNOTS, x, p[n - 1].y, slope);
}

/* Kernels take rows in groups, of 8 or a multiple on most processors. Of a row count not seen that
 * is less than a seen one of its group we know something: it costs no more and, but for the rows'
 * difference, hardly less. On the other side of a step, and above, it must be seen. */
static void knowledge(const struct cost_curve *c, double *known)
{
    double above = 0;
    for (int k = COST_KNOTS - 1; k >= 0; k--) {
        above = k % 8 == 7 ? 0 : NEAR * above;
        above = known[k] = c->n[k] > 0.01 ? c->n[k] : above;
    }
}

static void refit(struct cost_curve *c, double share)
{
    struct pool pool[COST_KNOTS];
    int n = rising(c, pool);
    fill(c->fit, share, pool, n);
    double floor = 0, known[COST_KNOTS];
    knowledge(c, known);
    for (int k = 0; k < COST_KNOTS; k++) {
        double n = known[k] > KNOWN_LEAST ? known[k] : KNOWN_LEAST;
        double sure = exp(-DOUBT / (n * sqrt(n)));
        c->hope[k] = c->fit[k] * sure;
        /* Never below what fewer rows are known to cost. */
        floor = c->hope[k] = c->hope[k] > floor ? c->hope[k] : floor;
    }
}

static double clip(double x, double most)
{
    return x < -most ? -most : x > most ? most : x;
}

/* The residual (log) beyond which one at a knot counts no more. */
static double most_off(const struct cost_curve *c, int k)
{
    double most = c->n[k] > 0 ? 1 / c->n[k] : INFINITY;
    return most > CLIP ? most : CLIP;
}

/* Moves the average at a knot by a residual (log), clipped unless little is known. */
static void move(struct cost_curve *c, int k, double off)
{
    double w = 1 / (c->n[k] + 1), most = most_off(c, k);
    w = w > FORGET ? w : FORGET;
    c->seen[k] *= exp(w * clip(off, most));
    if (fabs(off) > most)
        c->n[k] = c->n[k] > 1.1 ? 0.9 * c->n[k] : 1; /* what is so far off was not known well */
    else
        c->n[k] += c->n[k] < 1 / FORGET;
}

/* Seconds y at level 1, of which `beside` are not the curve's. */
static void observe(struct cost_curve *c, int k, double y, double beside)
{
    for (int i = 0; i < COST_KNOTS; i++)
        c->n[i] *= c->n[i] > FADED ? FADE : 1;
    if (c->n[k] >= 1e-3) {
        move(c, k, log(y / (c->seen[k] + beside)));
    } else {
        c->seen[k] = y - beside;
        c->n[k] = 1;
    }
    double least = LEAST_REST / (1 - LEAST_REST) * beside; /* whatever is said of it */
    c->seen[k] = c->seen[k] > least ? c->seen[k] : least;
}

/* ---- passes ---- */

void costs_init(struct costs *c)
{
    memset(c, 0, sizeof *c);
    c->level = 1;
}

/* Attention costs by the positions attended. What was timed at the start says how much while caches
 * of the processor hold them; beyond that there is a curve for each range of positions per row,
 * which needs no model of it. Ranges grow fourfold. */
static int context_of(double rows, double positions)
{
    double each = positions / (rows > 1 ? rows : 1);
    int c = 0;
    for (double end = CONTEXT_FIRST; c < COST_CONTEXTS - 1 && each >= end; end *= 4)
        c++;
    return c;
}

/* The curve of a range, or the nearest that is known. */
static const struct cost_curve *curve_of(const struct costs *c, int context)
{
    for (int d = 0; d < COST_CONTEXTS; d++) {
        if (context - d >= 0 && c->pass[context - d].known)
            return &c->pass[context - d];
        if (context + d < COST_CONTEXTS && c->pass[context + d].known)
            return &c->pass[context + d];
    }
    return &c->pass[context];
}

/* A range that is entered begins with what its neighbour knows, as one observation each. */
static void enter(struct costs *c, int context)
{
    struct cost_curve *own = &c->pass[context];
    if (own->known)
        return;
    *own = *curve_of(c, context);
    for (int k = 0; k < COST_KNOTS; k++)
        own->n[k] = own->n[k] < 1 ? own->n[k] : 1;
    own->known = true;
}

void costs_set_attend(struct costs *c, double seconds)
{
    c->attend = seconds > 0 ? seconds : 0;
}

int costs_batch(int sequences)
{
    int b = 0;
    while (b < COST_BATCHES - 1 && 1 << b < sequences)
        b++;
    return b;
}

static struct cost_step *step_ago(struct costs *c, unsigned ago)
{
    return &c->step[(c->steps - 1 - ago) % COST_STEPS];
}

/* At level 1: by what was seen of its knot itself, where the curve's bends have no say. */
static double expected(const struct costs *c, const struct cost_step *s)
{
    const struct cost_curve *pass = &c->pass[s->context];
    return (pass->n[s->knot] < 1 ? pass->fit : pass->seen)[s->knot] + c->attend * s->positions;
}

/* How much slower the last steps were than their curve says: the level at which their residuals,
 * clipped as where the curve learns from them, add up to nothing. So a lone interruption hardly has
 * a say, and what the level takes, the curve does not: while all steps are of one number of rows
 * the residuals teach it nothing, however the machine's pace changes, since nothing can be learned
 * about how its cost compares with others'. (A median would leave a rest in every window, all of
 * one sign where slow steps are seldom or fast ones are: the curve would take it up and drift away
 * from the other numbers of rows.) Steps of knots we know little about have little to say: there,
 * the curve is to learn. The level as it was has something, for when all are such. */
static double find_level(struct costs *c)
{
    double off[COST_STEPS + 1] = {log(c->level)}, most[COST_STEPS + 1] = {CLIP};
    double weight[COST_STEPS + 1] = {LEVEL_KEPT}, low = off[0], high = off[0];
    int n = 1;
    for (unsigned ago = 0; ago < COST_STEPS && ago < c->steps; ago++, n++) {
        const struct cost_step *s = step_ago(c, ago);
        double known = c->pass[s->context].n[s->knot] / LEVEL_KNOWN;
        off[n] = log(s->seconds / expected(c, s));
        most[n] = most_off(&c->pass[s->context], s->knot);
        weight[n] = known * known / (known * known + 1);
        low = off[n] < low ? off[n] : low;
        high = off[n] > high ? off[n] : high;
    }
    while (high - low > LEVEL_EXACT) {
        double middle = (low + high) / 2, rest = 0;
        for (int i = 0; i < n; i++)
            rest += weight[i] * clip(off[i] - middle, most[i]);
        *(rest > 0 ? &low : &high) = middle;
    }
    return exp((low + high) / 2);
}

static void learn(struct costs *c, struct cost_step *s)
{
    struct cost_curve *pass = &c->pass[s->context];
    double level = pow(c->level, PIN);
    if (!s->learned)
        observe(pass, s->knot, s->seconds / level, c->attend * s->positions);
    s->learned = true;
    refit(pass, 0.3);
    if (!s->heads)
        return;
    struct cost_curve *curve = &c->draft[costs_batch(s->sequences)];
    curve->known = true;
    observe(curve, s->heads - 1, s->draft_seconds / level, 0);
    refit(curve, 1);
    s->heads = 0;
}

static bool recent(struct costs *c, int knot, int context)
{
    for (unsigned ago = 0; ago < COST_STEPS && ago < c->steps; ago++)
        if (step_ago(c, ago)->knot == knot && step_ago(c, ago)->context == context)
            return true;
    return false;
}

void costs_note_pass(struct costs *c, int rows, double positions, double seconds)
{
    int knot = knot_of(rows), context = context_of(rows, positions);
    enter(c, context);
    if (!recent(c, knot, context) && c->pass[context].n[knot] > NEWS)
        c->pass[context].n[knot] = NEWS;
    c->steps++;
    struct cost_step *s = step_ago(c, 0);
    *s = (struct cost_step){.knot = knot,
                            .context = context,
                            .positions = positions,
                            .seconds = fmax(seconds, SECONDS_LEAST)};
    if (c->steps <= COST_STEPS) { /* the prior, or the first to run */
        learn(c, s);
        return;
    }
    c->level = find_level(c);
    learn(c, step_ago(c, COST_STEPS / 2));
}

double costs_pass(const struct costs *c, double rows, double positions, bool hope)
{
    const struct cost_curve *curve = curve_of(c, context_of(rows, positions));
    return c->level * (curve_at(hope ? curve->hope : curve->fit, rows) + c->attend * positions);
}

double costs_known(const struct costs *c, int rows, double positions)
{
    return curve_of(c, context_of(rows, positions))->n[knot_of(rows)];
}

/* ---- drafts ---- */

void costs_note_draft(struct costs *c, int heads, int sequences, double seconds)
{
    if (heads < 1 || heads > DRAFTS_MAX || !c->steps)
        return;
    struct cost_step *s = step_ago(c, 0);
    s->heads = heads;
    s->sequences = sequences;
    s->draft_seconds = fmax(seconds, SECONDS_LEAST);
    if (c->steps <= COST_STEPS)
        learn(c, s);
}

double costs_draft(const struct costs *c, int heads, int sequences, bool hope)
{
    int b = costs_batch(sequences), near = -1;
    if (heads < 1 || sequences < 1)
        return 0;
    for (int d = 0; d < COST_BATCHES && near < 0; d++)
        near = b - d >= 0 && c->draft[b - d].known             ? b - d
               : b + d < COST_BATCHES && c->draft[b + d].known ? b + d
                                                               : -1;
    if (near < 0) /* nothing is known: a tenth of a pass each, as small models' heads are */
        return 0.1 * heads * costs_pass(c, sequences, 0, hope);
    const struct cost_curve *curve = &c->draft[near];
    return c->level * (hope ? curve->hope : curve->fit)[heads - 1];
}
