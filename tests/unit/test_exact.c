/* The first promise, as a property: whatever the drafts (chains, trees, look-up, as many as pay),
 * the batch mates, the chunks in which the prompt is read, the pages there are and who else reads
 * them, the threads and the kernels, a request's tokens, log-probabilities and text are bit for bit
 * those of plain decoding, alone, on one thread.
 *
 * Models: for each kind of heads tiny ones that are trained here for a moment on a small language,
 * so that drafts are sometimes right and sometimes wrong; the demo model; GGUF models of random
 * weights, and a public one where it is there. */
#include "tests/unit/unit.h"

#include "base/clock.h"
#include "base/rng.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "model/gemm.h"
#include "tests/unit/gguf_model.h"
#include "text/regex.h"
#include "train/checkpoint.h"
#include "train/frozen.h"
#include "train/trainer.h"

#define SLOTS 5
#define ANSWER 40
#define TOPS 4
#define PROMPT_MOST 160
#define CONTEXT 192

/* Cases of a setting: this many, or as many as fit into its time, but never fewer than the least.
 * CASES in the environment sets the number, whatever time it takes. */
#define CASES_MOST 1000
#define CASES_LEAST 16
#define SETTING_SECONDS 2.5

static int cases_wanted(void)
{
    const char *asked = getenv("CASES");
    return asked ? atoi(asked) : CASES_MOST;
}

static bool time_is_up(double start, double seconds, int cases)
{
    return !getenv("CASES") && cases >= CASES_LEAST && clock_seconds() - start > seconds;
}

/* ---- random requests ---- */

struct dice {
    uint64_t seed, count;
};

static int roll(struct dice *d, int n)
{
    return (int)rng_below(d->seed, 7, d->count++, (uint64_t)n);
}

static float real(struct dice *d, float low, float high)
{
    return low + (high - low) * (float)rng_uniform(d->seed, 8, d->count++);
}

struct example {
    struct engine_request r;
    int32_t tokens[PROMPT_MOST];
    char stop[8];
    const char *stops[1];
    size_t stop_lens[1];
    struct engine_bias bias[2];
};

static const char *const words[] = {"int ",  "x = ",   "return ", "the ", "a",    ";\n",
                                    "if (",  ") {\n",  "}\n",     "cat ", "sat ", "on ",
                                    "mat\n", "while ", "0",       "1",    " + ",  "def "};
#define WORDS (int)(sizeof words / sizeof *words)

/* Text of a small language: pairs of words that often follow each other. */
static size_t babble(struct dice *d, unsigned char *to, size_t size)
{
    size_t n = 0;
    int w = roll(d, WORDS);
    while (n + 16 < size) {
        n += (size_t)sprintf((char *)to + n, "%s", words[w]);
        w = roll(d, 4) ? (w + 1) % WORDS : roll(d, WORDS);
    }
    return n;
}

/* Tokens with which some prompts of a batch begin. */
struct beginning {
    int32_t tokens[PROMPT_MOST];
    int n;
};

static void beginning_make(struct beginning *b, struct dice *d)
{
    unsigned char text[PROMPT_MOST];
    size_t n = babble(d, text, sizeof text);
    b->n = roll(d, 3) ? 0 : KV_PAGE + roll(d, 32);
    b->tokens[0] = BYTE_TOKEN_END;
    for (int i = 1; i < b->n; i++)
        b->tokens[i] = (size_t)i < n ? text[i] : roll(d, 256);
}

static void prompt_make(struct example *e, struct dice *d, const struct beginning *begin)
{
    unsigned char text[80];
    size_t n = 1 + (size_t)roll(d, 60), have = babble(d, text, sizeof text), at = 0;
    e->tokens[0] = BYTE_TOKEN_END;
    if (begin && roll(d, 4)) {
        memcpy(e->tokens, begin->tokens, (size_t)begin->n * sizeof *e->tokens);
        at = (size_t)begin->n;
    }
    for (size_t i = at ? 0 : 1; i < n; i++)
        e->tokens[at + i] = i < have ? text[i] : roll(d, 256);
    e->r.tokens = e->tokens;
    e->r.n_tokens = at + n;
}

/* A way to speculate. */
static void speculation_make(struct engine_request *r, struct dice *d, int heads)
{
    static const unsigned drafters[] = {0,
                                        DRAFT_HEADS,
                                        DRAFT_LOOKUP,
                                        DRAFT_HEADS | DRAFT_TREE,
                                        DRAFT_HEADS | DRAFT_LOOKUP | DRAFT_TREE,
                                        DRAFT_LOOKUP | DRAFT_TREE};
    r->drafters = drafters[roll(d, 6)];
    r->speculation = roll(d, 4) == 0                             ? SPECULATION_AUTO
                     : r->drafters & (DRAFT_TREE | DRAFT_LOOKUP) ? roll(d, ENGINE_DRAFTS_MAX + 1)
                                                                 : roll(d, heads);
}

static void stop_make(struct example *e, struct dice *d)
{
    static const char *const stops[] = {"e", "t",   "a",     "x",     " ",
                                        ";", "cat", "x = 0", "sat o", "if (a"};
    e->stops[0] = strcpy(e->stop, stops[roll(d, 10)]);
    e->stop_lens[0] = strlen(e->stop);
    e->r.stops = e->stops;
    e->r.stop_lens = e->stop_lens;
    e->r.n_stops = 1;
}

/* What some answers must look like. */
static const char *const expressions[] = {
    "[a-z ]{5,30}",
    "(the |a )?(cat |mat |int x = [0-9]{1,3};\\n)+(sat|on|\\.)",
    "\\{\"a\": -?[0-9]{1,9}(, \"b\": \"[^\"\\\\]{0,12}\")?\\}",
    ".{0,20}|[\\s\\S]{25,}",
    "(a|b|ab|ba){3,40}c?",
    "((if \\(x\\) )?\\{\\n|\\}\\n|x = [01];\\n){2,9}",
};
#define EXPRESSIONS (int)(sizeof expressions / sizeof *expressions)
static struct automaton *grammars[EXPRESSIONS];

static int compile_grammars(void **state)
{
    struct err err;
    (void)state;
    for (int i = 0; i < EXPRESSIONS; i++)
        assert_ok(regex_compile(expressions[i], strlen(expressions[i]), &grammars[i], &err), err);
    return 0;
}

static int release_grammars(void **state)
{
    (void)state;
    for (int i = 0; i < EXPRESSIONS; i++)
        automaton_release(grammars[i]);
    return 0;
}

static void example_make(struct example *e, struct dice *d, int vocab, int heads,
                         const struct beginning *begin)
{
    memset(e, 0, sizeof *e);
    bool greedy = roll(d, 2);
    e->r = (struct engine_request){
        .max_tokens = roll(d, ANSWER + 1),
        .temperature = greedy ? 0 : real(d, 0.2f, 1.5f),
        .top_p = roll(d, 2) ? 1 : real(d, 0.1f, 1),
        .top_k = roll(d, 2) ? 0 : 1 + roll(d, 40),
        .min_p = roll(d, 3) ? 0 : real(d, 0, 0.3f),
        .repetition_penalty = roll(d, 5) ? 1 : real(d, 0.8f, 1.5f),
        .frequency_penalty = roll(d, 5) ? 0 : real(d, -1, 1),
        .presence_penalty = roll(d, 5) ? 0 : real(d, -1, 1),
        .seed = (uint64_t)roll(d, 1000000),
        .client = (uint64_t)roll(d, 3),
        .ignore_eos = roll(d, 2),
        .logprobs = roll(d, 4) != 0,
        .top_logprobs = roll(d, 3) ? 0 : roll(d, TOPS + 1),
        .prompt_logprobs = roll(d, 6) == 0,
    };
    prompt_make(e, d, begin);
    speculation_make(&e->r, d, heads);
    e->r.min_tokens = roll(d, 4) || !e->r.max_tokens ? 0 : roll(d, e->r.max_tokens);
    if (roll(d, 4) == 0)
        stop_make(e, d);
    if (roll(d, 6) == 0) {
        e->bias[0] = (struct engine_bias){roll(d, vocab), real(d, -5, 5)};
        e->r.biases = e->bias;
        e->r.n_biases = 1;
    }
    if (roll(d, 3) == 0)
        e->r.grammar = grammars[roll(d, EXPRESSIONS)];
}

/* ---- answers ---- */

struct answer {
    struct engine_token token[ANSWER]; /* zero where nothing was asked for */
    float prompt[PROMPT_MOST];
    struct buf text;
    int n;
    enum engine_finish finish;
    uint64_t accepted;
};

static void answer_collect(struct answer *a, struct sequence *q)
{
    for (int i = 0; i < q->n_fresh; i++) {
        struct engine_token *t = &a->token[a->n++];
        assert_true(a->n <= ANSWER);
        t->token = q->fresh[i].token;
        t->logprob = q->fresh[i].logprob;
        t->n_top = q->fresh[i].n_top;
        memcpy(t->top, q->fresh[i].top, (size_t)t->n_top * sizeof *t->top);
    }
    buf_append(&a->text, q->out.data ? q->out.data : "", q->out.len);
    if (q->prompt_ready)
        for (int i = 0; i < q->n_prompt; i++)
            a->prompt[i] = q->prompt[i].logprob;
    a->finish = q->finish;
    a->accepted = q->figures.accepted;
}

/* A scheduler with all that it stands on. */
struct rig {
    struct runtime runtime;
    struct scheduler s;
};

static void rig_init(struct rig *rig, struct runtime_options ro, struct scheduler_options so)
{
    struct err err;
    ro.context = so.context;
    assert_ok(runtime_init(&rig->runtime, &ro, &err), err);
    assert_ok(scheduler_init(&rig->s, &rig->runtime, &so, &err), err);
}

static void rig_release(struct rig *rig)
{
    scheduler_release(&rig->s);
    runtime_release(&rig->runtime);
}

/* No draft is proposed that could not come. */
static void assert_drafts_allowed(struct sequence *q)
{
    const struct proposal *p = &q->proposal;
    for (int j = 0; j < p->n && q->sampler.matcher; j++) {
        int32_t path[DRAFTS_MAX];
        for (int node = j; node >= 0; node = p->parent[node])
            path[p->depth[node] - 1] = p->token[node];
        assert_int_equal(matcher_admits(q->sampler.matcher, path, p->depth[j]), p->depth[j]);
    }
}

/* The answer is in its grammar, or the beginning of what is. */
static void assert_structure(const struct tokenizer *tokenizer, const struct example *e,
                             const struct answer *a)
{
    struct positions p;
    struct err err;
    int n_ends;
    const int32_t *ends = tokenizer_ends(tokenizer, &n_ends);
    if (!e->r.grammar)
        return;
    assert_ok(positions_init(&p, e->r.grammar, &err), err);
    int32_t at = positions_start(&p), before = e->tokens[e->r.n_tokens - 1];
    for (int i = 0; i < a->n; i++) {
        int32_t token = a->token[i].token;
        size_t len;
        const char *bytes = tokenizer_bytes(tokenizer, before, token, &len);
        for (size_t k = 0; k < len; k++)
            at = at < 0 ? at : positions_step(&p, at, (uint8_t)bytes[k]);
        assert_true(at >= 0);
        for (int k = 0; k < n_ends; k++)
            assert_true(token != ends[k] || positions_accepts(&p, at));
        before = token;
    }
    assert_true(a->finish != FINISH_STOP || e->r.n_stops || positions_accepts(&p, at));
    positions_release(&p);
}

/* Moves every sequence one step on; the answers of finished ones are complete then. */
static void step(struct scheduler *s, struct answer **by_slot, int *left)
{
    scheduler_step(s);
    for (int i = 0; i < s->max_sequences; i++) {
        struct sequence *q = &s->sequences[i];
        if (!q->active)
            continue;
        assert_drafts_allowed(q);
        if (by_slot[i])
            answer_collect(by_slot[i], q);
        sequence_collected(q);
        if (q->finish) {
            scheduler_remove(s, i);
            by_slot[i] = NULL;
            --*left;
        }
    }
}

/* The slot, or ERR_BUSY. */
static int add(struct scheduler *s, const struct engine_request *r)
{
    struct err err;
    assert_ok(request_check(r, s->runtime->model.config.vocab, s->context, &err), err);
    int slot = scheduler_add(s, r, &err);
    assert_true(slot >= 0 || slot == ERR_BUSY);
    return slot;
}

static void alone(struct scheduler *s, const struct example *e, struct answer *a)
{
    struct engine_request plain = e->r;
    struct answer *by_slot[SLOTS] = {NULL};
    int left = 1;
    plain.speculation = 0;
    by_slot[add(s, &plain)] = a;
    while (left)
        step(s, by_slot, &left);
}

static void assert_same(const struct answer *a, const struct answer *b, const struct example *e)
{
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->finish, b->finish);
    assert_memory_equal(a->token, b->token, (size_t)a->n * sizeof *a->token);
    assert_int_equal(a->text.len, b->text.len);
    if (a->text.len)
        assert_memory_equal(a->text.data, b->text.data, a->text.len);
    if (e->r.prompt_logprobs) /* the first is NaN, of the same bits */
        assert_memory_equal(a->prompt, b->prompt, e->r.n_tokens * sizeof *a->prompt);
}

/* ---- the property ---- */

struct totals {
    int cases;
    uint64_t tokens, accepted, side, preemptions, reused, structured, structured_accepted;
};

static const char *const isas[] = {KERNELS_NAMES};
#define ISAS (int)(sizeof isas / sizeof *isas)

/* A mate that goes away in the middle. */
static void mate_comes_and_goes(struct scheduler *s, struct dice *d, const struct beginning *begin,
                                struct answer **by_slot, int *left)
{
    struct example mate;
    const struct config *c = &s->runtime->model.config;
    example_make(&mate, d, c->vocab, c->n_predict, begin);
    int slot = add(s, &mate.r);
    if (slot < 0)
        return;
    uint64_t age = s->sequences[slot].age;
    ++*left;
    for (int i = roll(d, 4); i > 0 && s->sequences[slot].active; i--)
        step(s, by_slot, left);
    if (s->sequences[slot].active && s->sequences[slot].age == age) {
        scheduler_remove(s, slot);
        --*left;
    }
}

/* Requests that come and go at random, some of them cancelled. */
static void run_batch(struct scheduler *s, struct dice *d, const struct example *e, int n,
                      const struct beginning *begin, struct answer *got)
{
    struct answer *by_slot[SLOTS] = {NULL};
    int started = 0, left = 0;
    s->prompt_chunk = 1 + roll(d, 32);
    while (started < n || left) {
        if (started < n && (left == 0 || roll(d, 3) == 0)) {
            int slot = add(s, &e[started].r);
            if (slot >= 0) {
                by_slot[slot] = &got[started];
                started++;
                left++;
            }
        }
        if (left && roll(d, 12) == 0 && n < SLOTS)
            mate_comes_and_goes(s, d, begin, by_slot, &left);
        step(s, by_slot, &left);
    }
    assert_int_equal(s->pool.n_free + s->pool.n_idle, s->pool.n_pages);
}

/* Against the same requests alone. */
static void batch_case(struct scheduler *plain, struct scheduler *s, struct dice *d,
                       const char *isa, bool no_generic, struct totals *t)
{
    static struct example e[SLOTS];
    static struct answer want[SLOTS], got[SLOTS];
    const struct config *c = &s->runtime->model.config;
    static struct beginning begin;
    int n = roll(d, 3) ? 1 + roll(d, SLOTS) : SLOTS;
    memset(want, 0, sizeof want);
    memset(got, 0, sizeof got);
    if (roll(d, 2)) /* else ended texts began like these */
        beginning_make(&begin, d);
    for (int i = 0; i < n; i++) {
        example_make(&e[i], d, c->vocab, c->n_predict, begin.n ? &begin : NULL);
        assert_int_equal(kernels_init("auto", NULL), 0);
        alone(plain, &e[i], &want[i]);
    }
    /* Not every processor has every path; those it has give the same bits. The generic one is slow.
     */
    if (!isa)
        isa = isas[!no_generic && roll(d, 12) == 0 ? 0 : 1 + roll(d, ISAS - 1)];
    if (kernels_init(isa, NULL))
        assert_int_equal(kernels_init("auto", NULL), 0);
    uint64_t preemptions = s->preemptions, reused = s->reused_tokens;
    run_batch(s, d, e, n, &begin, got);
    t->preemptions += s->preemptions - preemptions;
    t->reused += s->reused_tokens - reused;
    for (int i = 0; i < n; i++) {
        assert_same(&want[i], &got[i], &e[i]);
        assert_structure(s->runtime->tokenizer, &e[i], &got[i]);
        t->cases++;
        t->tokens += (uint64_t)got[i].n;
        t->accepted += got[i].accepted;
        t->structured += e[i].r.grammar != NULL;
        t->structured_accepted += e[i].r.grammar ? got[i].accepted : 0;
        buf_release(&want[i].text);
        buf_release(&got[i].text);
    }
}

/* Stale keys and values in heads would change no text, only lose acceptance: drafts in the middle
 * of an answer must be those of a fresh sequence whose prompt is all that was committed. Returns
 * how many drafts were compared. Greedy, so that nothing depends on what counts as prompt. */
static int drafts_case(struct scheduler *fresh, struct scheduler *s, struct dice *d)
{
    struct answer *by_slot[SLOTS] = {NULL};
    const struct config *c = &s->runtime->model.config;
    struct engine_request greedy = {.max_tokens = ANSWER,
                                    .top_p = 1,
                                    .repetition_penalty = 1,
                                    .ignore_eos = true,
                                    .drafters = DRAFT_HEADS};
    int left = 0, compared = 0;
    for (int i = 1 + roll(d, SLOTS); i > 0; i--) {
        struct example e;
        struct engine_request r = greedy;
        example_make(&e, d, c->vocab, c->n_predict, NULL);
        r.tokens = e.tokens;
        r.n_tokens = e.r.n_tokens;
        r.speculation = 1 + roll(d, c->n_predict - 1);
        if (roll(d, 3) == 0)
            r.drafters |= DRAFT_TREE;
        left += add(s, &r) >= 0;
    }
    s->prompt_chunk = 1 + roll(d, 32);
    while (left) {
        step(s, by_slot, &left);
        const struct sequence *q = &s->sequences[roll(d, SLOTS)];
        if (!q->active || !q->candidates.heads || !q->proposal.n || roll(d, 4))
            continue;
        struct engine_request r = greedy;
        r.tokens = q->tokens;
        r.n_tokens = (size_t)q->n_cached;
        r.max_tokens = ANSWER;
        r.speculation = q->candidates.heads;
        int slot = add(fresh, &r), heads = q->candidates.heads;
        do
            scheduler_step(fresh);
        while (sequence_prefills(&fresh->sequences[slot]));
        const struct candidates *f = &fresh->sequences[slot].candidates;
        assert_int_equal(f->heads, heads);
        for (int i = 0; i < heads; i++)
            assert_int_equal(f->token[i][0], q->candidates.token[i][0]);
        compared += heads;
        scheduler_remove(fresh, slot);
    }
    return compared;
}

/* Half of the cases have keys and values in bf16, half in f32; half of the batches have pages for
 * little more than one sequence. */
struct setting {
    const char *folder, *heads, *weights, *isa; /* heads: apart, or NULL; isa: NULL for any */
    const char *name;                           /* NULL: the kind of heads */
    bool no_heads;                              /* only look-up drafts */
    bool no_generic;                            /* the path that is too slow for a large model */
    int draft_vocabulary;                       /* heads draft that many tokens only; 0 = all */
    double seconds;
};

static void limit_drafts(struct rig *rig, int n)
{
    int32_t ids[1024];
    struct err err;
    for (int i = 0; i < n; i++)
        ids[i] = i < 200 ? i + 10 : i < 230 ? i + 20 : 4 * i; /* and what no text has */
    if (n)
        assert_ok(model_draft_vocabulary(&rig->runtime.model, ids, n, &err), err);
}

static void property(const struct setting *set, uint64_t seed)
{
    enum { PLAIN, ONE, TWO, SMALL, RIGS };
    static struct rig rigs[RIGS];
    static const char *const kv[] = {"bf16", "f32"};
    struct dice d = {seed, 0};
    struct totals t = {0};
    const char *kind = "";
    struct err err;
    int drafts = 0, wanted = cases_wanted();
    for (int i = 0; i < 2; i++) {
        struct runtime_options ro = {
            .model = set->folder, .heads = set->heads, .weights = set->weights};
        for (int j = 0; j < RIGS; j++) {
            ro.threads = j == TWO || j == SMALL ? 2 : 1;
            struct scheduler_options so = {.context = CONTEXT,
                                           .max_sequences = j == PLAIN   ? 1
                                                            : j == SMALL ? SLOTS - 2
                                                                         : SLOTS,
                                           .spare = j == SMALL ? 2 : 0, /* who takes turns */
                                           .prompt_chunk = 128,
                                           .kv_kept = j == ONE ? 0 : SIZE_MAX,
                                           .kv = kv[i]};
            if (j == SMALL)
                so.kv_limit =
                    rigs[ONE].s.pool.page_bytes * (size_t)(kv_pages(CONTEXT) + roll(&d, 2));
            rig_init(&rigs[j], ro, so);
            limit_drafts(&rigs[j], set->draft_vocabulary);
        }
        kind = head_kind_name(rigs[PLAIN].runtime.model.config.kind);
        double start = clock_seconds();
        while (t.cases < wanted * (i + 1) / 2 &&
               !time_is_up(start, set->seconds / 2, t.cases - i * CASES_LEAST / 2))
            batch_case(&rigs[PLAIN].s, &rigs[roll(&d, 2) ? SMALL : ONE + roll(&d, 2)].s, &d,
                       set->isa, set->no_generic, &t);
        assert_ok(kernels_init("auto", &err), err);
        for (int j = 0; j < 2 + t.cases / 40 && !set->no_heads; j++)
            drafts += drafts_case(&rigs[PLAIN].s, &rigs[ONE + roll(&d, 3)].s, &d);
        for (int j = 0; j < RIGS; j++)
            rig_release(&rigs[j]);
    }
    printf("%s, %s weights, %s kernels: %d cases identical, %llu tokens, of which %llu were "
           "accepted drafts; %llu of the cases with a grammar, %llu drafts accepted there; %llu "
           "preemptions, %llu prompt tokens reused; %d drafts as fresh ones\n",
           set->name ? set->name : kind, set->weights, set->isa ? set->isa : "all", t.cases,
           (unsigned long long)t.tokens, (unsigned long long)t.accepted,
           (unsigned long long)t.structured, (unsigned long long)t.structured_accepted,
           (unsigned long long)t.preemptions, (unsigned long long)t.reused, drafts);
    assert_true(t.cases >= CASES_LEAST || t.cases >= wanted);
    assert_true(drafts > 0 || t.cases < 100 || set->no_heads); /* else nothing was tested */
    assert_true((t.preemptions > 0 && t.reused > 0) || t.cases < 900);
    assert_true(t.accepted > t.tokens / 50 || t.cases < 100);
    assert_true(t.accepted < t.tokens);
}

/* Prompts and answers of which most lies behind the first thousand positions. */
static void long_case(struct rig *plain, struct rig *rig, struct dice *d, struct totals *t)
{
    enum { LONG = 1100, MORE = 120 };
    static int32_t tokens[LONG];
    struct engine_request r = {.tokens = tokens,
                               .n_tokens = (size_t)(LONG - roll(d, 200)),
                               .max_tokens = MORE,
                               .top_p = 1,
                               .repetition_penalty = roll(d, 3) ? 1 : 1.1f,
                               .temperature = roll(d, 2) ? 0 : 0.7f,
                               .ignore_eos = true,
                               .seed = (uint64_t)roll(d, 1000)};
    int32_t want[MORE];
    for (int i = 0; i < LONG;) {
        unsigned char text[80];
        size_t n = babble(d, text, sizeof text);
        for (size_t j = 0; j < n && i < LONG; j++)
            tokens[i++] = text[j];
    }
    for (int pass = 0; pass < 2; pass++) {
        struct scheduler *s = pass ? &rig->s : &plain->s;
        struct err err;
        if (pass)
            speculation_make(&r, d, s->runtime->model.config.n_predict);
        int slot = scheduler_add(s, &r, &err);
        struct sequence *q = &s->sequences[slot];
        assert_true(slot >= 0);
        s->prompt_chunk = 1 + roll(d, 200);
        while (!q->finish) {
            scheduler_step(s);
            sequence_collected(q);
        }
        assert_int_equal(q->n_tokens, r.n_tokens + MORE);
        if (pass)
            assert_memory_equal(q->tokens + r.n_tokens, want, sizeof want);
        memcpy(want, q->tokens + r.n_tokens, sizeof want);
        t->accepted += q->figures.accepted;
        scheduler_remove(s, slot);
    }
    t->cases++;
    t->tokens += MORE;
}

/* A shape of a tiny model. */
struct shape_of {
    int dim, heads, kv_heads, vocab;
};

/* Trains a tiny model until some drafts are right. */
static void train_tiny(const char *folder, enum head_kind kind, struct shape_of shape, int heads,
                       int head_layers)
{
    static struct trainer t;
    struct team team;
    struct err err;
    struct config c = {.dim = shape.dim,
                       .n_layers = 2,
                       .n_heads = shape.heads,
                       .n_kv_heads = shape.kv_heads,
                       .hidden = 3 * shape.dim / 2 / 16 * 16 + 16,
                       .vocab = shape.vocab ? shape.vocab : BYTE_VOCAB,
                       .context = 64,
                       .norm_eps = 1e-5f,
                       .rope_theta = 10000,
                       .kind = kind,
                       .n_predict = heads,
                       .head_layers = head_layers,
                       .bos = BYTE_TOKEN_END,
                       .eos = BYTE_TOKEN_END};
    struct schedule schedule = {.rate = 5e-3,
                                .final_rate = 0.1,
                                .beta1 = 0.9,
                                .beta2 = 0.95,
                                .decay = 0.1,
                                .clip = 1,
                                .warmup = 10,
                                .steps = shape.vocab ? 60 : 150};
    struct dice d = {99, 0};
    unsigned char text[256];
    int32_t window[256];
    assert_ok(config_check(&c, &err), err);
    assert_ok(kernels_init("auto", &err), err);
    assert_ok(gemm_init("f32", &err), err);
    grad_kernels_init();
    assert_ok(team_init(&team, 1, &err), err);
    assert_ok(trainer_init(&t, &c, 4, 5, &team, &err), err);
    for (int i = 0; i < schedule.steps; i++) {
        for (int b = 0; b < 4; b++) {
            size_t n = babble(&d, text, 64 + HEADS_MAX + 32);
            window[0] = BYTE_TOKEN_END;
            for (size_t j = 0; j + 1 < 256; j++)
                window[j + 1] = j < n ? text[j] : ' ';
            trainer_window(&t, b, window);
        }
        trainer_step(&t, &schedule, i);
    }
    assert_ok(checkpoint_export(&t, folder, heads % 2 ? DTYPE_F32 : DTYPE_BF16, &err), err);
    trainer_release(&t);
    team_release(&team);
}

static const struct shape_of small = {.dim = 32, .heads = 2, .kv_heads = 1};

/* One with nothing to speculate with but look-up must work as well. */
static void without_heads(const char *folder, enum head_kind kind, int head_layers)
{
    struct setting set = {.folder = folder, .weights = "stored", .seconds = 1};
    train_tiny(folder, kind, small, 1, head_layers);
    set.no_heads = true;
    property(&set, 4);
}

static void test_kind(void **state)
{
    enum head_kind kind = *(enum head_kind *)*state;
    bool layers = head_kind_tensors(kind) == HEAD_LAYERS;
    struct folder folder;
    printf("%s heads\n", head_kind_name(kind));
    folder_make(&folder);
    struct setting set = {.folder = folder.path, .weights = "stored", .seconds = SETTING_SECONDS};
    train_tiny(folder.path, kind, small, 4, layers);
    property(&set, 1);
    if (head_kind_tensors(kind) != HEAD_UNEMBEDDING) {
        set.draft_vocabulary = 230;
        property(&set, 5);
        set.draft_vocabulary = 0;
    }
    train_tiny(folder.path, kind, small, 7, layers ? 2 : 0);
    property(&set, 2);
    without_heads(folder.path, kind, layers);
    folder_remove(&folder);
}

static void test_demo(void **state)
{
    (void)state;
    property(&(struct setting){.folder = "weights/demo",
                               .weights = "stored",
                               .seconds = 4 * SETTING_SECONDS},
             3);
}

/* So many tokens that lanes share a row, or rows. */
static void test_large_vocabulary(void **state)
{
    struct shape_of shape = {.dim = 32, .heads = 2, .kv_heads = 2, .vocab = 20011};
    struct folder folder;
    (void)state;
    folder_make(&folder);
    struct setting set = {.folder = folder.path, .weights = "bf16", .seconds = 2 * SETTING_SECONDS};
    train_tiny(folder.path, HEAD_LINEAR, shape, 4, 0);
    property(&set, 6);
    set.draft_vocabulary = 1000;
    property(&set, 7);
    train_tiny(folder.path, HEAD_CAUSAL, shape, 3, 1);
    property(&set, 8);
    folder_remove(&folder);
}

/* Every type of weights on every path, with several sizes of heads, also such as make widths that
 * are not whole groups of quantised weights. */
static void test_types(void **state)
{
    static const char *const types[] = {"f32", "bf16", "q8", "q4"};
    static const struct shape_of shapes[] = {{16, 1, 1, 0}, {48, 3, 1, 0}, {64, 2, 2, 0},
                                             {96, 2, 1, 0}, {64, 4, 2, 0}, {80, 1, 1, 0}};
    struct folder folder;
    struct err err;
    (void)state;
    folder_make(&folder);
    for (int i = 0; i < 4 * ISAS; i++) {
        if (kernels_init(isas[i % ISAS], &err)) {
            printf("%s\n", err.text);
            continue;
        }
        enum head_kind kind = (enum head_kind)((i + i / ISAS) % HEAD_KINDS_WHOLE);
        train_tiny(folder.path, kind, shapes[i % 6], 4, head_kind_tensors(kind) == HEAD_LAYERS);
        property(&(struct setting){.folder = folder.path,
                                   .weights = types[i / ISAS],
                                   .isa = isas[i % ISAS],
                                   .seconds = SETTING_SECONDS},
                 (uint64_t)(10 + i));
    }
    folder_remove(&folder);
}

/* Models of GGUF files as they are: every architecture, mixtures of types, vocabularies of real
 * sizes; without heads, so that drafts come from look-up. */
static const struct gguf_shape public_shapes[] = {
    {"llama", 64, 2, 4, 2, 16, 96, 49152, WEIGHT_Q8, WEIGHT_TYPES, WEIGHT_Q4_1, WEIGHT_Q4_1,
     WEIGHT_Q4_1, WEIGHT_Q4_1, WEIGHT_Q4_1, WEIGHT_Q4_1, WEIGHT_Q4_1},
    {"qwen2", 32, 2, 2, 1, 32, 64, 151936, WEIGHT_Q5_0, WEIGHT_Q8, WEIGHT_Q5_0, WEIGHT_Q5_0,
     WEIGHT_Q8, WEIGHT_Q5_1, WEIGHT_Q4, WEIGHT_Q5_1, WEIGHT_F16},
    {"qwen3", 256, 1, 2, 1, 48, 256, 49152, WEIGHT_Q4_K, WEIGHT_Q6_K, WEIGHT_Q4_K, WEIGHT_Q5_K,
     WEIGHT_Q6_K, WEIGHT_Q8, WEIGHT_Q2_K, WEIGHT_Q3_K, WEIGHT_Q6_K}};

static void test_public_shapes(void **state)
{
    static const char *const names[] = {"random llama", "random qwen2", "random qwen3"};
    struct folder folder;
    (void)state;
    folder_make(&folder);
    for (int i = 0; i < 3; i++) {
        const char *path = folder_file(&folder, "random.gguf");
        gguf_model_write(path, &public_shapes[i], (uint64_t)(i + 1));
        property(&(struct setting){.folder = path,
                                   .name = names[i],
                                   .weights = "stored",
                                   .no_heads = true,
                                   .seconds = 2 * SETTING_SECONDS},
                 (uint64_t)(60 + i));
    }
    folder_remove(&folder);
}

/* Heads of one kind for a trunk, hardly trained. */
static void heads_for(const char *path, const char *folder, enum head_kind kind, int heads,
                      int n_ids)
{
    static struct trainer t;
    static struct model trunk;
    struct team team;
    struct err err;
    struct config c = {0};
    struct schedule schedule = {
        .rate = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .clip = 1, .warmup = 1, .steps = 3};
    struct dice d = {5, 0};
    int32_t ids[1000], tokens[2][40];
    assert_ok(kernels_init("auto", &err), err);
    assert_ok(gemm_init("f32", &err), err);
    grad_kernels_init();
    assert_ok(team_init(&team, 1, &err), err);
    assert_ok(model_open(&trunk, path, NULL, WEIGHT_STORED, 64, &team, &err), err);
    assert_ok(frozen_config(&c, &trunk, kind, heads, 1, 40, &err), err);
    if (heads % 2 && c.dim > 32) { /* some read what enters its second layer too */
        c.n_aux = 1;
        c.aux_layers[0] = 1;
        c.fuse_next = kind != HEAD_RECURRENT;
    }
    if (heads % 2)
        c.hidden = heads > 4 ? 2 * c.hidden : 48;
    c.bigram = kind != HEAD_RECURRENT && heads > 2;
    c.prefix_layer = kind == HEAD_LINEAR || kind == HEAD_CAUSAL;
    for (int i = 0; i < n_ids; i++)
        ids[i] = i * (c.vocab / n_ids);
    assert_ok(trainer_init_frozen(&t, &c, &trunk, &(struct draft_targets){ids, n_ids, true}, 2, 5,
                                  &team, &err),
              err);
    for (int i = 0; i < schedule.steps; i++) {
        struct sample samples[2] = {{tokens[0], 40, 3}, {tokens[1], 21, 0}};
        for (int j = 0; j < 80; j++)
            tokens[j / 40][j % 40] = roll(&d, c.vocab);
        trainer_samples(&t, samples, 2);
        trainer_step(&t, &schedule, i);
    }
    assert_ok(checkpoint_export(&t, folder, DTYPE_BF16, &err), err);
    trainer_release(&t);
    model_release(&trunk);
    team_release(&team);
}

/* Heads apart from their trunk. */
static void test_apart(void **state)
{
    static const enum head_kind kinds[] = {HEAD_RECURRENT, HEAD_LINEAR, HEAD_RECURRENT,
                                           HEAD_PARALLEL, HEAD_CAUSAL};
    struct folder folder, heads;
    (void)state;
    folder_make(&folder);
    folder_make(&heads);
    for (int i = 0; i < 5; i++) {
        const char *path = folder_file(&folder, "random.gguf");
        gguf_model_write(path, &public_shapes[i % 3], (uint64_t)(i + 1));
        heads_for(path, heads.path, kinds[i], 2 + i, i % 2 ? 1000 : 0);
        property(&(struct setting){.folder = path,
                                   .heads = heads.path,
                                   .weights = "stored",
                                   .seconds = SETTING_SECONDS},
                 (uint64_t)(80 + i));
    }
    folder_remove(&heads);
    folder_remove(&folder);
}

/* A public model, where somebody has fetched it: HEADWAY_MODELS says where. */
static void test_public_model(void **state)
{
    const char *folder = getenv("HEADWAY_MODELS"), *home = getenv("HOME");
    char path[512];
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    printf("a model of this size takes too long under a sanitizer: not tested\n");
    skip();
#endif
    snprintf(path, sizeof path, "%s%s/smollm2-135m-instruct-q4_1.gguf",
             folder ? folder
             : home ? home
                    : ".",
             folder ? "" : "/.cache/headway-models");
    if (access(path, R_OK)) {
        printf("%s is not there: not tested\n", path);
        skip();
    }
    for (int heads = 0; heads < 2; heads++)
        property(&(struct setting){.folder = path,
                                   .heads = heads ? "weights/smollm2-heads" : NULL,
                                   .name = heads ? "SmolLM2 135M with heads" : "SmolLM2 135M",
                                   .weights = "stored",
                                   .no_heads = !heads,
                                   .no_generic = true,
                                   .seconds = 3 * SETTING_SECONDS},
                 (uint64_t)(70 + heads));
}

static void test_long_text(void **state)
{
    static const enum head_kind kinds[] = {HEAD_PARALLEL, HEAD_LINEAR};
    static struct rig plain, rig;
    struct folder folder;
    (void)state;
    folder_make(&folder);
    for (int i = 0; i < 2; i++) {
        struct dice d = {77, 0};
        struct totals t = {0};
        struct runtime_options ro = {.model = folder.path, .threads = 1};
        struct scheduler_options so = {.context = 1280, .max_sequences = 1};
        train_tiny(folder.path, kinds[i], small, 4, i == 0);
        rig_init(&plain, ro, so);
        ro.threads = 2;
        rig_init(&rig, ro, so);
        double start = clock_seconds();
        while (t.cases < cases_wanted() / 10 + 1 &&
               !time_is_up(start, SETTING_SECONDS, 10 * t.cases))
            long_case(&plain, &rig, &d, &t);
        printf("%s heads: %d long texts identical, %llu accepted drafts\n",
               head_kind_name(kinds[i]), t.cases, (unsigned long long)t.accepted);
        assert_true(t.accepted > 0);
        rig_release(&rig);
        rig_release(&plain);
    }
    folder_remove(&folder);
}

int main(void)
{
#define TEST(id, name, tensors) cmocka_unit_test_prestate(test_kind, &kinds[HEAD_##id]),
    static enum head_kind kinds[HEAD_KINDS_WHOLE];
    const struct CMUnitTest tests[] = {HEAD_KIND_WHOLE_TABLE(TEST) cmocka_unit_test(test_demo),
                                       cmocka_unit_test(test_apart),
                                       cmocka_unit_test(test_types),
                                       cmocka_unit_test(test_large_vocabulary),
                                       cmocka_unit_test(test_public_shapes),
                                       cmocka_unit_test(test_public_model),
                                       cmocka_unit_test(test_long_text)};
#undef TEST
    for (int i = 0; i < HEAD_KINDS_WHOLE; i++)
        kinds[i] = (enum head_kind)i;
    return cmocka_run_group_tests(tests, compile_grammars, release_grammars);
}
