/* The scheduler: what happens when pages run out, which pages are shared, and that drafts are made
 * where they pay and not where nothing is right. (That no text depends on any of it is
 * test_exact.c's.) */
#include "tests/unit/unit.h"

#include "base/rng.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "tests/unit/random_model.h"
#include "text/regex.h"

static struct folder folder;
static struct runtime runtime; /* a tiny model with heads of random numbers */

#define HEADS 4

static int make_model(void **state)
{
    struct err err;
    (void)state;
    folder_make(&folder);
    random_model(folder.path, random_config(HEAD_LINEAR, 1, HEADS), DTYPE_F32);
    struct runtime_options o = {.model = folder.path, .threads = 1, .context = 512};
    assert_ok(runtime_init(&runtime, &o, &err), err);
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    runtime_release(&runtime);
    folder_remove(&folder);
    return 0;
}

/* ---- helpers ---- */

static void scheduler_make(struct scheduler *s, int context, int sequences, int pages)
{
    struct err err;
    size_t page =
        KV_PAGE * kv_position_bytes(&runtime.model.config, runtime.model.n_blocks, WEIGHT_BF16);
    struct scheduler_options o = {
        .context = context, .max_sequences = sequences, .kv_limit = page * (size_t)pages};
    assert_ok(scheduler_init(s, &runtime, &o, &err), err);
    assert_int_equal(s->pool.n_pages, pages);
}

static struct engine_request request(const int32_t *tokens, int n, int more)
{
    return (struct engine_request){.tokens = tokens,
                                   .n_tokens = (size_t)n,
                                   .max_tokens = more,
                                   .temperature = 1,
                                   .top_p = 1,
                                   .repetition_penalty = 1,
                                   .ignore_eos = true};
}

static void random_tokens(int32_t *tokens, int n, uint64_t seed)
{
    for (int i = 0; i < n; i++)
        tokens[i] = (int32_t)rng_below(seed, 0, (uint64_t)i, 256);
}

static int add(struct scheduler *s, const struct engine_request *r)
{
    struct err err;
    int slot = scheduler_add(s, r, &err);
    assert_true(slot >= 0 || slot == ERR_BUSY);
    return slot;
}

static void step(struct scheduler *s)
{
    scheduler_step(s);
    for (int i = 0; i < s->max_sequences; i++)
        sequence_collected(&s->sequences[i]);
}

/* ---- grammars ---- */

static int add_regex(struct scheduler *s, const char *expression)
{
    static const int32_t tokens[4] = {'t', 'e', 'x', 't'};
    struct engine_request r = request(tokens, 4, 20);
    struct automaton *a;
    struct err err;
    assert_ok(regex_compile(expression, strlen(expression), &a, &err), err);
    r.grammar = a;
    int slot = add(s, &r);
    automaton_release(a);
    return slot;
}

/* Requests of one structure share its masks, those too that come when the others have ended. */
static void masks_are_shared(void **state)
{
    struct scheduler s;
    (void)state;
    scheduler_make(&s, 128, 3, 6);
    int a = add_regex(&s, "[ab]{9}"), b = add_regex(&s, "[ab]{9}"), c = add_regex(&s, "[bc]{9}");
    const struct mask_store *store = s.sequences[a].sampler.matcher->store;
    assert_non_null(store);
    assert_ptr_equal(s.sequences[b].sampler.matcher->store, store);
    assert_ptr_not_equal(s.sequences[c].sampler.matcher->store, store);
    for (int i = 0; i < 12; i++)
        step(&s);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(s.sequences[i].finish, FINISH_STOP);
        scheduler_remove(&s, i);
    }
    assert_ptr_equal(s.sequences[add_regex(&s, "[ab]{9}")].sampler.matcher->store, store);
    for (int i = 0; i < SCHEDULER_GRAMMARS; i++) { /* until others have come in between */
        char other[16];
        snprintf(other, sizeof other, "x{%d}", i + 2);
        scheduler_remove(&s, add_regex(&s, other));
    }
    for (int i = 0; i < SCHEDULER_GRAMMARS; i++)
        assert_ptr_not_equal(s.grammars[i]->masks, store);
    scheduler_release(&s);
}

/* ---- pages run out ---- */

/* Four that each grow from one page to three, with five pages in all. */
static void the_youngest_gives_way_and_comes_back(void **state)
{
    struct scheduler s;
    int32_t tokens[4][50];
    uint64_t preempted[4] = {0};
    int finished = 0, order[4];
    (void)state;
    scheduler_make(&s, 256, 4, 5);
    for (int i = 0; i < 4; i++) {
        random_tokens(tokens[i], 50, (uint64_t)i);
        struct engine_request r = request(tokens[i], i < 3 ? 50 : 20, i < 3 ? 110 : 140);
        assert_int_equal(add(&s, &r), i); /* the last needs no second page so soon */
    }
    while (finished < 4) {
        step(&s);
        for (int i = 0; i < 4; i++) {
            struct sequence *q = &s.sequences[i];
            preempted[i] += q->active && q->preempted;
            assert_true(!q->active || q->preempted == (q->kv.n_pages == 0));
            /* The youngest first. */
            assert_true(i == 3 || !q->active || !q->preempted || !s.sequences[i + 1].active ||
                        s.sequences[i + 1].preempted || s.sequences[i + 1].finish);
            if (q->active && q->finish) {
                assert_int_equal(q->n_tokens, 160);
                order[finished++] = i;
                scheduler_remove(&s, i);
            }
        }
    }
    assert_int_equal(preempted[0], 0); /* the oldest always moves on */
    assert_true(preempted[3] > 0);
    assert_true(s.preemptions > 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(order[i], i);
    assert_int_equal(s.pool.n_free, 5);
    scheduler_release(&s);
}

/* Who rests because its reader has enough holds up nobody, be it the oldest with most of the pages,
 * and its text is the same as if it had not. */
static void who_rests_gives_way(void **state)
{
    struct scheduler s;
    int32_t tokens[2][50], alone[256];
    (void)state;
    scheduler_make(&s, 256, 1, 4);
    for (int i = 0; i < 2; i++)
        random_tokens(tokens[i], 50, 90 + (uint64_t)i);
    struct engine_request long_one = request(tokens[0], 50, 200);
    struct engine_request other = request(tokens[1], 50, 190);
    add(&s, &long_one);
    while (!s.sequences[0].finish)
        step(&s);
    memcpy(alone, s.sequences[0].tokens, 250 * sizeof *alone);
    scheduler_release(&s);

    scheduler_make(&s, 256, 2, 4);
    assert_int_equal(add(&s, &long_one), 0);
    while (s.sequences[0].n_tokens < 150)
        step(&s);
    s.sequences[0].paused = true;
    int held = s.sequences[0].n_tokens;
    assert_false(scheduler_step(&s)); /* nothing else runs */
    assert_int_equal(add(&s, &other), 1);
    while (!s.sequences[1].finish)
        step(&s);
    assert_int_equal(s.sequences[0].n_tokens, held);
    assert_int_equal(s.sequences[0].kv.n_pages, 0);
    scheduler_remove(&s, 1);
    s.sequences[0].paused = false;
    while (!s.sequences[0].finish)
        step(&s);
    assert_memory_equal(s.sequences[0].tokens, alone, 250 * sizeof *alone);
    scheduler_release(&s);
}

/* A prompt for which there are too few pages waits outside; alone it is taken. */
static void a_long_prompt_waits_for_pages(void **state)
{
    struct scheduler s;
    int32_t tokens[200];
    (void)state;
    scheduler_make(&s, 256, 4, 4);
    random_tokens(tokens, 200, 7);
    struct engine_request small = request(tokens + 1, 60, 20), large = request(tokens, 200, 20);
    int first = add(&s, &small);
    step(&s);
    assert_int_equal(add(&s, &large), ERR_BUSY);
    assert_true(add(&s, &small) > 0); /* there is room for a small one */
    while (!s.sequences[first].finish)
        step(&s);
    scheduler_remove(&s, 0);
    scheduler_remove(&s, 1);
    int slot = add(&s, &large);
    assert_true(slot >= 0);
    while (!s.sequences[slot].finish)
        step(&s);
    assert_int_equal(s.sequences[slot].n_tokens, 220);
    scheduler_release(&s);
}

static void too_small_a_limit_is_refused(void **state)
{
    struct scheduler s;
    struct err err;
    struct scheduler_options o = {.context = 512, .max_sequences = 1, .kv_limit = 1000};
    (void)state;
    assert_int_equal(scheduler_init(&s, &runtime, &o, &err), ERR_INVALID);
    assert_says(err, "512 positions");
}

/* Drafts never cost another sequence its pages. */
static void drafts_go_before_sequences_do(void **state)
{
    struct scheduler s;
    int32_t tokens[2][60];
    (void)state;
    scheduler_make(&s, 128, 2, 2); /* a page each, until position 64 */
    for (int i = 0; i < 2; i++) {
        random_tokens(tokens[i], 60, (uint64_t)(20 + i));
        struct engine_request r = request(tokens[i], 40, 23);
        r.speculation = HEADS - 1;
        assert_int_equal(add(&s, &r), i);
    }
    while (!s.sequences[0].finish || !s.sequences[1].finish)
        step(&s);
    assert_int_equal(s.preemptions, 0);
    scheduler_release(&s);
}

/* ---- pages are shared ---- */

static void equal_beginnings_are_shared(void **state)
{
    struct scheduler s;
    int32_t tokens[3][200];
    (void)state;
    scheduler_make(&s, 256, 3, 12);
    random_tokens(tokens[0], 200, 3);
    memcpy(tokens[1], tokens[0], sizeof tokens[0]);
    memcpy(tokens[2], tokens[0], sizeof tokens[0]);
    tokens[1][150] = 255 - tokens[1][150]; /* two whole pages are the same */
    struct engine_request r = request(tokens[0], 200, 30), other = request(tokens[1], 200, 30);
    add(&s, &r);
    step(&s);
    int free_before = s.pool.n_free, slot = add(&s, &other);
    step(&s);
    assert_int_equal(s.sequences[slot].n_rows, 200 - 2 * KV_PAGE);
    assert_int_equal(s.pool.n_free, free_before - (kv_pages(200) - 2));
    assert_int_equal(s.reused_tokens, 2 * KV_PAGE);
    scheduler_remove(&s, 0); /* whoever was first may go first */
    while (!s.sequences[slot].finish)
        step(&s);
    scheduler_remove(&s, slot);
    assert_int_equal(s.pool.n_free, 12);
    /* All prompt tokens but the last can be shared at most; with log-probabilities none. */
    struct engine_request page = request(tokens[0], 2 * KV_PAGE, 30);
    add(&s, &r);
    step(&s);
    slot = add(&s, &page);
    step(&s);
    assert_int_equal(s.sequences[slot].n_rows, KV_PAGE);
    scheduler_remove(&s, slot);
    page.prompt_logprobs = true;
    slot = add(&s, &page);
    step(&s);
    assert_int_equal(s.reused_tokens, 3 * KV_PAGE);
    scheduler_release(&s);
}

/* Choices of one request, all there at once: the first reads the prompt, the others what is left of
 * it behind whole pages. */
static void a_prompt_is_read_once(void **state)
{
    struct scheduler s;
    int32_t tokens[200];
    int rows = 0, begun = 0;
    (void)state;
    scheduler_make(&s, 256, 6, 24);
    s.prompt_chunk = 50;
    random_tokens(tokens, 200, 3);
    struct engine_request r = request(tokens, 200, 30);
    for (int i = 0; i < 6; i++)
        assert_int_equal(add(&s, &r), i);
    while (begun < 6) {
        step(&s);
        begun = 0;
        for (int i = 0; i < 6; i++) {
            begun += s.sequences[i].begun;
            rows += s.sequences[i].n_rows * (s.sequences[i].n_tokens <= 201);
        }
    }
    print_message("%d rows for 6 prompts of 200 tokens\n", rows);
    assert_in_range(rows, 200 + 5 * (200 - 3 * KV_PAGE), 200 + 5 * (200 - 3 * KV_PAGE) + 12);
    assert_int_equal(s.reused_tokens, 5 * 3 * KV_PAGE);
    scheduler_release(&s);
}

/* One client has all places; another's request is admitted and runs all the same, the youngest of
 * the first pauses and goes on afterwards, to the text that it has alone. */
static void clients_take_turns(void **state)
{
    struct scheduler s;
    struct err err;
    int32_t tokens[4][20], alone[60], together[60];
    struct scheduler_options o = {.context = 128, .max_sequences = 2, .spare = 2};
    (void)state;
    assert_ok(scheduler_init(&s, &runtime, &o, &err), err);
    for (int i = 0; i < 4; i++)
        random_tokens(tokens[i], 20, (uint64_t)i);
    struct engine_request first = request(tokens[0], 20, 60), second = request(tokens[1], 20, 60);
    struct engine_request other = request(tokens[2], 20, 5), third = request(tokens[3], 20, 5);
    first.client = second.client = third.client = 1;
    other.client = 2;
    int slot = add(&s, &second);
    while (!s.sequences[slot].finish)
        step(&s);
    memcpy(alone, s.sequences[slot].tokens + 20, sizeof alone);
    scheduler_remove(&s, slot);

    int a = add(&s, &first), b = add(&s, &second);
    step(&s);
    assert_int_equal(add(&s, &third), ERR_BUSY); /* its turn comes after those that run */
    int c = add(&s, &other);
    assert_true(c >= 0);
    for (int i = 0; i < 5; i++) {
        int before = s.sequences[b].n_tokens;
        assert_false(s.sequences[c].finish);
        step(&s);
        assert_true(s.sequences[a].n_rows && s.sequences[c].n_rows && !s.sequences[b].n_rows);
        assert_int_equal(s.sequences[b].n_tokens, before);
    }
    assert_true(s.sequences[c].finish);
    scheduler_remove(&s, c);
    while (!s.sequences[b].finish)
        step(&s);
    memcpy(together, s.sequences[b].tokens + 20, sizeof together);
    assert_memory_equal(alone, together, sizeof alone);
    scheduler_release(&s);
}

/* ---- speculation ---- */

/* Heads of random numbers are never right: "auto" must find out and leave them alone, and who asks
 * for drafts all the same learns that a head is dead. */
static void dead_heads_are_found_and_left_alone(void **state)
{
    struct scheduler s;
    int32_t tokens[40];
    (void)state;
    scheduler_make(&s, 512, 1, 8);
    assert_true(costs_known(&s.costs, 1, 1) > 0); /* timed at the start */
    for (int round = 0; round < 4; round++) {
        random_tokens(tokens, 40, (uint64_t)(100 + round));
        struct engine_request r = request(tokens, 40, 400);
        r.temperature = 0; /* above, heads see the same noise, and may be right for that */
        r.speculation = round == 2 ? 2 : SPECULATION_AUTO;
        r.drafters = DRAFT_HEADS;
        r.temperature = 0; /* above, heads see the same noise, and may be right for that */
        r.seed = (uint64_t)round;
        int slot = add(&s, &r);
        while (!s.sequences[slot].finish)
            step(&s);
        uint64_t late = s.sequences[slot].figures.drafted;
        scheduler_remove(&s, slot);
        assert_int_equal(rates_dead_head(&s.rates), round >= 2);
        assert_true(round == 2 || late < 40);           /* of 400 tokens: a try now and then */
        assert_true(costs_known(&s.costs, 1, 200) > 2); /* learned from the steps */
    }
    scheduler_release(&s);
}

/* A processor on which rows cost little: what the build under test takes for them, with sanitizers
 * say, is not to decide. */
static void inject_costs(struct costs *c)
{
    costs_init(c);
    for (int i = 0; i < 5; i++) {
        for (int rows = 1; rows <= 32; rows *= 2)
            costs_note_pass(c, rows, 200.0 * rows, 1e-3 + 2e-5 * rows);
        for (int heads = 1; heads < 8; heads++)
            costs_note_draft(c, heads, 1, 1e-5 * heads);
    }
}

/* The demo's heads are often right, which must come out of the steps themselves. */
static void auto_drafts_what_pays(void **state)
{
    static const char *const texts[] = {"    def __init__(self, name):\n        self.name = name\n",
                                        "import os\nimport sys\n\ndef main():\n"};
    struct runtime demo;
    struct scheduler s;
    struct err err;
    struct runtime_options ro = {.model = "weights/demo", .threads = 1};
    struct scheduler_options so = {.max_sequences = 1};
    static const unsigned drafters[] = {DRAFT_HEADS, DRAFT_HEADS | DRAFT_TREE, DRAFT_LOOKUP, 0};
    (void)state;
    assert_ok(runtime_init(&demo, &ro, &err), err);
    for (size_t d = 0; d < sizeof drafters / sizeof *drafters; d++) {
        assert_ok(scheduler_init(&s, &demo, &so, &err), err);
        struct engine_speculation last = {0};
        size_t forwards = 0, made = 0, half = 0;
        int at = 0;
        for (int i = 0; i < 4; i++) {
            int32_t tokens[100] = {BYTE_TOKEN_END};
            size_t n = 1 + strlen(texts[i % 2]);
            for (size_t k = 1; k < n; k++)
                tokens[k] = (unsigned char)texts[i % 2][k - 1];
            struct engine_request r = request(tokens, (int)n, 150);
            r.temperature = 0;
            r.speculation = SPECULATION_AUTO;
            r.drafters = drafters[d];
            int slot = add(&s, &r);
            struct sequence *q = &s.sequences[slot];
            while (!q->finish) {
                inject_costs(&s.costs);
                step(&s);
                if (q->n_tokens < q->n_prompt + 75) {
                    half = q->forwards;
                    at = q->n_tokens - q->n_prompt;
                }
            }
            last = q->figures;
            forwards += i > 1 ? q->forwards - half : 0; /* late in late texts */
            made += i > 1 ? (size_t)(150 - at) : 0;
            scheduler_remove(&s, slot);
        }
        assert_true(last.accepted > 0);
        if (forwards * 10 > made * 7)
            fail_msg("drafters %u: %zu forwards for %zu tokens", drafters[d], forwards, made);
        assert_int_equal(rates_dead_head(&s.rates), 0);
        scheduler_release(&s);
    }
    runtime_release(&demo);
}

/* Heads that may only draft some tokens draft the same ones wherever those are the best. */
static void a_draft_vocabulary_maps_its_tokens(void **state)
{
    struct runtime some;
    struct scheduler full, limited;
    struct err err;
    struct runtime_options ro = {.model = folder.path, .threads = 1, .context = 512};
    struct scheduler_options so = {.context = 256, .max_sequences = 1};
    int32_t ids[BYTE_VOCAB], tokens[40];
    int n = 0, compared = 0;
    (void)state;
    for (int i = 0; i < BYTE_VOCAB; i++)
        if (i % 5)
            ids[n++] = i;
    assert_ok(runtime_init(&some, &ro, &err), err);
    assert_int_equal(model_draft_vocabulary(&some.model, (int32_t[]){3, 3}, 2, &err), ERR_INVALID);
    assert_int_equal(model_draft_vocabulary(&some.model, (int32_t[]){3, BYTE_VOCAB}, 2, &err),
                     ERR_INVALID);
    assert_ok(model_draft_vocabulary(&some.model, ids, n, &err), err);
    assert_ok(scheduler_init(&full, &runtime, &so, &err), err);
    assert_ok(scheduler_init(&limited, &some, &so, &err), err);
    random_tokens(tokens, 40, 9);
    struct engine_request r = request(tokens, 40, 100);
    r.speculation = HEADS - 1;
    add(&full, &r);
    add(&limited, &r);
    /* The same noise, so what is best among all is best among some. */
    for (int i = 0; i < 30 && !full.sequences[0].finish && !limited.sequences[0].finish; i++) {
        const struct sequence *a = &full.sequences[0], *b = &limited.sequences[0];
        step(&full);
        while (b->n_tokens < a->n_tokens && !b->finish)
            step(&limited);
        if (a->n_tokens != b->n_tokens)
            continue;
        for (int h = 0; h < a->candidates.heads && h < b->candidates.heads; h++) {
            assert_true(b->candidates.token[h][0] % 5 != 0);
            if (a->candidates.token[h][0] % 5 == 0)
                break;
            assert_int_equal(a->candidates.token[h][0], b->candidates.token[h][0]);
            compared++;
        }
    }
    assert_true(compared > 10);
    scheduler_release(&full);
    scheduler_release(&limited);
    runtime_release(&some);
}

/* Where heads with caches have hardly drafted lately, most sequences begin without. */
static void caches_that_do_not_pay_are_not_begun(void **state)
{
    struct scheduler s;
    (void)state;
    scheduler_make(&s, 128, 4, 8);
    s.caches = true;
    for (int seldom = 0; seldom < 2; seldom++)
        for (int speculation = SPECULATION_AUTO; speculation < 3; speculation += 3) {
            int kept = 0;
            s.heads_used[costs_batch(4)].part = seldom ? 0.1 : 0.9;
            for (int i = 0; i < 16; i++) {
                struct sequence q = {.speculation = speculation, .heads_kept = 3};
                draft_begin(&s, &q, 4);
                kept += q.heads_kept == 3;
            }
            assert_int_equal(kept, seldom && speculation == SPECULATION_AUTO ? 2 : 16);
        }
    struct sequence alone = {.speculation = SPECULATION_AUTO, .heads_kept = 3};
    draft_begin(&s, &alone, 1); /* fewer together: nothing is known of those */
    assert_int_equal(alone.heads_kept, 3);
    scheduler_release(&s);
}

/* A text whose heads never pay loses their caches, and sooner where those of the texts before did
 * not pay either: one in eight has any there. */
static void caches_that_do_not_pay_are_dropped(void **state)
{
    struct folder parallel;
    struct runtime some;
    struct scheduler s;
    struct err err;
    struct runtime_options ro = {.threads = 1, .context = 512};
    struct scheduler_options so = {.context = 256, .max_sequences = 1};
    int32_t tokens[40];
    (void)state;
    folder_make(&parallel);
    random_model(parallel.path, random_config(HEAD_PARALLEL, 1, HEADS), DTYPE_F32);
    ro.model = parallel.path;
    assert_ok(runtime_init(&some, &ro, &err), err);
    assert_ok(scheduler_init(&s, &some, &so, &err), err);
    assert_true(s.caches);
    random_tokens(tokens, 40, 9);
    struct engine_request r = request(tokens, 40, 100);
    r.speculation = SPECULATION_AUTO;
    int kept[2] = {0}; /* steps in which the first text kept its caches, and the eight behind it */
    for (int i = 0; i < 9; i++) {
        int slot = add(&s, &r);
        struct sequence *q = &s.sequences[slot];
        for (int h = 0; h < HEADS; h++)
            for (int r = 0; r < DRAFT_RANKS; r++)
                q->rates.head[h][r] = (struct rate){.p = 0, .n = 1000}; /* known to be wrong */
        s.rates = q->rates;
        for (; q->heads_kept; kept[i > 0]++) {
            inject_costs(&s.costs);
            step(&s);
        }
        scheduler_remove(&s, slot);
    }
    assert_in_range(kept[0], 24, 40);
    assert_in_range(kept[1], 6, 12);
    scheduler_release(&s);
    runtime_release(&some);
    folder_remove(&parallel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_are_shared),
        cmocka_unit_test(the_youngest_gives_way_and_comes_back),
        cmocka_unit_test(a_long_prompt_waits_for_pages),
        cmocka_unit_test(who_rests_gives_way),
        cmocka_unit_test(too_small_a_limit_is_refused),
        cmocka_unit_test(drafts_go_before_sequences_do),
        cmocka_unit_test(equal_beginnings_are_shared),
        cmocka_unit_test(a_prompt_is_read_once),
        cmocka_unit_test(clients_take_turns),
        cmocka_unit_test(caches_that_do_not_pay_are_not_begun),
        cmocka_unit_test(caches_that_do_not_pay_are_dropped),
        cmocka_unit_test(dead_heads_are_found_and_left_alone),
        cmocka_unit_test(auto_drafts_what_pays),
        cmocka_unit_test(a_draft_vocabulary_maps_its_tokens),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
