/* The sampler against a plain reference that sorts: which tokens a setting leaves and in which
 * order they are preferred, with any number of lanes and on every kernel path. Then its noise: each
 * value against its definition, and what it must look like: moments, tails, no correlations, draws
 * that follow the softmax. */
#include "engine/sampler.h"

#include <float.h>
#include <math.h>

#include "base/rng.h"
#include "tests/unit/unit.h"

#define VOCAB_BIG 151936
#define LANES_MAX 3
#define HISTORY_MAX 200

struct dice {
    uint64_t seed, n;
};

static uint64_t roll(struct dice *d, uint64_t sides)
{
    return rng_below(d->seed, 11, d->n++, sides);
}

static float uniform(struct dice *d, double low, double high)
{
    return (float)(low + (high - low) * rng_uniform(d->seed, 11, d->n++));
}

static float normal(struct dice *d)
{
    double radius = sqrt(-2 * log(rng_uniform(d->seed, 11, d->n++)));
    return (float)(radius * cos(2 * M_PI * rng_uniform(d->seed, 12, d->n++)));
}

/* ---- what all tests share: teams of 1, 2, 3 lanes and memory for the largest row ---- */

static struct team teams[LANES_MAX + 1];
static struct sampler_work work;
static struct arena arena;
static const char *isas[] = {KERNELS_NAMES};

static int open_all(void **state)
{
    (void)state;
    struct err err;
    for (int i = 1; i <= LANES_MAX; i++)
        assert_ok(team_init(&teams[i], i, &err), err);
    sampler_work_take(&work, &arena, VOCAB_BIG, LANES_MAX);
    assert_ok(arena_init(&arena, &err), err);
    sampler_work_take(&work, &arena, VOCAB_BIG, LANES_MAX);
    return kernels_init(NULL, &err);
}

static int close_all(void **state)
{
    (void)state;
    for (int i = 1; i <= LANES_MAX; i++)
        team_release(&teams[i]);
    arena_release(&arena);
    return 0;
}

/* A row with all that decides about it. */
struct problem {
    struct engine_request request;
    int32_t history[HISTORY_MAX]; /* the prompt, then what was pushed */
    struct engine_bias biases[8];
    int32_t bad[3 * 4];
    int bad_lens[3];
    int n_history, vocab, n_logits, n_ends, n;
    int32_t ends[SAMPLER_ENDS_MAX];
    float *logits;
    const int32_t *ids;
    const uint64_t *allowed;
};

struct answer {
    int counts[LANES_MAX], n;
    int32_t tokens[SAMPLER_RANKS_MAX + 1];
};

struct asking {
    const struct problem *p;
    const struct sampler *s;
    struct answer a;
};

static void ask_lane(struct lane *lane, void *arg)
{
    struct asking *ask = arg;
    const struct problem *p = ask->p;
    ask->a.counts[lane->id] = sampler_sample(lane, ask->s, p->logits, p->n_logits, p->ids,
                                             p->allowed, p->n, ask->a.tokens, &work);
}

static struct answer ask(const struct problem *p, const struct sampler *s, int lanes)
{
    struct asking asking = {.p = p, .s = s};
    memset(asking.a.tokens, 0xff, sizeof asking.a.tokens);
    team_run(&teams[lanes], ask_lane, &asking);
    for (int i = 0; i < lanes; i++)
        assert_int_equal(asking.a.counts[i], asking.a.counts[0]);
    asking.a.n = asking.a.counts[0];
    for (int i = asking.a.n; i <= SAMPLER_RANKS_MAX; i++)
        assert_int_equal(asking.a.tokens[i], -1); /* no more is written than said */
    return asking.a;
}

static void open_sampler(const struct problem *p, struct sampler *s)
{
    struct err err;
    memset(s, 0x5a, sizeof *s);
    assert_ok(sampler_init(s, &p->request, p->vocab, p->ends, p->n_ends, NULL, &err), err);
    for (int i = (int)p->request.n_tokens; i < p->n_history; i++)
        sampler_push(s, p->history[i]);
}

static struct engine_request neutral(void)
{
    return (struct engine_request){
        .temperature = 1, .top_p = 1, .repetition_penalty = 1, .max_tokens = 1};
}

/* ---- the reference ---- */

static uint32_t mix32(uint32_t x)
{
    x = (x ^ x >> 16) * 0x21f0aaadu;
    x = (x ^ x >> 15) * 0x735a2d97u;
    return x ^ x >> 15;
}

static double noise_of(const uint32_t key[4], int32_t token)
{
    uint32_t lead = mix32(mix32((uint32_t)token + key[0]) ^ key[1]) >> 8;
    uint32_t more = mix32(mix32((uint32_t)token + key[2]) ^ key[3]) >> 1;
    double v = lead * 0x1p-24 + (more + 0.5) * 0x1p-55;
    double rest = (0x1p24 - lead) * 0x1p-24 - (more + 0.5) * 0x1p-55;
    return -log(-(v < 0.5 ? log1p(-v) : log(rest)));
}

static void keys_of(uint64_t seed, uint64_t position, uint32_t key[4])
{
    for (int i = 0; i < 4; i++)
        key[i] = (uint32_t)(rng_bits(seed, position, (uint64_t)i / 2) >> 32 * (i % 2));
}

struct option {
    int32_t token;
    float logit; /* as a score, before temperature */
    double score, value;
};

static int by_logit(const void *a, const void *b)
{
    const struct option *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

/* Whether it would complete one of the words that are not written. */
static bool is_bad(const struct problem *p, int32_t token)
{
    const int32_t *word = p->request.bad_tokens;
    int pushed = p->n_history - (int)p->request.n_tokens;
    for (int i = 0; i < p->request.n_bad; word += p->bad_lens[i++]) {
        int before = p->bad_lens[i] - 1;
        if (before <= pushed && word[before] == token &&
            !memcmp(word, p->history + p->n_history - before, (size_t)before * sizeof *word))
            return true;
    }
    return false;
}

static bool is_listed(const struct problem *p, int32_t token)
{
    bool listed = !p->request.n_allowed;
    for (size_t i = 0; i < p->request.n_allowed; i++)
        listed |= p->request.allowed[i] == token;
    return listed;
}

static bool can_be(const struct problem *p, int32_t token, bool bans)
{
    bool banned = false;
    if ((bans && is_bad(p, token)) || !is_listed(p, token))
        return false;
    for (int i = 0; i < p->n_ends; i++)
        banned |= p->ends[i] == token;
    banned = banned && p->n_history - (int)p->request.n_tokens < p->request.min_tokens && bans;
    return !banned && (!p->allowed || p->allowed[token / 64] >> token % 64 & 1);
}

static float penalised(const struct problem *p, int32_t token, float x)
{
    const struct engine_request *r = &p->request;
    int count = 0, known = 0;
    for (int i = 0; i < p->n_history; i++) {
        known |= p->history[i] == token;
        count += i >= (int)r->n_tokens && p->history[i] == token;
    }
    if (known)
        x = x > 0 ? x / r->repetition_penalty : x * r->repetition_penalty;
    if (count)
        x -= r->frequency_penalty * (float)count + r->presence_penalty;
    for (int i = 0; i < r->n_biases; i++)
        x += r->biases[i].token == token ? r->biases[i].bias : 0;
    return x;
}

/* All that may follow and is above -infinity, best first. `touched` marks tokens of the history and
 * of the biases, for speed. */
static int list_options(const struct problem *p, struct option *o)
{
    uint8_t *touched = calloc((size_t)p->vocab, 1);
    int n = 0;
    for (int i = 0; i < p->n_history; i++)
        touched[p->history[i]] = 1;
    for (int i = 0; i < p->request.n_biases; i++)
        touched[p->biases[i].token] = 1;
    for (int i = 0; i < p->n_logits; i++) {
        int32_t token = p->ids ? p->ids[i] : i;
        float x = p->logits[i];
        if (touched[token])
            x = penalised(p, token, x);
        if (can_be(p, token, true) && x > -INFINITY)
            o[n++] = (struct option){.token = token, .logit = x};
    }
    free(touched);
    qsort(o, (size_t)n, sizeof *o, by_logit);
    return n;
}

/* Cuts a sorted list by top_p; false when rounding may decide where. */
static bool keep_top_p(const struct problem *p, const struct option *o, int *n)
{
    double sum = 0, reached = 0, room = 0;
    int kept = 0;
    for (int i = 0; i < *n; i++) {
        double mass = floor(exp(o[i].score) * 0x1p30 + 0.5);
        sum += mass;
        if (mass > 0 && o[i].score < 0)
            room = 1e-5; /* of the sum: e^score is exact nowhere else */
    }
    double need = fmax(1, ceil((double)p->request.top_p * sum));
    for (int i = 0; i < *n; i++) {
        reached += floor(exp(o[i].score) * 0x1p30 + 0.5);
        if (fabs(reached - need) < room * sum)
            return false;
        if (!kept && reached >= need)
            kept = i + 1;
    }
    *n = kept;
    return true;
}

/* Leaves what the settings keep, with values; returns how many, -1 when rounding may decide. */
static int reference(const struct problem *p, struct option *o)
{
    const struct engine_request *r = &p->request;
    int n = list_options(p, o), kept = 0;
    uint32_t key[4];
    keys_of(r->seed, (uint64_t)p->n_history, key);
    double least = fmax(-40, r->min_p > 0 ? log((double)r->min_p) : -INFINITY);
    double inverse = fmin(1 / (double)r->temperature, FLT_MAX);
    for (int i = 0; i < n; i++) {
        o[i].score = r->temperature <= 0        ? 0
                     : o[i].logit == o[0].logit ? 0
                                                : ((double)o[i].logit - o[0].logit) * inverse;
        o[i].value = o[i].score + noise_of(key, o[i].token);
        if (r->temperature <= 0)
            o[i].value = o[i].logit;
        else if (fabs(o[i].score - least) < 1e-4 && o[i].score != 0)
            return -1;
        kept += o[i].score >= least;
    }
    if (r->temperature <= 0)
        return n;
    if (r->top_k > 0 && r->top_k < kept)
        kept = r->top_k;
    return r->top_p < 1 && kept && !keep_top_p(p, o, &kept) ? -1 : kept;
}

/* Every rank must be among what is kept, and none that is left may be better. Greedily, values are
 * exact and ties go by token, which is the order of the list. */
static void check_against(const struct problem *p, const struct option *o, int n,
                          const struct answer *a)
{
    double room = p->request.temperature > 0 ? 3e-5 : 0;
    assert_int_equal(a->n, n < p->n ? n : p->n);
    bool *used = calloc((size_t)n, sizeof *used);
    for (int rank = 0; rank < a->n; rank++) {
        int best = -1, at = -1;
        for (int i = 0; i < n; i++) {
            if (!used[i] && (best < 0 || o[i].value > o[best].value))
                best = i;
            at = o[i].token == a->tokens[rank] ? i : at;
        }
        if (at < 0 || used[at] || o[at].value < o[best].value - room || (room == 0 && at != best))
            fail_msg("rank %d is token %d (%s), not %d", rank, a->tokens[rank],
                     at < 0 ? "cut" : "not the best", o[best].token);
        used[at] = true;
    }
    free(used);
}

static void check_fallback(const struct problem *p, const struct answer *a)
{
    int32_t expected = -1;
    for (int bans = 1; bans >= 0 && expected < 0; bans--)
        for (int i = p->n_logits - 1; i >= 0; i--)
            if (can_be(p, p->ids ? p->ids[i] : i, bans))
                expected = p->ids ? p->ids[i] : i;
    assert_int_equal(a->n, expected >= 0);
    assert_int_equal(a->tokens[0], expected);
}

static void check_same(const struct problem *p, const struct sampler *s, int lanes, const char *isa,
                       const struct answer *a)
{
    struct err err;
    if (kernels_init(isa, &err))
        return; /* not on this processor */
    struct answer b = ask(p, s, lanes);
    if (b.n != a->n || memcmp(a->tokens, b.tokens, sizeof b.tokens))
        fail_msg("%s with %d lanes differs: %d, not %d", isa, lanes, b.tokens[0], a->tokens[0]);
}

/* Asks one lane, then all kernels, then up to `lanes` lanes on kernels that change from row to row,
 * and holds the answer to the reference. Returns whether the reference could say. */
static bool check(const struct problem *p, int lanes)
{
    struct sampler s;
    struct err err;
    size_t size = (size_t)p->n_logits * sizeof *p->logits, n_isas = sizeof isas / sizeof *isas;
    float *before = malloc(size);
    struct option *o = malloc((size_t)p->n_logits * sizeof *o);
    memcpy(before, p->logits, size);
    open_sampler(p, &s);
    struct answer a = ask(p, &s, 1);
    for (size_t i = 0; i < n_isas; i++)
        check_same(p, &s, 1, isas[i], &a);
    for (int i = 2; i <= lanes; i++)
        check_same(p, &s, i, isas[(p->request.seed + (uint64_t)i) % n_isas], &a);
    assert_ok(kernels_init(NULL, &err), err);
    assert_memory_equal(before, p->logits, size);
    sampler_release(&s);
    int n = reference(p, o);
    if (n > 0)
        check_against(p, o, n, &a);
    else if (n == 0)
        check_fallback(p, &a);
    free(before);
    free(o);
    return n >= 0;
}

/* ---- random rows ---- */

static float strange(struct dice *d)
{
    static const float values[] = {NAN,     INFINITY, -INFINITY, FLT_MAX, -FLT_MAX,
                                   FLT_MIN, 1e-45f,   -1e-45f,   0,       -0.0f};
    uint64_t n = sizeof values / sizeof *values, i = roll(d, 2 * n);
    return i < n ? values[i] : uniform(d, -10, 10);
}

enum { NORMAL, FEW, EQUAL, STRANGE, HUGE_ONES, RISING, FALLING, NEAR, IMPOSSIBLE, KINDS };

static void fill(struct dice *d, int kind, float *logits, int n)
{
    float one = strange(d), scale = kind == HUGE_ONES ? 1e37f : uniform(d, 0.1, 6);
    for (int i = 0; i < n; i++)
        logits[i] = kind == FEW          ? (float)roll(d, 4) - 2
                    : kind == EQUAL      ? one
                    : kind == STRANGE    ? strange(d)
                    : kind == RISING     ? (float)i * 0.001f
                    : kind == FALLING    ? -(float)i * 0.01f
                    : kind == NEAR       ? 1 + (float)roll(d, 50) * 0x1p-23f
                    : kind == IMPOSSIBLE ? (roll(d, 2) ? NAN : -INFINITY)
                                         : normal(d) * scale;
    if (kind == NORMAL && roll(d, 3) == 0)
        logits[roll(d, (uint64_t)n)] = roll(d, 2) ? NAN : -INFINITY;
}

static void random_settings(struct dice *d, struct problem *p)
{
    static const float temperatures[] = {0, 0, 1e-45f, 1e-38f, 1e-6f, 0.05f, 0.7f, 1, 1, 2, 100};
    struct engine_request *r = &p->request;
    *r = neutral();
    r->temperature = temperatures[roll(d, sizeof temperatures / sizeof *temperatures)];
    r->seed = rng_bits(d->seed, 13, d->n++);
    r->top_k = roll(d, 2) ? (int)roll(d, roll(d, 2) ? 50 : (uint64_t)p->vocab + 10) : 0;
    r->top_p = roll(d, 2) ? uniform(d, 0, 1) : (float)(roll(d, 5) != 0);
    r->min_p = roll(d, 4) ? 0 : roll(d, 5) ? uniform(d, 0, 0.3) : 1;
    r->tokens = p->history;
    p->n_history = 1 + (int)roll(d, HISTORY_MAX - 1);
    r->n_tokens = 1 + roll(d, (uint64_t)p->n_history);
    for (int i = 0; i < p->n_history; i++)
        p->history[i] = (int32_t)roll(d, (uint64_t)p->vocab);
    if (roll(d, 2)) {
        r->frequency_penalty = roll(d, 2) ? uniform(d, -2, 2) : 0;
        r->presence_penalty = roll(d, 2) ? uniform(d, -2, 2) : 0;
        r->repetition_penalty = roll(d, 2) ? uniform(d, 0.5, 2) : 1;
    }
    r->biases = p->biases;
    r->n_biases = (int)roll(d, 3) * (int)roll(d, 5);
    for (int i = 0; i < r->n_biases; i++)
        p->biases[i] =
            (struct engine_bias){(int32_t)roll(d, (uint64_t)p->vocab), uniform(d, -3, 3)};
    r->min_tokens = (int)roll(d, 2) * HISTORY_MAX;
    p->n_ends = (int)roll(d, SAMPLER_ENDS_MAX + 1);
    for (int i = 0; i < p->n_ends; i++)
        p->ends[i] = (int32_t)roll(d, (uint64_t)p->vocab);
    p->n = 1 + (int)roll(d, SAMPLER_RANKS_MAX);
    /* Words that begin with what stands at the end, some of them in the prompt. */
    int32_t *word = p->bad;
    r->bad_tokens = p->bad;
    r->bad_lens = p->bad_lens;
    r->n_bad = (int)roll(d, 4);
    for (int i = 0; i < r->n_bad; word += p->bad_lens[i++]) {
        int before = (int)roll(d, 4) % (p->n_history + 1);
        p->bad_lens[i] = before + 1;
        memcpy(word, p->history + p->n_history - before, (size_t)before * sizeof *word);
        word[before] = (int32_t)roll(d, (uint64_t)(roll(d, 2) ? p->vocab : 3) % 3000 + 1);
        word[before] %= p->vocab;
    }
}

/* Every token with the same chance, from few to nearly all. */
static void random_bits(struct dice *d, uint64_t *bits, int vocab)
{
    uint64_t sides = 1 + roll(d, 20), most = 1 + roll(d, sides);
    memset(bits, 0, ((size_t)vocab + 63) / 64 * sizeof *bits);
    for (int t = 0; t < vocab; t++)
        bits[t / 64] |= (uint64_t)(roll(d, sides) < most) << t % 64;
}

struct space {
    float *logits;
    int32_t *ids;
    uint64_t *allowed;
    int32_t *listed;
};

static struct space space_make(int vocab)
{
    size_t n = ((size_t)vocab + 63) / 64 * 64;
    return (struct space){malloc(n * sizeof(float)), malloc(n * sizeof(int32_t)), malloc(n / 8),
                          malloc(n * sizeof(int32_t))};
}

static void space_free(struct space *m)
{
    free(m->logits);
    free(m->ids);
    free(m->allowed);
    free(m->listed);
}

static bool random_row(struct dice *d, int vocab, int kind, int lanes)
{
    struct space m = space_make(vocab);
    struct problem p = {.vocab = vocab, .n_logits = vocab, .logits = m.logits};
    random_settings(d, &p);
    if (roll(d, 3) == 0) {
        uint64_t skip = 1 + roll(d, 4);
        p.n_logits = 0;
        for (int t = 0; t < vocab; t++)
            if (roll(d, skip) == 0)
                m.ids[p.n_logits++] = t;
        if (!p.n_logits)
            m.ids[p.n_logits++] = (int32_t)roll(d, (uint64_t)vocab);
        p.ids = m.ids;
    }
    if (roll(d, 4) == 0) {
        p.request.allowed = m.listed;
        p.request.n_allowed = 1 + roll(d, vocab < 40 ? (uint64_t)vocab : 40);
        for (size_t i = 0; i < p.request.n_allowed; i++)
            m.listed[i] = (int32_t)roll(d, (uint64_t)vocab);
    }
    if (roll(d, 3) == 0) {
        random_bits(d, m.allowed, vocab);
        p.allowed = m.allowed;
    }
    fill(d, STRANGE, m.logits + p.n_logits, ((vocab + 63) & ~63) - p.n_logits); /* padding */
    fill(d, kind, m.logits, p.n_logits);
    bool sure = check(&p, lanes);
    space_free(&m);
    return sure;
}

static void rows_match_the_reference(void **state)
{
    (void)state;
    struct dice d = {1, 0};
    int sure = 0, rows = 4500;
    for (int i = 0; i < rows; i++) {
        int vocab = (int)exp(uniform(&d, log(2), log(i % 10 ? 300 : 5000)));
        sure += random_row(&d, vocab, i % KINDS, i % 30 == 0 ? 3 : i % 6 == 0 ? 2 : 1);
    }
    assert_in_range(sure, rows * 8 / 10, rows);
}

static void large_rows_match_the_reference(void **state)
{
    (void)state;
    struct dice d = {2, 0};
    int sure = 0;
    for (int kind = 0; kind < KINDS; kind++)
        sure += random_row(&d, VOCAB_BIG - (int)roll(&d, 100), kind, kind % 4 == 0 ? 2 : 1);
    assert_in_range(sure, 3, KINDS);
}

/* Cuts that fall among equal logits keep the lowest tokens, wherever the lanes' slices end. */
static void ties_are_cut_in_the_order_of_tokens(void **state)
{
    (void)state;
    struct dice d = {3, 0};
    struct space m = space_make(1000);
    for (int round = 0; round < 300; round++) {
        struct problem p = {.vocab = 1000, .n_logits = 1000, .logits = m.logits, .n = 8};
        p.request = neutral();
        p.request.tokens = p.history;
        p.request.seed = roll(&d, 1000);
        for (int t = 0; t < 1000; t++)
            m.logits[t] = roll(&d, 3) ? 2 : -30;
        if (round % 3 != 1)
            p.request.top_k = 1 + (int)roll(&d, 800);
        if (round % 3 != 0)
            p.request.top_p = uniform(&d, 0, 1);
        assert_true(check(&p, 3));
    }
    space_free(&m);
}

/* What no draft vocabulary holds is as if it were not allowed. */
static void ids_stand_for_their_tokens(void **state)
{
    (void)state;
    struct dice d = {4, 0};
    struct space m = space_make(3000);
    float *few = malloc(3008 * sizeof *few);
    for (int round = 0; round < 300; round++) {
        struct sampler s;
        struct problem p = {.vocab = 3000, .n_logits = 3000, .logits = m.logits};
        random_settings(&d, &p);
        random_bits(&d, m.allowed, 3000);
        fill(&d, round % KINDS, m.logits, 3000);
        p.allowed = m.allowed;
        int n = 0;
        for (int t = 0; t < 3000; t++)
            if (m.allowed[t / 64] >> t % 64 & 1) {
                few[n] = m.logits[t];
                m.ids[n++] = t;
            }
        open_sampler(&p, &s);
        struct answer full = ask(&p, &s, 1);
        p.logits = few;
        p.n_logits = n;
        p.ids = m.ids;
        p.allowed = NULL;
        struct answer part = ask(&p, &s, 1);
        assert_memory_equal(&full, &part, sizeof full);
        sampler_release(&s);
    }
    free(few);
    space_free(&m);
}

static void best_logits_are_the_largest(void **state)
{
    (void)state;
    struct dice d = {5, 0};
    struct space m = space_make(VOCAB_BIG);
    struct option *o = malloc(VOCAB_BIG * sizeof *o);
    for (int round = 0; round < 1000; round++) {
        int vocab = round < 10 ? VOCAB_BIG : 1 + (int)roll(&d, round % 10 ? 100 : 3000), n;
        int most = 1 + (int)roll(&d, SAMPLE_BEST_MAX);
        struct candidate best[SAMPLE_BEST_MAX];
        struct problem p = {.vocab = vocab, .n_logits = vocab, .logits = m.logits};
        fill(&d, round % KINDS, m.logits, vocab);
        n = list_options(&p, o);
        assert_int_equal(logits_best(m.logits, vocab, most, best), n < most ? n : most);
        for (int i = 0; i < most && i < n; i++) {
            assert_int_equal(best[i].token, o[i].token);
            assert_true(best[i].score == o[i].logit);
        }
    }
    free(o);
    space_free(&m);
}

/* ---- the cursor ---- */

static int by_number(const void *a, const void *b)
{
    return *(const int32_t *)a < *(const int32_t *)b ? -1 : 1;
}

/* Two samplers of the same history must be alike but for the order in which tokens are listed. */
static void check_alike(struct sampler *a, struct sampler *b, int vocab)
{
    assert_int_equal(a->n_pushed, b->n_pushed);
    assert_int_equal(a->n_listed, b->n_listed);
    assert_memory_equal(a->uses, b->uses, (size_t)vocab * sizeof *a->uses);
    int32_t x[HISTORY_MAX + 1], y[HISTORY_MAX + 1];
    memcpy(x, a->listed, (size_t)a->n_listed * sizeof *x);
    memcpy(y, b->listed, (size_t)b->n_listed * sizeof *y);
    qsort(x, (size_t)a->n_listed, sizeof *x, by_number);
    qsort(y, (size_t)b->n_listed, sizeof *y, by_number);
    assert_memory_equal(x, y, (size_t)a->n_listed * sizeof *x);
}

static void pop_takes_back_what_push_did(void **state)
{
    (void)state;
    struct dice d = {6, 0};
    float logits[48];
    for (int walk = 0; walk < 60; walk++) {
        struct problem p = {.vocab = 40, .n_logits = 40, .logits = logits};
        struct sampler s, fresh;
        random_settings(&d, &p);
        p.request.frequency_penalty = 0.5f;
        p.n_history = (int)p.request.n_tokens;
        open_sampler(&p, &s);
        for (int step = 0; step < 60; step++) {
            if (p.n_history < HISTORY_MAX &&
                (p.n_history == (int)p.request.n_tokens || roll(&d, 2))) {
                p.history[p.n_history] = (int32_t)roll(&d, 40);
                sampler_push(&s, p.history[p.n_history++]);
            } else if (p.n_history > (int)p.request.n_tokens) {
                sampler_pop(&s, p.history[--p.n_history]);
            }
            fill(&d, NORMAL, logits, 40);
            open_sampler(&p, &fresh);
            check_alike(&s, &fresh, 40);
            struct answer a = ask(&p, &s, 1), b = ask(&p, &fresh, 1);
            assert_memory_equal(&a, &b, sizeof a);
            sampler_release(&fresh);
        }
        sampler_release(&s);
    }
}

static void ends_wait_for_min_tokens(void **state)
{
    (void)state;
    float logits[16] = {0, 9, 1, 8, 7, 2};
    for (int greedy = 0; greedy < 2; greedy++) {
        struct problem p = {.vocab = 6,
                            .n_logits = 6,
                            .logits = logits,
                            .history = {0},
                            .n_history = 1,
                            .ends = {4, 1, 3},
                            .n_ends = 3,
                            .n = 3};
        struct sampler s;
        p.request = neutral();
        p.request.temperature = greedy ? 0 : 0.01f;
        p.request.tokens = p.history;
        p.request.n_tokens = 1;
        p.request.min_tokens = 2;
        open_sampler(&p, &s);
        assert_null(s.uses); /* no memory without penalties */
        assert_int_equal(ask(&p, &s, 1).tokens[0], 5);
        sampler_push(&s, 5);
        assert_int_equal(ask(&p, &s, 1).tokens[0], 5);
        uint64_t only_ends = 1u << 3 | 1u << 4, none = 0;
        p.allowed = &only_ends;
        assert_int_equal(ask(&p, &s, 2).tokens[0], 3);
        p.allowed = &none;
        assert_int_equal(ask(&p, &s, 2).n, 0);
        p.allowed = NULL;
        sampler_push(&s, 5);
        assert_int_equal(ask(&p, &s, 1).tokens[0], 1);
        sampler_pop(&s, 5);
        assert_int_equal(ask(&p, &s, 1).tokens[0], 5);
        sampler_release(&s);
    }
}

/* ---- the noise ---- */

/* The noise of tokens first..first+n-1, by token; n at most SAMPLE_BEST_MAX. */
static void noise(const uint32_t key[4], int32_t first, int n, double *values)
{
    static const float zeros[64];
    const float maxima[1] = {0};
    int32_t ids[SAMPLE_BEST_MAX];
    for (int i = 0; i < n; i++)
        ids[i] = first + i;
    struct sample_row row = {zeros, ids, maxima, 0, n};
    struct sample_cut cut = {0, 1, -1, INT32_MAX};
    struct sample_best best = {.most = n};
    kernels.sample.draw(&row, &cut, key, &best);
    assert_int_equal(best.n, n);
    for (int i = 0; i < n; i++)
        values[best.c[i].token - first] = (double)best.c[i].score;
}

static void noise_is_as_defined(void **state)
{
    (void)state;
    for (uint64_t position = 0; position < 20000; position++) {
        double got[20];
        uint32_t key[4];
        keys_of(7, position, key);
        noise(key, (int32_t)position * 7, 20, got);
        for (int i = 0; i < 20; i++) {
            double real = noise_of(key, (int32_t)position * 7 + i);
            if (fabs(got[i] - real) > 2e-6 * (1 + fabs(real)))
                fail_msg("noise %.9g instead of %.9g", got[i], real);
        }
    }
}

/* A choice between token 0 and another turns exactly where their noise says. */
static void check_turn(struct sampler *s, uint64_t position, double first, double second)
{
    float logits[16] = {0};
    struct problem p = {.vocab = 2, .n_logits = 2, .logits = logits, .n = 1};
    s->n_pushed = (int)position;
    logits[1] = (float)(first - second - 1e-3);
    assert_int_equal(ask(&p, s, 1).tokens[0], 0);
    logits[1] = (float)(first - second + 1e-3);
    assert_int_equal(ask(&p, s, 1).tokens[0], 1);
}

/* Where the leading bits are all 0, more come from the second hash: positions are looked for where
 * that is so for token 0. */
static void rare_noise_is_fine_too(void **state)
{
    (void)state;
    int found = 0;
    struct sampler s;
    struct problem p = {.vocab = 2};
    p.request = neutral();
    p.request.seed = 8;
    open_sampler(&p, &s);
    for (uint64_t position = 0; position < 32 << 20; position++) {
        uint64_t bits = rng_bits(8, position, 0);
        if (mix32(mix32((uint32_t)bits) ^ (uint32_t)(bits >> 32)) >> 8)
            continue;
        uint32_t key[4];
        keys_of(8, position, key);
        double got, real = noise_of(key, 0);
        noise(key, 0, 1, &got);
        assert_true(real > 16.6 && fabs(got - real) < 1e-5);
        check_turn(&s, position, real, noise_of(key, 1));
        found++;
    }
    assert_in_range(found, 1, 30);
    sampler_release(&s);
}

static void noise_has_the_right_moments_and_tails(void **state)
{
    (void)state;
    enum { keys = 100000, each = 20, bins = 64, tails = 18 };
    double sum[4] = {0}, chi = 0, n = (double)keys * each;
    static int bin[bins], above[tails];
    for (uint64_t position = 0; position < keys; position++) {
        double g[each];
        uint32_t key[4];
        keys_of(9, position, key);
        noise(key, 1000, each, g);
        for (int i = 0; i < each; i++) {
            double central = g[i] - 0.57721566, v = -expm1(-exp(-g[i]));
            for (int k = 0; k < 4; k++)
                sum[k] += pow(central, k + 1) / n;
            bin[(int)(v * bins)]++;
            for (int k = 0; k < tails && v < ldexp(1, -k); k++)
                above[k]++;
        }
    }
    for (int i = 0; i < bins; i++)
        chi += pow(bin[i] - n / bins, 2) / (n / bins);
    assert_true(chi < bins + 5 * sqrt(2 * bins));
    for (int k = 0; k < tails; k++)
        assert_true(fabs(above[k] - n * ldexp(1, -k)) <= 5 * sqrt(n * ldexp(1, -k)));
    assert_true(fabs(sum[0]) < 5 * 1.2825 / sqrt(n));
    assert_true(fabs(sum[1] - 1.644934) < 5 * sqrt((14.6116 - 2.7058) / n));
    assert_true(fabs(sum[2] - 2.404114) < 0.07); /* five deviations of it, from its 6th moment */
    assert_true(fabs(sum[3] - 14.6116) < 1);
}

/* Noise of neighbours in token, position and seed, as uniform numbers, must not be correlated. */
static void noise_is_independent(void **state)
{
    (void)state;
    enum { n = 40000, each = 16 };
    static const int steps[] = {1, 2, 4, 8, 3};
    double tokens[5] = {0}, positions[each] = {0}, seeds[each] = {0}, before[each] = {0};
    for (uint64_t i = 0; i < n; i++) {
        double g[each], other[each];
        uint32_t key[4];
        keys_of(10, i, key);
        noise(key, 0, each, g);
        keys_of(10 + (1 + i) * 65536, i, key); /* the same position of other seeds */
        noise(key, 0, each, other);
        for (int t = 0; t < each; t++) {
            g[t] = exp(-exp(-g[t])) - 0.5;
            positions[t] += g[t] * before[t];
            seeds[t] += g[t] * (exp(-exp(-other[t])) - 0.5);
        }
        for (int k = 0; k < 5; k++)
            for (int t = 0; t + steps[k] < each; t += 2 * steps[k])
                tokens[k] +=
                    g[t] * g[t + steps[k]] / sqrt((each - 1 - steps[k]) / (2 * steps[k]) + 1);
        memcpy(before, g, sizeof g);
    }
    double most = 5 * sqrt((double)n) / 12; /* the variance of a uniform number is 1/12 */
    for (int t = 0; t < each; t++)
        assert_true(fabs(positions[t]) < most && fabs(seeds[t]) < most);
    for (int k = 0; k < 5; k++)
        assert_true(fabs(tokens[k]) < most);
}

/* ---- draws ---- */

/* The sum of (seen - expected)^2 / expected must be what chance gives: its mean is the number of
 * tokens less one, its deviation the root of twice that. Rare tokens are also counted together. */
static void check_counts(const int *counts, const double *p, int vocab, double draws)
{
    double chi = 0, rare = 0, rare_seen = 0;
    int kinds = 0;
    for (int t = 0; t < vocab; t++) {
        double expected = p[t] * draws;
        if (p[t] < 2e-4) {
            rare += expected;
            rare_seen += counts[t];
        }
        if (expected >= 10) {
            chi += (counts[t] - expected) * (counts[t] - expected) / expected;
            kinds++;
        }
    }
    if (fabs(chi - kinds) > 5 * sqrt(2.0 * kinds) + 5)
        fail_msg("chi-square %g over %d tokens", chi, kinds);
    if (fabs(rare_seen - rare) > 5 * sqrt(rare) + 5)
        fail_msg("%g draws of rare tokens instead of %g", rare_seen, rare);
}

static void check_draws(struct dice *d, int vocab, float temperature, float deviation, int draws)
{
    float *logits = calloc((size_t)vocab + 16, sizeof *logits);
    double *p = calloc((size_t)vocab, sizeof *p), sum = 0;
    int *counts = calloc((size_t)vocab, sizeof *counts);
    struct problem q = {.vocab = vocab, .n_logits = vocab, .logits = logits, .n = 1};
    struct sampler s;
    q.request = neutral();
    q.request.tokens = q.history;
    q.request.temperature = temperature;
    for (int t = 0; t < vocab; t++)
        logits[t] = normal(d) * deviation * temperature + 100;
    for (int t = 0; t < vocab; t++)
        sum += p[t] = exp(((double)logits[t] - 100) / temperature);
    for (int t = 0; t < vocab; t++)
        p[t] /= sum;
    open_sampler(&q, &s);
    for (int i = 0; i < draws; i++) { /* over positions and over seeds */
        s.seed = (uint64_t)i % 7;
        s.n_pushed = i / 7;
        counts[ask(&q, &s, 1).tokens[0]]++;
    }
    check_counts(counts, p, vocab, draws);
    sampler_release(&s);
    free(logits);
    free(p);
    free(counts);
}

static void draws_follow_the_softmax(void **state)
{
    (void)state;
    struct dice d = {11, 0};
    check_draws(&d, 2, 1, 1, 50000);
    check_draws(&d, 5, 0.05f, 1, 50000);
    check_draws(&d, 24, 1.7f, 1.5f, 100000);
    check_draws(&d, 24, 100, 2, 100000);
    check_draws(&d, 1000, 0.8f, 2, 500000); /* most tokens have less than 2e-4 */
}

/* Pairs of draws at neighbouring positions, and of neighbouring seeds, over all 36 pairs. */
static void draws_are_independent(void **state)
{
    (void)state;
    float logits[16] = {0, 0.5f, 1, 0.2f, -1, -0.3f};
    int next[36] = {0}, seeds[36] = {0}, draws = 60000;
    double p[36], sum = 0, one[6];
    struct problem q = {.vocab = 6, .n_logits = 6, .logits = logits, .n = 1};
    struct sampler s;
    q.request = neutral();
    q.request.tokens = q.history;
    open_sampler(&q, &s);
    for (int t = 0; t < 6; t++)
        sum += one[t] = exp((double)logits[t]);
    for (int i = 0; i < 36; i++)
        p[i] = one[i / 6] * one[i % 6] / sum / sum;
    for (int i = 0; i < draws; i++) {
        int first, second;
        s.n_pushed = 2 * i;
        s.seed = 0;
        first = ask(&q, &s, 1).tokens[0];
        s.seed = 1;
        second = ask(&q, &s, 1).tokens[0];
        seeds[first * 6 + second]++;
        s.seed = 0;
        s.n_pushed++;
        second = ask(&q, &s, 1).tokens[0];
        next[first * 6 + second]++;
    }
    check_counts(next, p, 36, draws);
    check_counts(seeds, p, 36, draws);
    sampler_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_match_the_reference),
        cmocka_unit_test(large_rows_match_the_reference),
        cmocka_unit_test(ties_are_cut_in_the_order_of_tokens),
        cmocka_unit_test(ids_stand_for_their_tokens),
        cmocka_unit_test(best_logits_are_the_largest),
        cmocka_unit_test(pop_takes_back_what_push_did),
        cmocka_unit_test(ends_wait_for_min_tokens),
        cmocka_unit_test(noise_is_as_defined),
        cmocka_unit_test(rare_noise_is_fine_too),
        cmocka_unit_test(noise_has_the_right_moments_and_tails),
        cmocka_unit_test(noise_is_independent),
        cmocka_unit_test(draws_follow_the_softmax),
        cmocka_unit_test(draws_are_independent),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
