/* What the engine tells of its steps: who proposed each token, what plain decoding would have
 * taken, and steps that sequences have for themselves, to be timed. On the demo, whose drafts are
 * often right. */
#include <math.h>

#include "tests/unit/unit.h"

#include "engine/scheduler.h"
#include "text/tokenizer.h"

static struct runtime runtime;
static int32_t prompt[64];
static int n_prompt;

static int open_demo(void **state)
{
    static const char text[] = "import os\nimport sys\n\ndef main():\n    ";
    struct runtime_options o = {.model = "weights/demo", .threads = 1};
    struct err err;
    (void)state;
    prompt[n_prompt++] = BYTE_TOKEN_END;
    for (const char *c = text; *c; c++)
        prompt[n_prompt++] = (unsigned char)*c;
    assert_ok(runtime_init(&runtime, &o, &err), err);
    return 0;
}

static int close_demo(void **state)
{
    (void)state;
    runtime_release(&runtime);
    return 0;
}

static void scheduler_make(struct scheduler *s)
{
    struct scheduler_options o = {.max_sequences = 6};
    struct err err;
    assert_ok(scheduler_init(s, &runtime, &o, &err), err);
}

static int add(struct scheduler *s, int speculation, unsigned drafters, enum engine_alone alone)
{
    struct engine_request r = {.tokens = prompt,
                               .n_tokens = (size_t)n_prompt,
                               .max_tokens = 200,
                               .top_p = 1,
                               .repetition_penalty = 1,
                               .ignore_eos = true,
                               .speculation = speculation,
                               .drafters = drafters,
                               .alone = alone};
    struct err err;
    int slot = scheduler_add(s, &r, &err);
    assert_true(slot >= 0);
    return slot;
}

static void collect(struct scheduler *s)
{
    for (int i = 0; i < s->max_sequences; i++)
        sequence_collected(&s->sequences[i]);
}

static void tokens_know_who_proposed_them(void **state)
{
    static const unsigned drafters[] = {DRAFT_HEADS, DRAFT_HEADS | DRAFT_TREE, DRAFT_LOOKUP,
                                        DRAFT_HEADS | DRAFT_LOOKUP | DRAFT_TREE};
    struct scheduler s;
    (void)state;
    scheduler_make(&s);
    for (int d = 0; d < 4; d++) {
        int heads = 0, lookups = 0, aside = 0, accepted = 0;
        uint32_t pass = 0;
        struct sequence *q = &s.sequences[add(&s, 4, drafters[d], ALONE_NOT)];
        while (!q->finish) {
            scheduler_step(&s);
            for (int i = 0; i < q->n_fresh; i++) {
                const struct engine_origin *o = &q->fresh[i].origin;
                bool last = i + 1 == q->n_fresh;
                assert_int_equal(o->pass, pass + 1);
                assert_int_equal(o->rows, q->n_rows);
                /* All but the last of a pass were drafts. */
                if (!last || q->accepted == q->n_fresh)
                    assert_true(o->head || o->lookup);
                else
                    assert_true(!o->head && !o->lookup && !o->rank);
                assert_true(o->head <= i + 1); /* head i drafts the i-th token ahead */
                heads += o->head > 0;
                lookups += o->lookup;
                aside += o->rank > 0;
            }
            accepted += q->accepted;
            pass++;
            assert_int_equal(q->forwards, pass);
            collect(&s);
        }
        assert_int_equal((heads > 0) << 1 | (lookups > 0), (drafters[d] & 1) << 1 | (d > 1));
        print_message("%d of heads, %d of those not their best, %d of look-up\n", heads, aside,
                      lookups);
        assert_true(d == 3 || (aside > 0) == (d == 1)); /* trees alone take what is not the best */
        assert_int_equal(q->figures.accepted, accepted);
        assert_int_equal(q->figures.accepted_by[0], lookups);
        for (int i = 1; i < ENGINE_DRAFTS_MAX; i++) {
            assert_true(q->figures.accepted_by[i] <= q->figures.tried_by[i]);
            heads -= (int)q->figures.accepted_by[i];
        }
        assert_int_equal(heads, 0);
        scheduler_remove(&s, add(&s, 0, 0, ALONE_NOT)); /* another in its place */
        scheduler_remove(&s, 0);
    }
    scheduler_release(&s);
}

/* Two that want steps of their own and two that don't. */
static void some_have_steps_of_their_own(void **state)
{
    struct scheduler s;
    int32_t want[200];
    int turns[2] = {0, 0};
    (void)state;
    scheduler_make(&s);
    int alone = add(&s, 0, 0, ALONE_NOT);
    while (!s.sequences[alone].finish) {
        scheduler_step(&s);
        collect(&s);
    }
    memcpy(want, s.sequences[alone].tokens + n_prompt, sizeof want);
    scheduler_remove(&s, alone);
    for (int i = 0; i < 4; i++)
        add(&s, i % 2 ? SPECULATION_AUTO : 0, 0, i < 2 ? ALONE_ABREAST : ALONE_NOT);
    bool before = false;
    for (int left = 4; left;) {
        int rows[4], n = 0;
        left = 0;
        bool others = !s.sequences[2].finish || !s.sequences[3].finish;
        bool wanted = !s.sequences[0].finish || !s.sequences[1].finish;
        if (!scheduler_step(&s))
            break;
        for (int i = 0; i < 4; i++) {
            rows[i] = s.sequences[i].n_rows;
            n += rows[i] > 0;
            left += !s.sequences[i].finish;
        }
        collect(&s);
        bool own = rows[0] || rows[1];
        assert_true(own ? n == 1 : n >= 1);
        assert_true(!others || !wanted || own != before);
        before = own;
        turns[own]++;
        /* Both are at the same place of their text, but for one step's tokens. */
        int apart = s.sequences[0].n_tokens - s.sequences[1].n_tokens;
        assert_in_range(apart + ENGINE_DRAFTS_MAX + 1, 0, 2 * ENGINE_DRAFTS_MAX + 2);
    }
    assert_true(turns[0] > 0 && turns[1] >= 200);
    for (int i = 0; i < 4; i++)
        assert_memory_equal(s.sequences[i].tokens + n_prompt, want, sizeof want);
    scheduler_release(&s);
}

/* In a race both have had the same time, but for a step's, so that drafts get ahead. */
static void racing_takes_equal_time(void **state)
{
    struct scheduler s;
    (void)state;
    scheduler_make(&s);
    const struct sequence *plain = &s.sequences[add(&s, 0, 0, ALONE_RACING)];
    const struct sequence *fast = &s.sequences[add(&s, 4, DRAFT_LOOKUP, ALONE_RACING)];
    double longest = 0;
    while (!fast->finish) {
        double before = s.step_seconds;
        scheduler_step(&s);
        longest = fmax(longest, s.step_seconds - before);
        assert_true(fabs(plain->decode_seconds - fast->decode_seconds) <= longest);
        collect(&s);
    }
    print_message("%d tokens beside %d\n", fast->n_tokens, plain->n_tokens);
    scheduler_release(&s);
}

/* Plain steps are their own estimate; others' is what passes cost. Of a few tries one is near: a
 * machine may be busy with others in some. */
static void plain_decoding_is_estimated(void **state)
{
    struct scheduler s;
    double off = INFINITY;
    (void)state;
    for (int i = 0; i < 8 && off > 0.2; i++) {
        scheduler_make(&s);
        struct sequence *plain = &s.sequences[add(&s, 0, 0, ALONE_ABREAST)];
        struct sequence *fast =
            &s.sequences[add(&s, 4, DRAFT_HEADS | DRAFT_LOOKUP | DRAFT_TREE, ALONE_ABREAST)];
        while (scheduler_step(&s))
            collect(&s);
        print_message("plain %.2f ms; with drafts %.2f, estimated without %.2f\n",
                      1e3 * plain->decode_seconds, 1e3 * fast->decode_seconds,
                      1e3 * fast->plain_seconds);
        assert_true(plain->decode_seconds > 0);
        assert_true(fabs(plain->plain_seconds / plain->decode_seconds - 1) < 1e-9);
        off = fabs(fast->plain_seconds / plain->decode_seconds - 1);
        scheduler_release(&s);
    }
    assert_true(off <= 0.2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_know_who_proposed_them),
        cmocka_unit_test(some_have_steps_of_their_own),
        cmocka_unit_test(racing_takes_equal_time),
        cmocka_unit_test(plain_decoding_is_estimated),
    };
    return cmocka_run_group_tests(tests, open_demo, close_demo);
}
