/* The choice of drafts: against all shapes on small cases, and by simulation against the best fixed
 * choice. Costs and rates are made up, so nothing here depends on the machine that runs it. */
#include "tests/unit/unit.h"

#include <math.h>
#include <time.h>

#include "engine/speculate.h"

#define HEADS 7
#define BATCH 16

static uint64_t seed = 1;

static double uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed >> 11) * 0x1p-53;
}

static double between(double a, double b)
{
    return a + (b - a) * uniform();
}

static double normal(void)
{
    return sqrt(-2 * log(uniform() + 1e-300)) * cos(6.283185307179586 * uniform());
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- worlds: what drafts are really worth and what steps really cost ---- */

struct text {
    double head[HEADS][DRAFT_RANKS];
    double side;      /* factor on rates behind others than the best */
    double match;     /* share of steps with a look-up match */
    double length[2]; /* of it: shortest, longest */
    double lookup;    /* rate of its drafts, growing with the length */
};

enum machine { AVX2, AMX, TINY, MACHINES };
static const char *const machine_name[] = {"avx2", "amx", "tiny"};

struct world {
    enum machine machine;
    double row; /* of a pass */
    double head;
    int heads, batch;
    bool chained;
    struct text text[2]; /* the second from the middle of each sequence on */
    double noise, bursts;
};

static double true_pass(const struct world *w, double rows)
{
    double groups = ceil(rows / 16);
    switch (w->machine) {
    case AMX: /* a tile takes 16 rows; up to 8 they cost nearly nothing */
        return 200e-6 * (1 + 0.015 * (rows - 1) + w->row * (groups - 1));
    default:
        return 200e-6 * (1 + w->row * (rows - 1));
    }
}

/* Heads read their weights once for all sequences, too. */
static double true_draft(const struct world *w, int heads, int sequences)
{
    double more = w->machine == AMX ? 0.015 : w->row;
    return heads && sequences ? 200e-6 * w->head * heads * (1 + more * (sequences - 1)) : 0;
}

static struct text random_text(int heads)
{
    struct text t = {.side = between(0.4, 1)};
    double first = between(0.2, 0.95), slope = between(0.75, 1.02), dead = uniform();
    for (int i = 0; i < HEADS; i++) {
        double p = fmin(first * pow(slope, i), 0.97), left = 1 - p;
        if (dead < 0.1 && i >= heads / 2)
            p = 0.01;
        t.head[i][0] = p;
        for (int r = 1; r < DRAFT_RANKS; r++) {
            t.head[i][r] = dead < 0.1 && i >= heads / 2 ? 0 : left * between(0.1, 0.4);
            t.head[i][r] = fmin(t.head[i][r], t.head[i][r - 1]);
            left -= t.head[i][r];
        }
    }
    t.match = uniform() < 0.5 ? 0 : uniform();
    t.length[0] = 1;
    t.length[1] = between(2, 30);
    t.lookup = between(0.05, 0.9);
    return t;
}

static double lookup_rate(const struct text *t, int length)
{
    return t->lookup + (0.95 - t->lookup) * (1 - exp(-length / 12.0));
}

static struct world random_world(enum machine machine, int batch)
{
    struct world w = {.machine = machine, .batch = batch};
    w.heads = 1 + (int)between(0, HEADS);
    w.row = machine == AVX2 ? between(0.08, 0.3) : machine == AMX ? between(0.3, 0.8) : 0.15;
    w.head = machine == TINY ? 0.1 : between(0.01, 0.06);
    w.chained = uniform() < 0.3;
    w.text[0] = random_text(w.heads);
    w.text[1] = uniform() < 0.5 ? w.text[0] : random_text(w.heads);
    w.noise = between(0.01, 0.08);
    w.bursts = uniform() < 0.5 ? 0 : between(0.0005, 0.005);
    return w;
}

/* ---- one step of one sequence: candidates, and what the text turns out to be ---- */

/* The token at depth d is d; wrong candidates are unlike anything else. */
static void draw(const struct world *w, const struct text *t, int heads, struct candidates *c)
{
    bool best = true;
    c->heads = heads;
    c->chained = w->chained;
    for (int i = 0; i < heads; i++) {
        double u = uniform() / (best ? 1 : t->side);
        int right = -1;
        for (int r = 0; r < DRAFT_RANKS && right < 0; r++) {
            if (u < t->head[i][r])
                right = r;
            u -= t->head[i][r];
        }
        if (w->chained && !best)
            right = -1;
        c->n[i] = DRAFT_RANKS;
        for (int r = 0; r < DRAFT_RANKS; r++)
            c->token[i][r] = r == right ? i + 1 : 1000 + 10 * i + r;
        best = best && right == 0;
    }
}

static void draw_lookup(const struct text *t, struct candidates *c)
{
    bool right = true;
    c->n_lookup = uniform() < t->match ? 16 : 0;
    c->match_length = (int)between(t->length[0], t->length[1] + 1);
    for (int d = 0; d < c->n_lookup; d++) {
        right = right && uniform() < lookup_rate(t, c->match_length);
        c->lookup[d] = right ? d + 1 : 2000 + d;
    }
}

/* Tokens committed by verifying the proposal. */
static int verify(const struct proposal *p)
{
    int node = -1, d = 0;
    while ((node = proposal_child(p, node, d + 1)) >= 0)
        d++;
    return d + 1;
}

/* ---- the best fixed choice ---- */

struct open {
    double p, behind;
    int depth, rank;
    bool best;
};

/* Expected tokens of the likeliest tree of up to m nodes from `heads` heads, at [m]. */
static void tree_tokens(const struct world *w, const struct text *t, int heads, int ranks,
                        double *tokens)
{
    struct open open[200] = {{t->head[0][0], 1, 0, 0, true}};
    int n = heads > 0;
    tokens[0] = 1;
    for (int m = 1; m <= DRAFTS_MAX; m++) {
        int top = 0;
        for (int i = 1; i < n; i++)
            top = open[i].p > open[top].p ? i : top;
        struct open o = n ? open[top] : (struct open){0};
        tokens[m] = tokens[m - 1] + o.p;
        if (!n)
            continue;
        open[top] = open[--n];
        if (o.rank + 1 < ranks)
            open[n++] = (struct open){o.behind * t->head[o.depth][o.rank + 1] *
                                          (o.best ? 1 : t->side),
                                      o.behind, o.depth, o.rank + 1, o.best};
        bool best = o.best && !o.rank;
        if (o.depth + 1 < heads && (best || !w->chained))
            open[n++] = (struct open){o.p * t->head[o.depth + 1][0] * (best ? 1 : t->side), o.p,
                                      o.depth + 1, 0, best};
    }
}

/* Tokens per second of the best fixed tree (chains are trees of one rank); plain at *plain. Each
 * half of a sequence has as many tokens. */
static double best_fixed(const struct world *w, double *plain)
{
    double best = *plain = w->batch / true_pass(w, w->batch);
    for (int ranks = 1; ranks <= DRAFT_RANKS; ranks += DRAFT_RANKS - 1)
        for (int k = 1; k <= w->heads; k++) {
            double a[DRAFTS_MAX + 1], b[DRAFTS_MAX + 1];
            tree_tokens(w, &w->text[0], k, ranks, a);
            tree_tokens(w, &w->text[1], k, ranks, b);
            for (int m = 1; m <= DRAFTS_MAX; m++) {
                double seconds = true_pass(w, w->batch * (1 + m)) + true_draft(w, k, w->batch);
                best = fmax(best, 2 * w->batch / (seconds / a[m] + seconds / b[m]));
            }
        }
    return best;
}

/* ---- the policy at work ---- */

struct sim {
    const struct world *world;
    struct costs costs;
    struct draft_rates prior, rates[BATCH];
    struct candidates candidates[BATCH];
    struct wish wishes[BATCH];
    struct speculate speculate;
    int at[BATCH], until[BATCH]; /* tokens of a sequence, and where it ends */
    double slow;                 /* 2 in a burst */
    double tokens, seconds;      /* the score: undisturbed time */
    int trials, turns;
    double chosen;
};

static double noisy(struct sim *s, double seconds)
{
    const struct world *w = s->world;
    double t = seconds * s->slow * exp(w->noise * normal());
    return uniform() < 0.01 ? 3 * t : t; /* a lone interruption */
}

static void sim_init(struct sim *s, const struct world *w, double wrong)
{
    struct err err;
    memset(s, 0, sizeof *s);
    s->world = w;
    s->slow = 1;
    assert_ok(speculate_init(&s->speculate, BATCH, &err), err);
    costs_init(&s->costs);
    draft_rates_init(&s->prior, NULL);
    /* What is measured at start, all but the single row wrong. */
    costs_note_pass(&s->costs, 1, 0, true_pass(w, 1));
    costs_note_pass(&s->costs, 8, 0, true_pass(w, 8) * wrong);
    costs_note_draft(&s->costs, w->heads, 1, true_draft(w, w->heads, 1) * wrong);
    for (int q = 0; q < w->batch; q++)
        s->until[q] = -1;
}

static void sim_wish(struct sim *s, int q)
{
    const struct world *w = s->world;
    if (s->at[q] >= s->until[q]) { /* the next request */
        draft_rates_init(&s->rates[q], &s->prior);
        s->until[q] = (int)between(300, 900);
        s->at[q] = 0;
    }
    const struct text *t = &w->text[2 * s->at[q] >= s->until[q]];
    draw_lookup(t, &s->candidates[q]);
    s->wishes[q] = (struct wish){.rates = &s->rates[q],
                                 .heads = w->heads,
                                 .nodes = DRAFTS_MAX,
                                 .depth = 100,
                                 .ranks = DRAFT_RANKS,
                                 .chained = w->chained,
                                 .n_lookup = s->candidates[q].n_lookup,
                                 .match_length = s->candidates[q].match_length,
                                 .positions = s->at[q]};
}

static void sim_step(struct sim *s)
{
    const struct world *w = s->world;
    int32_t truth[DRAFTS_MAX + 1];
    int rows = w->batch, drafting = 0;
    if (uniform() < (s->slow > 1 ? 0.01 : w->bursts))
        s->slow = 3 - s->slow;
    for (int q = 0; q < w->batch; q++)
        sim_wish(s, q);
    struct company company = {0, 0, 100000};
    int was = s->speculate.heads;
    int heads = speculate_choose(&s->speculate, &s->costs, s->wishes, w->batch, &company);
    s->turns += was != s->speculate.heads;
    s->trials += s->speculate.trial;
    for (int q = 0; q < w->batch; q++) {
        struct proposal p;
        struct candidates *c = &s->candidates[q];
        const struct text *t = &w->text[2 * s->at[q] >= s->until[q]];
        int h = s->wishes[q].shape.heads;
        /* Where one drafts, all heads up to the deepest of any sequence run. */
        draw(w, t, h ? heads : 0, c);
        proposal_build(&p, &s->wishes[q].shape, c);
        rows += p.n;
        drafting += h > 0;
        int n = verify(&p);
        for (int d = 0; d < n; d++)
            truth[d] = d + 1;
        rates_note(&s->rates[q], &s->prior, c, truth, n);
        rates_note(&s->prior, NULL, c, truth, n);
        s->tokens += n;
        s->at[q] += n;
    }
    double pass = true_pass(w, rows), draft = true_draft(w, heads, drafting);
    s->seconds += pass + draft;
    s->chosen += rows;
    costs_note_pass(&s->costs, rows, 0, noisy(s, pass));
    if (draft > 0)
        costs_note_draft(&s->costs, heads, drafting, noisy(s, draft));
}

/* Tokens per second after a warm-up of some tens of steps. */
static double simulate(const struct world *w, int steps, double wrong, struct sim *s)
{
    sim_init(s, w, wrong);
    for (int i = 0; i < steps; i++) {
        if (i == 60)
            s->tokens = s->seconds = s->chosen = s->trials = s->turns = 0;
        sim_step(s);
    }
    speculate_release(&s->speculate);
    return s->tokens / s->seconds;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void test_simulated(void **state)
{
    (void)state;
    static const int batches[] = {1, 4, 16};
    static struct sim s;
    double ratio[400], worst_plain = 9;
    int n = 0;
    for (int round = 0; round < 20; round++)
        for (int m = 0; m < MACHINES; m++)
            for (int b = 0; b < 3; b++) {
                struct world w = random_world((enum machine)m, batches[b]);
                if (!getenv("LOOKUP"))
                w.text[0].match = w.text[1].match = 0;
                double plain, best = best_fixed(&w, &plain);
                double wrong[] = {1, 3, 0.33};
                double got = simulate(&w, batches[b] == 16 ? 3000 : 6000, wrong[round % 3], &s);
                ratio[n++] = got / best;
                worst_plain = fmin(worst_plain, got / plain);
                if (getenv("WORLD") && atoi(getenv("WORLD")) == n - 1) {
                    for (int k = 0; k < 36; k++)
                        printf("%d: true %.2f fit %.2f hope %.2f n %.2f seen %.2f\n", k + 1, true_pass(&w, k + 1) * 1e4, s.costs.level * s.costs.pass.fit[k] * 1e4, s.costs.level * s.costs.pass.hope[k] * 1e4, s.costs.pass.n[k], s.costs.level*s.costs.pass.seen[k] * 1e4);
                    for (int k = 1; k <= w.heads; k++)
                        printf("draft %d: %.3f %.3f hope %.3f rate %.2f true %.2f\n", k, 1e4 * true_draft(&w, k, w.batch), 1e4 * costs_draft(&s.costs, k, w.batch, false), 1e4 * costs_draft(&s.costs, k, w.batch, true), s.rates[0].head[k-1][0].p, w.text[0].head[k-1][0]);
                    printf("level %.3f attend %g\n", s.costs.level, s.costs.attend);
                }
                if (getenv("VERBOSE"))
                    printf("%d %s b%d row %.2f head %.2f heads %d chained %d p %.2f/%.2f change %d noise %.2f "
                           "burst %.4f: plain %.3f best %.3f got %.3f | rows %.1f trials %d turns %d\n",
                           n - 1, machine_name[m], w.batch, w.row, w.head, w.heads, w.chained,
                           w.text[0].head[0][0], w.text[1].head[0][0],
                           w.text[0].side != w.text[1].side, w.noise, w.bursts, 1.0, best / plain,
                           got / plain, s.chosen / 6000, s.trials, s.turns);
            }
    qsort(ratio, (size_t)n, sizeof *ratio, by_value);
    printf("of the best fixed choice: worst %.3f, 5 %% below %.3f, median %.3f; of plain: worst %.3f\n", ratio[0],
           ratio[n / 20], ratio[n / 2], worst_plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_simulated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
