/* Greedy and seeded choice of a token, by all lanes of a team: each has a slice of the row. What
 * must be decided together, such as where top_p cuts, is decided on sums of whole numbers, and by
 * every lane for itself from what all have published before a barrier. */
#include "engine/sampler.h"

#include <assert.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

/* Tokens this far below the best (in logit / temperature) are left out: their share of the
 * distribution is below e^-40 each, less than one draw in 10^17. */
#define NEGLIGIBLE 40.0f

/* Entries of `undo` beside those of tokens that were used. */
#define UNDO_MORE (ENGINE_BIAS_MAX + SAMPLER_ENDS_MAX + ENGINE_BAD_WORDS_MAX)

/* Masses below e^-22 of the best round to 0. */
#define WEIGHTLESS 22.0f

/* What a lane has of a row: memory of its own, and what it publishes for the others. */
struct sampler_lane {
    uint64_t counts[SAMPLE_BUCKETS * SAMPLE_COPIES]; /* its own */
    uint64_t sums[2][SAMPLE_BUCKETS];                /* published; used in turn, so that it may
                                                        count on while others still read */
    float extent[2][2];
    float top, usual;
    struct sample_best best;
    char apart[128]; /* from the lines of the next lane */
};

struct sampler_undo {
    int32_t index;
    float logit;
};

/* One call of sampler_sample as one lane sees it. */
struct choosing {
    const struct sampler *s;
    struct lane *lane;
    struct sampler_lane *lanes;
    float *logits;
    struct sample_row row;
    struct sample_cut cut;
    float usual; /* the lowest maximum of a block: most of what matters lies near it or above */
    int turn;    /* which half of sums is next */
};

/* ---- the cursor ---- */

static bool penalised(const struct sampler *s)
{
    return s->frequency_penalty != 0 || s->presence_penalty != 0 || s->repetition_penalty != 1;
}

static int list_prompt(struct sampler *s, const struct engine_request *r, int vocab,
                       struct err *err)
{
    s->uses = calloc((size_t)vocab, sizeof *s->uses);
    s->listed = calloc((size_t)vocab, sizeof *s->listed);
    if (!s->uses || !s->listed)
        return err_set(err, ERR_MEMORY, "no memory to count the uses of %d tokens", vocab);
    /* Without repetition_penalty those of the prompt are as good as any. */
    for (size_t i = 0; i < r->n_tokens && r->repetition_penalty != 1; i++) {
        if (!s->uses[r->tokens[i]])
            s->listed[s->n_listed++] = r->tokens[i];
        s->uses[r->tokens[i]] = 1;
    }
    return 0;
}

static int follow_grammar(struct sampler *s, const struct engine_request *r, int vocab,
                          const struct token_trie *trie, struct err *err)
{
    s->matcher = calloc(1, sizeof *s->matcher);
    if (!s->matcher)
        return err_set(err, ERR_MEMORY, "no memory to follow a grammar");
    return matcher_init(s->matcher, r->grammar, trie, vocab, r->tokens[r->n_tokens - 1],
                        r->ignore_eos, err);
}

int sampler_init(struct sampler *s, const struct engine_request *r, int vocab, const int32_t *ends,
                 int n_ends, const struct token_trie *trie, struct err *err)
{
    assert(n_ends + r->n_stop_tokens <= SAMPLER_ENDS_MAX);
    *s = (struct sampler){.temperature = r->temperature,
                          .top_p = r->top_p,
                          .min_p = r->min_p,
                          .top_k = r->top_k,
                          .frequency_penalty = r->frequency_penalty,
                          .presence_penalty = r->presence_penalty,
                          .repetition_penalty = r->repetition_penalty,
                          .seed = r->seed,
                          .n_biases = r->n_biases,
                          .n_ends = n_ends,
                          .min_tokens = r->min_tokens,
                          .n_prompt = (int)r->n_tokens};
    if (r->n_biases)
        memcpy(s->biases, r->biases, (size_t)r->n_biases * sizeof *s->biases);
    if (n_ends)
        memcpy(s->ends, ends, (size_t)n_ends * sizeof *ends);
    for (int i = 0; i < r->n_stop_tokens; i++)
        s->ends[s->n_ends++] = r->stop_tokens[i];
    int rc = bans_new(&s->bans, r, vocab, err);
    if (!rc && penalised(s))
        rc = list_prompt(s, r, vocab, err);
    if (!rc && r->grammar)
        rc = follow_grammar(s, r, vocab, trie, err);
    if (rc)
        sampler_release(s);
    return rc;
}

void sampler_release(struct sampler *s)
{
    free(s->uses);
    free(s->listed);
    bans_free(s->bans);
    if (s->matcher)
        matcher_release(s->matcher);
    free(s->matcher);
    s->uses = s->listed = NULL;
    s->matcher = NULL;
    s->bans = NULL;
    s->n_listed = 0;
}

void sampler_push(struct sampler *s, int32_t token)
{
    s->n_pushed++;
    bans_push(s->bans, token);
    if (s->matcher)
        matcher_push(s->matcher, token);
    if (!s->uses)
        return;
    if (!s->uses[token])
        s->listed[s->n_listed++] = token;
    s->uses[token] += 2;
}

/* What a push listed is last again when it is taken back: all after it were taken back before. */
void sampler_pop(struct sampler *s, int32_t token)
{
    assert(s->n_pushed > 0);
    s->n_pushed--;
    bans_pop(s->bans);
    if (s->matcher)
        matcher_pop(s->matcher);
    if (!s->uses)
        return;
    s->uses[token] -= 2;
    assert(s->uses[token] >= 0);
    if (!s->uses[token]) {
        s->n_listed--;
        assert(s->listed[s->n_listed] == token);
    }
}

const uint64_t *sampler_allowed(struct sampler *s)
{
    return s->matcher ? matcher_mask(s->matcher) : NULL;
}

void sampler_work_take(struct sampler_work *work, struct arena *arena, int vocab, int lanes)
{
    size_t v = (size_t)vocab, n = (size_t)lanes;
    work->row = arena_take(arena, v + 16, sizeof *work->row);
    work->maxima = arena_take(arena, v / SAMPLE_BLOCK + 1 + 16, sizeof *work->maxima);
    work->undo = arena_take(arena, v + n * UNDO_MORE, sizeof *work->undo);
    work->lanes = arena_take(arena, n, sizeof *work->lanes);
}

/* ---- scores ---- */

/* Index of a token in the slice, or -1. */
static int find(const struct sample_row *row, int32_t token)
{
    if (!row->ids)
        return token >= row->begin && token < row->end ? token : -1;
    int low = row->begin, high = row->end;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (row->ids[middle] < token)
            low = middle + 1;
        else
            high = middle;
    }
    return low < row->end && row->ids[low] == token ? low : -1;
}

static bool bans_ends(const struct sampler *s)
{
    return s->n_pushed < s->min_tokens;
}

static float penalise(const struct sampler *s, int32_t token, float x)
{
    x = x > 0 ? x / s->repetition_penalty : x * s->repetition_penalty;
    int count = s->uses[token] / 2;
    return count ? x - (s->frequency_penalty * (float)count + s->presence_penalty) : x;
}

/* Turns the logits of the slice into scores where they differ; returns how many entries of `undo`
 * say what was there before. Banned tokens become NaN. */
static int rescore(const struct choosing *c, struct sampler_undo *undo)
{
    const struct sampler *s = c->s;
    int n = 0, i;
    for (int k = 0; k < s->n_listed; k++)
        if ((i = find(&c->row, s->listed[k])) >= 0) {
            undo[n++] = (struct sampler_undo){i, c->logits[i]};
            c->logits[i] = penalise(s, s->listed[k], c->logits[i]);
        }
    for (int k = 0; k < s->n_biases; k++)
        if ((i = find(&c->row, s->biases[k].token)) >= 0) {
            undo[n++] = (struct sampler_undo){i, c->logits[i]};
            c->logits[i] += s->biases[k].bias;
        }
    for (int k = 0; bans_ends(s) && k < s->n_ends; k++)
        if ((i = find(&c->row, s->ends[k])) >= 0) {
            undo[n++] = (struct sampler_undo){i, c->logits[i]};
            c->logits[i] = NAN;
        }
    int32_t bad[ENGINE_BAD_WORDS_MAX];
    for (int k = bans_now(s->bans, bad); k--;)
        if ((i = find(&c->row, bad[k])) >= 0) {
            undo[n++] = (struct sampler_undo){i, c->logits[i]};
            c->logits[i] = NAN;
        }
    return n;
}

/* Last first: a token may have been changed more than once. */
static void restore(const struct choosing *c, const struct sampler_undo *undo, int n)
{
    while (n--)
        c->logits[undo[n].index] = undo[n].logit;
}

static bool is_allowed(const uint64_t *allowed, int32_t token)
{
    return !allowed || allowed[token / 64] >> token % 64 & 1;
}

static void mask(struct choosing *c, const float *logits, const uint64_t *allowed)
{
    const struct sample_row *row = &c->row;
    if (!row->ids) {
        kernels.sample.mask(logits, allowed, row->begin, row->end, c->logits);
        return;
    }
    for (int i = row->begin; i < row->end; i++)
        c->logits[i] = is_allowed(allowed, row->ids[i]) ? logits[i] : NAN;
}

/* ---- the best of a row ---- */

/* Enters the largest logits of the slice. At least n blocks have a maximum as large as the nth
 * largest of them, so no smaller logit matters: that keeps logits in rising order from entering one
 * by one. */
static void best_logits(const struct sample_row *row, struct sample_best *best)
{
    struct sample_best blocks = {.most = best->most};
    int last = (row->end + SAMPLE_BLOCK - 1) / SAMPLE_BLOCK;
    for (int b = row->begin / SAMPLE_BLOCK; b < last; b++)
        if (row->maxima[b] > sample_worst(&blocks))
            sample_add(&blocks, (struct candidate){row->maxima[b], b});
    float least = sample_worst(&blocks);
    for (int b = row->begin / SAMPLE_BLOCK; b < last; b++) {
        if (row->maxima[b] < least || !(row->maxima[b] > sample_worst(best)))
            continue;
        int end = row->end - b * SAMPLE_BLOCK < SAMPLE_BLOCK ? row->end : (b + 1) * SAMPLE_BLOCK;
        for (int i = b * SAMPLE_BLOCK; i < end; i++)
            if (row->logits[i] >= least && row->logits[i] > sample_worst(best))
                sample_add(best, (struct candidate){row->logits[i], row->ids ? row->ids[i] : i});
    }
}

int logits_best(const float *logits, int vocab, int n, struct candidate *best)
{
    enum { stretch = 1 << 16 };
    float maxima[stretch / SAMPLE_BLOCK];
    struct sample_best list = {.most = n};
    for (int at = 0; at < vocab; at += stretch) {
        int count = vocab - at < stretch ? vocab - at : stretch;
        struct sample_best part = {.most = n};
        kernels.sample.maxima(logits + at, 0, count, maxima);
        best_logits(&(struct sample_row){logits + at, NULL, maxima, 0, count}, &part);
        for (int i = 0; i < part.n; i++)
            sample_add(&list, (struct candidate){part.c[i].score, part.c[i].token + at});
    }
    memcpy(best, list.c, (size_t)list.n * sizeof *best);
    return list.n;
}

/* ---- cuts ---- */

/* The lowest key in low..high whose logit is in buckets 0..bucket of the range or, without a range,
 * has a score of at least `least`. Both are true from some key on, and for `high`. */
static int32_t lowest_key(const struct sample_cut *cut, const struct sample_range *range,
                          int32_t low, int32_t high, float least, int bucket)
{
    while (low < high) {
        int32_t middle = (int32_t)(((int64_t)low + high) >> 1);
        float x = sample_of_key(middle);
        bool holds = range ? sample_bucket(cut, range, x) <= bucket : sample_score(cut, x) >= least;
        if (holds)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* The lowest logit of a score of at least `least`. */
static float logit_of_score(const struct sample_cut *cut, float least)
{
    return sample_of_key(
        lowest_key(cut, NULL, sample_key(-INFINITY), sample_key(cut->top), least, 0));
}

/* The lowest logit in buckets 0..bucket. */
static float logit_of_bucket(const struct sample_cut *cut, const struct sample_range *range,
                             int bucket)
{
    return sample_of_key(
        lowest_key(cut, range, sample_key(range->low), sample_key(range->high), 0, bucket));
}

/* How buckets are laid over low..high; the last takes what lies below `near`. */
static void lay_buckets(const struct sample_cut *cut, struct sample_range *range, float near,
                        bool by_key)
{
    int64_t keys = (int64_t)sample_key(range->high) - sample_key(range->low);
    float scores = sample_score(cut, range->high) - sample_score(cut, fmaxf(range->low, near));
    float scale = (SAMPLE_BUCKETS - 1) / scores;
    range->by_key = by_key || !(scale < FLT_MAX);
    range->scale = scale;
    range->shift = 0;
    while (keys >> range->shift >= SAMPLE_BUCKETS)
        range->shift++;
}

/* Counts the slice and folds the copies together. */
static void count_slice(const struct sample_row *row, const struct sample_cut *cut,
                        const struct sample_range *range, struct sampler_lane *own, int turn)
{
    memset(own->counts, 0, sizeof own->counts);
    own->extent[turn][0] = INFINITY;
    own->extent[turn][1] = -INFINITY;
    kernels.sample.count(row, cut, range, own->counts, own->extent[turn]);
    for (int b = 0; b < SAMPLE_BUCKETS; b++) {
        uint64_t sum = 0;
        for (int j = 0; j < SAMPLE_COPIES; j++)
            sum += own->counts[b * SAMPLE_COPIES + j];
        own->sums[turn][b] = sum;
    }
}

/* A logit that is no larger than the kth largest of the slice, and close to it when k is small: one
 * that k blocks reach. Counting from there is enough to find the kth of the row. */
static float floor_of_slice(struct choosing *c, const struct sample_range *range, uint64_t k)
{
    struct sampler_lane *own = &c->lanes[c->lane->id];
    struct sample_row blocks = {.logits = c->row.maxima,
                                .begin = c->row.begin / SAMPLE_BLOCK,
                                .end = (c->row.end + SAMPLE_BLOCK - 1) / SAMPLE_BLOCK};
    count_slice(&blocks, &c->cut, range, own, c->turn);
    uint64_t reached = 0;
    for (int b = 0; b < SAMPLE_BUCKETS; b++)
        if ((reached += own->sums[c->turn][b]) >= k)
            return logit_of_bucket(&c->cut, range, b);
    return range->low;
}

/* The kept logits of all lanes by bucket. */
struct totals {
    uint64_t sums[SAMPLE_BUCKETS], all;
    float low, high; /* the least and the largest logit counted */
};

static void count_row(struct choosing *c, const struct sample_range *range, struct totals *t)
{
    int turn = c->turn;
    c->turn = 1 - turn;
    count_slice(&c->row, &c->cut, range, &c->lanes[c->lane->id], turn);
    lane_barrier(c->lane);
    *t = (struct totals){.low = INFINITY, .high = -INFINITY};
    for (int i = 0; i < c->lane->n; i++) {
        const struct sampler_lane *from = &c->lanes[i];
        for (int b = 0; b < SAMPLE_BUCKETS; b++)
            t->sums[b] += from->sums[turn][b];
        t->low = fminf(t->low, from->extent[turn][0]);
        t->high = fmaxf(t->high, from->extent[turn][1]);
    }
    for (int b = 0; b < SAMPLE_BUCKETS; b++)
        t->all += t->sums[b];
}

/* The cut falls among the logits equal to `edge`, in bucket b of the last count: the first that
 * make up `need` in the order of tokens stay. Each lane finds out which of them are its own. */
static void cut_ties(struct choosing *c, float edge, int b, uint64_t need, bool weighted)
{
    uint64_t each = weighted ? kernels.sample.mass(sample_score(&c->cut, edge)) : 1;
    uint64_t keep = (need + each - 1) / each, before = 0;
    for (int i = 0; i < c->lane->id; i++)
        before += c->lanes[i].sums[1 - c->turn][b] / each;
    uint64_t own = c->lanes[c->lane->id].sums[1 - c->turn][b] / each;
    uint64_t left = keep > before ? keep - before : 0;
    if (edge != c->cut.edge)
        c->cut.last = INT_MAX;
    c->cut.edge = edge;
    if (left == 0)
        c->cut.last = -1;
    else if (left < own)
        c->cut.last = kernels.sample.nth(&c->row, edge, (int)left);
}

/* Cuts after the best tokens that reach `need`, which the counts of `range` in `t` hold: looks into
 * the bucket where that happens with ever finer buckets, until all in it are equal. */
static void cut_at(struct choosing *c, struct sample_range range, struct totals *t, uint64_t need)
{
    for (int level = 1;; level++) {
        int b = 0;
        for (; t->sums[b] < need; b++)
            need -= t->sums[b];
        float low = logit_of_bucket(&c->cut, &range, b);
        if (b)
            range.high = sample_of_key(sample_key(logit_of_bucket(&c->cut, &range, b - 1)) - 1);
        range.low = fmaxf(low, t->low);
        range.high = fminf(range.high, t->high);
        if (range.low == range.high) {
            cut_ties(c, range.low, b, need, range.weighted);
            return;
        }
        lay_buckets(&c->cut, &range, range.low, level > 1);
        count_row(c, &range, t);
    }
}

/* Where the first buckets may end, so that flat logits don't all fall into one. */
static float near(const struct choosing *c)
{
    return c->usual < c->cut.top ? c->cut.top - 2 * (c->cut.top - c->usual) : -INFINITY;
}

static void cut_top_k(struct choosing *c)
{
    uint64_t k = (uint64_t)c->s->top_k;
    struct sample_range range = {.low = c->cut.edge, .high = c->cut.top};
    struct totals t;
    lay_buckets(&c->cut, &range, near(c), false);
    struct sample_range own = range;
    own.low = floor_of_slice(c, &range, k);
    count_row(c, &own, &t);
    if (t.all >= k)
        cut_at(c, range, &t, k);
}

static void cut_top_p(struct choosing *c)
{
    float weightless = logit_of_score(&c->cut, -WEIGHTLESS);
    struct sample_range range = {
        .low = fmaxf(c->cut.edge, weightless), .high = c->cut.top, .weighted = true};
    struct totals t;
    lay_buckets(&c->cut, &range, near(c), false);
    count_row(c, &range, &t);
    uint64_t need = (uint64_t)ceil((double)c->s->top_p * (double)t.all);
    cut_at(c, range, &t, need ? need : 1);
}

/* Keeps what temperature, min_p, top_k and top_p leave. */
static void cut(struct choosing *c, float top)
{
    const struct sampler *s = c->s;
    float least = fmaxf(-NEGLIGIBLE, s->min_p > 0 ? logf(s->min_p) : -INFINITY);
    c->cut = (struct sample_cut){
        .top = top, .inverse = fminf(1 / s->temperature, FLT_MAX), .last = INT_MAX};
    c->cut.edge = logit_of_score(&c->cut, least);
    if (s->top_k > 0)
        cut_top_k(c);
    if (s->top_p < 1)
        cut_top_p(c);
}

/* ---- the choice ---- */

static void draw(struct choosing *c, float top, struct sample_best *best)
{
    const struct sampler *s = c->s;
    uint64_t position = (uint64_t)(s->n_prompt + s->n_pushed);
    uint64_t a = rng_bits(s->seed, position, 0), b = rng_bits(s->seed, position, 1);
    uint32_t key[4] = {(uint32_t)a, (uint32_t)(a >> 32), (uint32_t)b, (uint32_t)(b >> 32)};
    cut(c, top);
    kernels.sample.draw(&c->row, &c->cut, key, best);
}

static bool is_bad(const struct sampler *s, int32_t token)
{
    int32_t bad[ENGINE_BAD_WORDS_MAX];
    bool found = false;
    for (int k = bans_now(s->bans, bad); k--;)
        found |= bad[k] == token;
    return found;
}

/* The lowest token that may follow when all are impossible. */
static int any_token(const struct choosing *c, int n_logits, const uint64_t *allowed,
                     int32_t *token)
{
    bool found = false;
    for (int i = 0; i < n_logits; i++) {
        int32_t t = c->row.ids ? c->row.ids[i] : i;
        if (!is_allowed(allowed, t) || (c->s->bans && !is_allowed(c->s->bans->allowed, t)))
            continue;
        bool banned = is_bad(c->s, t);
        for (int k = 0; bans_ends(c->s) && k < c->s->n_ends; k++)
            banned |= t == c->s->ends[k];
        if (!found || !banned)
            *token = t;
        found = true;
        if (!banned)
            break;
    }
    return found;
}

static float lowest_maximum(const struct sample_row *row)
{
    float lowest = INFINITY;
    for (int b = row->begin / SAMPLE_BLOCK; b * SAMPLE_BLOCK < row->end; b++)
        if (row->maxima[b] > -INFINITY && row->maxima[b] < lowest)
            lowest = row->maxima[b];
    return lowest;
}

static float join_tops(struct choosing *c)
{
    float top = -INFINITY;
    c->usual = INFINITY;
    for (int i = 0; i < c->lane->n; i++) {
        top = fmaxf(top, c->lanes[i].top);
        c->usual = fminf(c->usual, c->lanes[i].usual);
    }
    return top;
}

static void join_best(const struct choosing *c, int n, struct sample_best *best)
{
    *best = (struct sample_best){.most = n};
    for (int i = 0; i < c->lane->n; i++)
        for (int k = 0; k < c->lanes[i].best.n; k++)
            sample_add(best, c->lanes[i].best.c[k]);
}

int sampler_sample(struct lane *lane, const struct sampler *s, float *logits, int n_logits,
                   const int32_t *ids, const uint64_t *allowed, int n, int32_t *tokens,
                   struct sampler_work *work)
{
    const uint64_t *own_set = s->bans ? s->bans->allowed : NULL;
    struct choosing c = {.s = s,
                         .lane = lane,
                         .lanes = work->lanes,
                         .logits = allowed || own_set ? work->row : logits,
                         .row = {.ids = ids, .maxima = work->maxima}};
    struct sampler_lane *own = &work->lanes[lane->id];
    struct sample_best best;
    assert(n >= 1 && n <= SAMPLER_RANKS_MAX);
    lane_share(lane, n_logits, SAMPLE_BLOCK, &c.row.begin, &c.row.end);
    c.row.logits = c.logits;
    struct sampler_undo *undo = work->undo + c.row.begin + lane->id * UNDO_MORE;
    if (allowed)
        mask(&c, logits, allowed);
    if (own_set)
        mask(&c, allowed ? c.logits : logits, own_set);
    int changes = rescore(&c, undo);
    own->top = kernels.sample.maxima(c.logits, c.row.begin, c.row.end, work->maxima);
    own->best = (struct sample_best){.most = n};
    if (s->temperature <= 0)
        best_logits(&c.row, &own->best);
    else
        own->usual = lowest_maximum(&c.row);
    lane_barrier(lane);
    float top = join_tops(&c);
    if (s->temperature > 0 && top > -INFINITY) {
        draw(&c, top, &own->best);
        lane_barrier(lane);
    }
    join_best(&c, n, &best);
    restore(&c, undo, changes);
    if (top == -INFINITY)
        best.n = any_token(&c, n_logits, allowed, &best.c[0].token);
    for (int i = 0; lane->id == 0 && i < best.n; i++)
        tokens[i] = best.c[i].token;
    lane_barrier(lane);
    return best.n;
}
