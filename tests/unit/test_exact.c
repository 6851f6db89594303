/* The first promise, as a property: whatever the number of drafts, the batch mates, the chunks in
 * which the prompt is read, the threads and the kernels, a request's tokens, log-probabilities and
 * text are bit for bit those of plain decoding, alone, on one thread.
 *
 * Models: for each kind of heads tiny ones that are trained here for a moment on a small language,
 * so that drafts are sometimes right and sometimes wrong; and the demo model. */
#include "tests/unit/unit.h"

#include "base/rng.h"
#include "engine/scheduler.h"
#include "model/gemm.h"
#include "train/checkpoint.h"
#include "train/trainer.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW_BUILD 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW_BUILD 1
#endif
#endif

#define SLOTS 5
#define ANSWER 40
#define FEW_CASES 40 /* under sanitizers */

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
    int32_t tokens[80];
    char stop[4];
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

static void example_make(struct example *e, struct dice *d, int vocab, int heads)
{
    unsigned char text[80];
    size_t n = 1 + (size_t)roll(d, 60), have = babble(d, text, sizeof text);
    memset(e, 0, sizeof *e);
    e->tokens[0] = BYTE_TOKEN_END;
    for (size_t i = 1; i < n; i++)
        e->tokens[i] = i < have ? text[i] : roll(d, 256);
    bool greedy = roll(d, 2);
    e->r = (struct engine_request){
        .tokens = e->tokens,
        .n_tokens = n,
        .max_tokens = roll(d, ANSWER + 1),
        .temperature = greedy ? 0 : real(d, 0.2f, 1.5f),
        .top_p = roll(d, 2) ? 1 : real(d, 0.1f, 1),
        .top_k = roll(d, 2) ? 0 : 1 + roll(d, 40),
        .min_p = roll(d, 3) ? 0 : real(d, 0, 0.3f),
        .repetition_penalty = roll(d, 5) ? 1 : real(d, 0.8f, 1.5f),
        .frequency_penalty = roll(d, 5) ? 0 : real(d, -1, 1),
        .presence_penalty = roll(d, 5) ? 0 : real(d, -1, 1),
        .seed = (uint64_t)roll(d, 1000000),
        .ignore_eos = roll(d, 2),
        .speculation = roll(d, heads + 1) - 1,
        .top_logprobs = roll(d, 3) ? 0 : roll(d, 4),
        .prompt_logprobs = roll(d, 6) == 0,
    };
    e->r.min_tokens = roll(d, 4) || !e->r.max_tokens ? 0 : roll(d, e->r.max_tokens);
    if (roll(d, 4) == 0) {
        e->stop[0] = "etax ;"[roll(d, 6)];
        e->stops[0] = e->stop;
        e->stop_lens[0] = 1;
        e->r.stops = e->stops;
        e->r.stop_lens = e->stop_lens;
        e->r.n_stops = 1;
    }
    if (roll(d, 6) == 0) {
        e->bias[0] = (struct engine_bias){roll(d, vocab), real(d, -5, 5)};
        e->r.biases = e->bias;
        e->r.n_biases = 1;
    }
}

/* ---- answers ---- */

struct answer {
    int32_t token[ANSWER];
    float logprob[ANSWER];
    float prompt[80];
    struct buf text;
    int n;
    enum engine_finish finish;
    uint64_t accepted;
};

static void answer_collect(struct answer *a, struct sequence *q)
{
    for (int i = 0; i < q->n_fresh; i++) {
        assert_true(a->n < ANSWER);
        a->token[a->n] = q->fresh[i].token;
        a->logprob[a->n++] = q->fresh[i].logprob;
    }
    buf_append(&a->text, q->out.data ? q->out.data : "", q->out.len);
    if (q->prompt_ready)
        for (int i = 0; i < q->n_prompt; i++)
            a->prompt[i] = q->prompt[i].logprob;
    a->finish = q->finish;
    a->accepted = q->speculation.accepted;
}

/* Moves every sequence one step on; the answers of finished ones are complete then. */
static void step(struct scheduler *s, struct answer **by_slot, int *left)
{
    scheduler_step(s);
    for (int i = 0; i < s->max_sequences; i++) {
        struct sequence *q = &s->sequences[i];
        if (!q->active)
            continue;
        if (by_slot[i])
            answer_collect(by_slot[i], q);
        scheduler_collected(s, i);
        if (q->finish) {
            scheduler_remove(s, i);
            by_slot[i] = NULL;
            --*left;
        }
    }
}

static int add(struct scheduler *s, const struct engine_request *r)
{
    struct err err;
    assert_ok(scheduler_check(s, r, &err), err);
    int slot = scheduler_add(s, r, 1, &err);
    assert_true(slot >= 0);
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
    assert_memory_equal(a->logprob, b->logprob, (size_t)a->n * sizeof *a->logprob);
    assert_int_equal(a->text.len, b->text.len);
    if (a->text.len)
        assert_memory_equal(a->text.data, b->text.data, a->text.len);
    if (e->r.prompt_logprobs) /* the first is NaN, of the same bits */
        assert_memory_equal(a->prompt, b->prompt, e->r.n_tokens * sizeof *a->prompt);
}

/* ---- the property ---- */

struct totals {
    int cases;
    uint64_t tokens, accepted;
};

static const char *const isas[] = {"generic", "avx2", "avx512", "vnni", "amx"};
#define ISAS (int)(sizeof isas / sizeof *isas)

/* One batch of requests that come and go at random, some of them cancelled, against the same
 * requests alone. */
static void batch_case(struct scheduler *plain, struct scheduler *s, struct dice *d,
                       const char *isa, struct totals *t)
{
    static struct example e[SLOTS];
    struct answer want[SLOTS], got[SLOTS], *by_slot[SLOTS] = {NULL};
    int n = 1 + roll(d, SLOTS), started = 0, left = 0;
    memset(want, 0, sizeof want);
    memset(got, 0, sizeof got);
    for (int i = 0; i < n; i++) {
        example_make(&e[i], d, s->model.config.vocab, s->model.config.n_predict);
        assert_int_equal(kernels_init("auto", NULL), 0);
        alone(plain, &e[i], &want[i]);
    }
    /* Not every processor has every path; those it has give the same bits. The generic one is slow,
     * on the demo model above all. */
    if (!isa)
        isa = isas[roll(d, s->model.config.dim > 64 ? 50 : 8) == 0 ? 0 : 1 + roll(d, ISAS - 1)];
    if (kernels_init(isa, NULL))
        assert_int_equal(kernels_init("generic", NULL), 0);
    s->prompt_chunk = 1 + roll(d, 32);
    while (started < n || left) {
        if (started < n && (left == 0 || roll(d, 3) == 0)) {
            by_slot[add(s, &e[started].r)] = &got[started];
            started++;
            left++;
        }
        if (left && roll(d, 12) == 0 && n < SLOTS) { /* a mate that goes away in the middle */
            struct example mate;
            example_make(&mate, d, s->model.config.vocab, s->model.config.n_predict);
            int slot = add(s, &mate.r);
            left++;
            for (int i = roll(d, 4); i > 0 && s->sequences[slot].active; i--)
                step(s, by_slot, &left);
            if (s->sequences[slot].active && !by_slot[slot]) {
                scheduler_remove(s, slot);
                left--;
            }
        }
        step(s, by_slot, &left);
    }
    for (int i = 0; i < n; i++) {
        assert_same(&want[i], &got[i], &e[i]);
        t->cases++;
        t->tokens += (uint64_t)got[i].n;
        t->accepted += got[i].accepted;
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
    int left = 0, compared = 0;
    for (int i = 1 + roll(d, SLOTS); i > 0; i--) {
        struct example e;
        int k = 1 + roll(d, s->model.config.n_predict - 1);
        example_make(&e, d, s->model.config.vocab, s->model.config.n_predict);
        add(s, &(struct engine_request){.tokens = e.tokens,
                                        .n_tokens = e.r.n_tokens,
                                        .max_tokens = ANSWER,
                                        .top_p = 1,
                                        .repetition_penalty = 1,
                                        .speculation = roll(d, 4) ? k : SPECULATION_AUTO,
                                        .ignore_eos = true});
        left++;
    }
    s->prompt_chunk = 1 + roll(d, 32);
    while (left) {
        step(s, by_slot, &left);
        const struct sequence *q = &s->sequences[roll(d, SLOTS)];
        if (!q->active || !q->n_drafts || roll(d, 4))
            continue;
        int slot = add(fresh, &(struct engine_request){.tokens = q->tokens,
                                                       .n_tokens = (size_t)q->n_cached,
                                                       .max_tokens = q->n_drafts + 2,
                                                       .top_p = 1,
                                                       .repetition_penalty = 1,
                                                       .speculation = q->n_drafts,
                                                       .ignore_eos = true});
        scheduler_step(fresh);
        assert_int_equal(fresh->sequences[slot].n_drafts, q->n_drafts);
        assert_memory_equal(fresh->sequences[slot].drafts, q->drafts,
                            (size_t)q->n_drafts * sizeof *q->drafts);
        compared += q->n_drafts;
        scheduler_remove(fresh, slot);
    }
    return compared;
}

/* weights: the type of matrices while loading. isa: NULL for any. Half of the cases have keys and
 * values in bf16, half in f32. */
static void property(const char *folder, const char *weights, const char *isa, int wanted,
                     uint64_t seed)
{
    static struct scheduler plain, one, two;
    static const char *const kv[] = {"bf16", "f32"};
    const char *kind = "";
    struct err err;
    struct dice d = {seed, 0};
    struct totals t = {0};
    int drafts = 0;
    for (int i = 0; i < 2; i++) {
        struct scheduler_options o = {.model = folder,
                                      .threads = 1,
                                      .max_sequences = 1,
                                      .context = 128,
                                      .prompt_chunk = 128,
                                      .weights = weights,
                                      .kv = kv[i]};
        assert_ok(scheduler_init(&plain, &o, &err), err);
        o.max_sequences = SLOTS;
        assert_ok(scheduler_init(&one, &o, &err), err);
        o.threads = 2;
        assert_ok(scheduler_init(&two, &o, &err), err);
        kind = head_kind_name(plain.model.config.kind);
        while (t.cases < wanted * (i + 1) / 2)
            batch_case(&plain, roll(&d, 2) ? &one : &two, &d, isa, &t);
        assert_ok(kernels_init("auto", &err), err);
        for (int j = 0; j < 2 + wanted / 20; j++)
            drafts += drafts_case(&plain, roll(&d, 2) ? &one : &two, &d);
        scheduler_release(&plain);
        scheduler_release(&one);
        scheduler_release(&two);
    }
    printf("%s, %s weights, %s kernels: %d cases identical, %llu tokens, of which %llu were "
           "accepted drafts; %d drafts as fresh ones\n",
           kind, weights, isa ? isa : "all", t.cases, (unsigned long long)t.tokens,
           (unsigned long long)t.accepted, drafts);
    assert_true(drafts > 0 || wanted < 100); /* else nothing was tested */
    assert_true(t.accepted > t.tokens / 20); /* else nothing was tested */
    assert_true(t.accepted < t.tokens);
}

/* Trains the tiny model until some drafts are right. */
static void train_tiny(const char *folder, enum head_kind kind, int dim, int heads, int head_layers)
{
    static struct trainer t;
    struct team team;
    struct err err;
    struct config c = {.dim = dim,
                       .n_layers = 2,
                       .n_heads = dim / 16,
                       .n_kv_heads = 1,
                       .hidden = 3 * dim / 2 / 16 * 16 + 16,
                       .vocab = BYTE_VOCAB,
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
                                .steps = 150};
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

/* 1,000 for each kind, fewer where sanitizers make them slow; CASES in the environment overrules.
 */
static int cases(void)
{
    const char *asked = getenv("CASES");
#ifdef SLOW_BUILD
    return asked ? atoi(asked) : FEW_CASES;
#else
    return asked ? atoi(asked) : 1000;
#endif
}

/* One with nothing to speculate with must work as well. */
static void without_drafts(const char *folder, enum head_kind kind, int head_layers)
{
    static struct scheduler s;
    struct err err;
    struct dice d = {4, 0};
    struct example e;
    struct answer a;
    struct scheduler_options o = {
        .model = folder, .threads = 1, .max_sequences = 1, .context = 128};
    memset(&a, 0, sizeof a);
    train_tiny(folder, kind, 32, 1, head_layers);
    assert_ok(scheduler_init(&s, &o, &err), err);
    do
        example_make(&e, &d, s.model.config.vocab, 1);
    while (e.r.max_tokens == 0);
    alone(&s, &e, &a);
    assert_true(a.n > 0);
    buf_release(&a.text);
    scheduler_release(&s);
}

static void test_kind(void **state)
{
    enum head_kind kind = *(enum head_kind *)*state;
    bool layers = head_kind_tensors(kind) == HEAD_LAYERS;
    struct folder folder;
    printf("%s heads\n", head_kind_name(kind));
    folder_make(&folder);
    train_tiny(folder.path, kind, 32, 4, layers);
    property(folder.path, "stored", NULL, cases() / 2, 1);
    train_tiny(folder.path, kind, 32, 7, layers ? 2 : 0);
    property(folder.path, "stored", NULL, cases() / 2, 2);
    without_drafts(folder.path, kind, layers);
    folder_remove(&folder);
}

static void test_demo(void **state)
{
    (void)state;
    property("weights/demo", "stored", NULL, cases() > 100 ? cases() : cases() / 4, 3);
}

/* Every type of weights on every path. */
static void test_types(void **state)
{
    static const char *const types[] = {"f32", "bf16", "q8", "q4"};
    struct folder folder;
    struct err err;
    (void)state;
    folder_make(&folder);
    for (int i = 0; i < 4 * ISAS; i++) {
        if (kernels_init(isas[i % ISAS], &err)) {
            printf("%s\n", err.text);
            continue;
        }
        enum head_kind kind = (enum head_kind)((i + i / ISAS) % HEAD_KINDS);
        /* Widths that are not whole groups of quantised weights. */
        train_tiny(folder.path, kind, i % 2 ? 48 : 16, 4, head_kind_tensors(kind) == HEAD_LAYERS);
        property(folder.path, types[i / ISAS], isas[i % ISAS], cases(), (uint64_t)(10 + i));
    }
    folder_remove(&folder);
}

int main(void)
{
#define TEST(id, name, tensors) cmocka_unit_test_prestate(test_kind, &kinds[HEAD_##id]),
    static enum head_kind kinds[HEAD_KINDS];
    const struct CMUnitTest tests[] = {HEAD_KIND_TABLE(TEST) cmocka_unit_test(test_demo),
                                       cmocka_unit_test(test_types)};
#undef TEST
    for (int i = 0; i < HEAD_KINDS; i++)
        kinds[i] = (enum head_kind)i;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
