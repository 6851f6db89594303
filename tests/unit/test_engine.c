/* The engine through its public face, on a tiny random model: many requests at once, cancels, slow
 * readers, a full queue, closing at any moment, and requests that must be refused. */
#include "engine/engine.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/buf.h"
#include "base/rng.h"
#include "tests/unit/random_model.h"
#include "tests/unit/unit.h"
#include "text/tokenizer.h"

#define VOCAB 257
#define END 256
#define CONTEXT 96
#define PATIENCE 120 /* seconds until a silent engine is taken to hang */

static struct folder folder;

/* ---- a model ---- */

static int make_model(void **state)
{
    (void)state;
    folder_make(&folder);
    random_model(folder.path, random_config(HEAD_PARALLEL, 2, 4), DTYPE_BF16);
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    folder_remove(&folder);
    return 0;
}

/* ---- an engine and its reader ---- */

/* notify posts `news`; while `hold` is set it also keeps the decode thread until `gate`. */
struct desk {
    struct engine *engine;
    sem_t news, held, gate;
    atomic_bool hold;
};

static void on_news(void *arg)
{
    struct desk *desk = arg;
    sem_post(&desk->news);
    if (!atomic_load(&desk->hold))
        return;
    sem_post(&desk->held);
    while (sem_wait(&desk->gate) && errno == EINTR)
        ;
}

static void desk_open(struct desk *desk, struct engine_options options)
{
    struct err err;
    memset(desk, 0, sizeof *desk);
    sem_init(&desk->news, 0, 0);
    sem_init(&desk->held, 0, 0);
    sem_init(&desk->gate, 0, 0);
    options.model = folder.path;
    options.context = CONTEXT;
    options.notify = on_news;
    options.notify_arg = desk;
    assert_ok(engine_open(&desk->engine, &options, &err), err);
}

static void desk_close(struct desk *desk)
{
    engine_close(desk->engine);
    sem_destroy(&desk->news);
    sem_destroy(&desk->held);
    sem_destroy(&desk->gate);
}

static bool wait_for(sem_t *sem)
{
    struct timespec until;
    int rc;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE;
    while ((rc = sem_timedwait(sem, &until)) && errno == EINTR)
        ;
    return rc == 0;
}

/* Everything that came for one request; `user` is its index. */
struct record {
    struct buf text, tokens, prompt;
    uint64_t id;
    int events, finals;
    enum engine_finish finish;
    int stop;
    size_t prompt_tokens, completion_tokens, forwards;
    struct engine_speculation speculation;
    const char *wrong; /* the first broken promise */
};

struct records {
    struct record *list;
    int n, finals;
    unsigned slow; /* microseconds per event */
};

static const char *check_event(const struct record *r, const struct engine_event *event)
{
    if (r->finals)
        return "an event behind the last one";
    if (r->id && r->id != event->id)
        return "two ids for one request";
    if ((event->finish != FINISH_NONE) != (event->speculation != NULL))
        return "speculation does not come with the last event alone";
    if ((event->finish == FINISH_ERROR) != (event->error != NULL))
        return "error and finish disagree";
    if (event->completion_tokens != r->tokens.len / sizeof(struct engine_token) + event->n_tokens)
        return "completion_tokens is not the number of tokens";
    if (event->finish == FINISH_NONE && !event->n_tokens && !event->text_len && !event->n_prompt)
        return "an event about nothing";
    if (event->forwards < r->forwards || event->forwards > event->completion_tokens + 1)
        return "forwards are too few or too many";
    return NULL;
}

static void keep(void *arg, const struct engine_event *event)
{
    struct records *all = arg;
    struct record *r = &all->list[event->user];
    if (!r->wrong)
        r->wrong = check_event(r, event);
    buf_append(&r->text, event->text, event->text_len);
    buf_append(&r->tokens, event->tokens, event->n_tokens * sizeof *event->tokens);
    buf_append(&r->prompt, event->prompt, event->n_prompt * sizeof *event->prompt);
    r->id = event->id;
    r->events++;
    r->prompt_tokens = event->prompt_tokens;
    r->completion_tokens = event->completion_tokens;
    r->forwards = event->forwards;
    if (all->slow)
        usleep(all->slow);
    if (!event->finish)
        return;
    r->finish = event->finish;
    r->stop = event->stop;
    r->finals++;
    r->speculation = *event->speculation;
    all->finals++;
}

static void record_release(struct record *r)
{
    buf_release(&r->text);
    buf_release(&r->tokens);
    buf_release(&r->prompt);
    memset(r, 0, sizeof *r);
}

static const struct engine_token *tokens_of(const struct record *r)
{
    return (const struct engine_token *)(const void *)r->tokens.data;
}

static const char *text_of(const struct record *r)
{
    return r->text.data ? r->text.data : "";
}

/* Reads until n requests have ended, waking only when notified. */
static void read_all(struct desk *desk, struct records *all, int n)
{
    while (all->finals < n) {
        if (!wait_for(&desk->news))
            fail_msg("no news for %d seconds, %d of %d requests ended", PATIENCE, all->finals, n);
        engine_poll(desk->engine, keep, all);
    }
    for (int i = 0; i < all->n; i++)
        if (all->list[i].wrong)
            fail_msg("request %d: %s", i, all->list[i].wrong);
}

static void run_alone(struct desk *desk, struct engine_request request, struct record *r)
{
    struct records all = {r, 1, 0, 0};
    struct err err;
    uint64_t id = 0;
    memset(r, 0, sizeof *r);
    request.user = 0;
    assert_ok(engine_submit(desk->engine, &request, &id, &err), err);
    assert_true(id != 0);
    read_all(desk, &all, 1);
    assert_true(r->id == id);
}

static void check_idle(struct desk *desk)
{
    struct engine_stats stats;
    double end = clock_seconds() + PATIENCE;
    do /* gauges are published at the end of a step, a moment after its events */
        engine_stats(desk->engine, &stats);
    while (stats.running && clock_seconds() < end);
    assert_int_equal(stats.running, 0);
    assert_int_equal(stats.waiting, 0);
    assert_int_equal(stats.errors, 0);
    assert_true(stats.requests == stats.finished + stats.cancelled);
    assert_true(stats.heartbeat_age >= 0 && stats.heartbeat_age < PATIENCE);
}

/* ---- requests ---- */

static const int32_t hello[] = {END, 'h', 'e', 'l', 'l', 'o'};

static struct engine_request plain(void)
{
    return (struct engine_request){.tokens = hello,
                                   .n_tokens = 6,
                                   .max_tokens = 20,
                                   .top_p = 1,
                                   .repetition_penalty = 1,
                                   .ignore_eos = true,
                                   .logprobs = true,
                                   .speculation = SPECULATION_AUTO};
}

/* Random small letters only, so that a token is a character; it needs 257 biases. */
static struct engine_request letters(uint64_t seed)
{
    static struct engine_bias biases[VOCAB];
    struct engine_request r = plain();
    for (int i = 0; i < VOCAB; i++)
        biases[i] = (struct engine_bias){i, i >= 'a' && i <= 'z' ? 0 : -100};
    r.biases = biases;
    r.n_biases = VOCAB;
    r.temperature = 1;
    r.seed = seed;
    r.max_tokens = 60;
    return r;
}

#define RECIPES 12

struct recipe {
    struct engine_request request;
    int32_t prompt[CONTEXT];
    struct engine_bias biases[3];
    const char *stops[2];
    size_t stop_lens[2];
};

/* Requests of all sorts. */
static void cook(struct recipe *c, int i)
{
    uint64_t seed = (uint64_t)i + 40;
    memset(c, 0, sizeof *c);
    struct engine_request *r = &c->request;
    *r = plain();
    r->tokens = c->prompt;
    r->n_tokens = 1 + rng_below(seed, 0, 0, 50);
    for (size_t k = 0; k < r->n_tokens; k++)
        c->prompt[k] = (int32_t)rng_below(seed, 1, k, VOCAB);
    r->max_tokens = (int)rng_below(seed, 0, 1, 60);
    r->temperature = i % 3 ? 0.8f : 0;
    r->seed = seed;
    r->ignore_eos = i % 4 != 1;
    r->top_logprobs = i % 4;
    r->prompt_logprobs = i % 5 == 2;
    r->top_k = i % 4 == 2 ? 40 : 0;
    r->presence_penalty = i % 4 == 3 ? 0.5f : 0;
    r->repetition_penalty = i % 6 == 5 ? 1.2f : 1;
    for (int k = 0; k < 3; k++)
        c->biases[k] = (struct engine_bias){(int32_t)rng_below(seed, 2, (uint64_t)k, VOCAB), 1.5f};
    r->biases = c->biases;
    r->n_biases = i % 3;
    c->stops[0] = "\x81";
    c->stops[1] = "zq";
    c->stop_lens[0] = 1;
    c->stop_lens[1] = 2;
    r->stops = c->stops;
    r->stop_lens = c->stop_lens;
    r->n_stops = i % 4 == 1 ? 2 : 0;
}

static bool same_token(const struct engine_token *a, const struct engine_token *b)
{
    bool same = a->token == b->token && !memcmp(&a->logprob, &b->logprob, sizeof a->logprob) &&
                a->n_top == b->n_top;
    for (int i = 0; i < a->n_top && same; i++)
        same = a->top[i].token == b->top[i].token &&
               !memcmp(&a->top[i].logprob, &b->top[i].logprob, sizeof a->logprob);
    return same;
}

static bool same_tokens(const struct buf *a, const struct buf *b, size_t bytes)
{
    const struct engine_token *x = (const struct engine_token *)(const void *)a->data;
    const struct engine_token *y = (const struct engine_token *)(const void *)b->data;
    for (size_t i = 0; i < bytes / sizeof *x; i++)
        if (!same_token(&x[i], &y[i]))
            return false;
    return true;
}

/* `got` must be what the request gives alone, or its beginning when it was cancelled. */
static void check_record(const struct record *got, const struct record *alone)
{
    bool cut = got->finish == FINISH_CANCELLED;
    assert_int_equal(got->finals, 1);
    assert_int_equal(got->prompt_tokens, alone->prompt_tokens);
    if (!cut) {
        assert_int_equal(got->finish, alone->finish);
        assert_int_equal(got->text.len, alone->text.len);
        assert_int_equal(got->tokens.len, alone->tokens.len);
        assert_int_equal(got->prompt.len, alone->prompt.len);
    }
    assert_true(got->text.len <= alone->text.len && got->tokens.len <= alone->tokens.len);
    assert_true(got->prompt.len == 0 || got->prompt.len == alone->prompt.len);
    assert_memory_equal(text_of(got), text_of(alone), got->text.len);
    assert_true(same_tokens(&got->tokens, &alone->tokens, got->tokens.len));
    assert_true(same_tokens(&got->prompt, &alone->prompt, got->prompt.len));
}

/* Every recipe alone, without drafts, in an engine for one. */
static void run_recipes_alone(struct record *alone)
{
    struct desk desk;
    desk_open(&desk, (struct engine_options){.threads = 1, .max_sequences = 1, .prompt_chunk = 3});
    for (int i = 0; i < RECIPES; i++) {
        struct recipe c;
        cook(&c, i);
        c.request.speculation = 0;
        run_alone(&desk, c.request, &alone[i]);
        assert_int_equal(alone[i].speculation.steps, 0);
    }
    check_idle(&desk);
    desk_close(&desk);
}

/* ---- many at once ---- */

#define SENDERS 3
#define PER_SENDER 20

struct sender {
    pthread_t thread;
    struct desk *desk;
    int first;
    int busy, cancels;
    bool failed;
};

static int which_recipe(int user)
{
    return (int)rng_below(8, 8, (uint64_t)user, RECIPES);
}

/* Sends its requests, spoils what it lent, and cancels some, early or late, known or not. */
static void *send_all(void *arg)
{
    struct sender *s = arg;
    for (int i = s->first; i < s->first + PER_SENDER; i++) {
        struct recipe c;
        struct err err;
        uint64_t id, dice = rng_bits(9, 9, (uint64_t)i);
        int rc;
        cook(&c, which_recipe(i));
        c.request.user = (uint64_t)i;
        c.request.speculation = (int)(dice >> 8 & 3) - 1;
        while ((rc = engine_submit(s->desk->engine, &c.request, &id, &err)) == ERR_BUSY) {
            s->busy++;
            usleep(500);
        }
        s->failed |= rc != 0;
        memset(&c, 0xa5, sizeof c);
        if (dice & 1)
            usleep((unsigned)(dice >> 16) % 3000);
        engine_cancel(s->desk->engine, 1u << 30);
        if (rc == 0 && (dice & 6) == 0) {
            engine_cancel(s->desk->engine, id);
            s->cancels++;
        }
    }
    return NULL;
}

static void add_speculation(struct engine_speculation *to, const struct engine_speculation *from)
{
    to->steps += from->steps;
    to->drafted += from->drafted;
    to->accepted += from->accepted;
    for (int i = 0; i < ENGINE_DRAFTS_MAX; i++) {
        to->accepted_at[i] += from->accepted_at[i];
        for (int j = 0; j <= ENGINE_DRAFTS_MAX; j++)
            to->histogram[i][j] += from->histogram[i][j];
    }
}

/* The histogram tells the same story as the sums. */
static void check_speculation(const struct engine_speculation *p)
{
    uint64_t steps = 0, drafted = 0, accepted = 0;
    for (int k = 0; k < ENGINE_DRAFTS_MAX; k++)
        for (int j = 0; j <= ENGINE_DRAFTS_MAX; j++) {
            assert_true(j <= k + 1 || p->histogram[k][j] == 0);
            steps += p->histogram[k][j];
            drafted += p->histogram[k][j] * (uint64_t)(k + 1);
            accepted += p->histogram[k][j] * (uint64_t)j;
        }
    assert_true(p->steps == steps && p->drafted == drafted && p->accepted == accepted);
    for (int i = 0; i < ENGINE_DRAFTS_MAX; i++)
        accepted -= p->accepted_at[i];
    assert_true(accepted == 0);
}

/* A pass commits a token and the drafts it accepts; the last may end the text at a draft. */
static void check_own_speculation(const struct record *r)
{
    size_t most = r->forwards + r->speculation.accepted;
    check_speculation(&r->speculation);
    assert_true(r->speculation.steps <= r->forwards);
    if (r->finish != FINISH_CANCELLED && r->completion_tokens)
        assert_in_range(r->completion_tokens, most - 1, most);
}

static void check_sums(struct desk *desk, const struct records *all)
{
    struct engine_stats stats;
    struct engine_speculation speculation = {0};
    uint64_t prompt = 0, generated = 0, cancelled = 0;
    for (int i = 0; i < all->n; i++) {
        const struct record *r = &all->list[i];
        prompt += r->prompt_tokens;
        generated += r->completion_tokens;
        cancelled += r->finish == FINISH_CANCELLED;
        add_speculation(&speculation, &r->speculation);
        check_own_speculation(r);
    }
    check_idle(desk);
    engine_stats(desk->engine, &stats);
    assert_int_equal(stats.requests, all->n);
    assert_int_equal(stats.cancelled, cancelled);
    assert_int_equal(stats.prompt_tokens, prompt);
    assert_int_equal(stats.generation_tokens, generated);
    assert_true(stats.forwards > 0 && stats.step_seconds_sum > 0);
    assert_true(stats.kv_used == 0);
    assert_memory_equal(&stats.speculation, &speculation, sizeof speculation);
    assert_true(speculation.accepted > 0 && speculation.accepted < speculation.drafted);
}

static void serve_many(const struct record *alone, struct engine_options options)
{
    struct desk desk;
    struct sender senders[SENDERS];
    struct record list[SENDERS * PER_SENDER];
    struct records all = {list, SENDERS * PER_SENDER, 0, 0};
    int cancels = 0;
    memset(list, 0, sizeof list);
    desk_open(&desk, options);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.desk = &desk, .first = i * PER_SENDER};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
    }
    for (uint64_t i = 0; all.finals < all.n; i++) { /* a reader that is often late */
        if (!wait_for(&desk.news))
            fail_msg("no news for %d seconds", PATIENCE);
        usleep((unsigned)rng_below(10, 10, i, 4) * 1000);
        engine_poll(desk.engine, keep, &all);
    }
    for (int i = 0; i < SENDERS; i++) {
        pthread_join(senders[i].thread, NULL);
        assert_false(senders[i].failed);
        cancels += senders[i].cancels;
    }
    read_all(&desk, &all, all.n);
    assert_int_equal(engine_poll(desk.engine, keep, &all), 0);
    for (int i = 0; i < all.n; i++)
        check_record(&list[i], &alone[which_recipe(i)]);
    assert_true(cancels > 0);
    check_sums(&desk, &all);
    desk_close(&desk);
    for (int i = 0; i < all.n; i++)
        record_release(&list[i]);
}

static void many_at_once_as_if_alone(void **state)
{
    (void)state;
    struct record alone[RECIPES];
    run_recipes_alone(alone);
    serve_many(alone, (struct engine_options){.threads = 1, .max_sequences = 3, .max_queue = 4});
    serve_many(alone, (struct engine_options){
                          .threads = 2, .max_sequences = 8, .max_queue = 100, .prompt_chunk = 7});
    for (int i = 0; i < RECIPES; i++)
        record_release(&alone[i]);
}

/* ---- one by one ---- */

static void a_full_queue_says_busy(void **state)
{
    (void)state;
    struct desk desk;
    struct record list[4] = {0};
    struct records all = {list, 4, 0, 0};
    struct engine_request request = plain();
    struct engine_stats stats;
    struct err err;
    uint64_t id[4], none = 99;
    desk_open(&desk, (struct engine_options){.threads = 1, .max_sequences = 1, .max_queue = 3});
    request.max_tokens = 80;
    atomic_store(&desk.hold, true);
    assert_ok(engine_submit(desk.engine, &request, &id[0], &err), err);
    assert_true(wait_for(&desk.held)); /* it runs, and the decode thread stands still */
    for (request.user = 1; request.user < 4; request.user++)
        assert_ok(engine_submit(desk.engine, &request, &id[request.user], &err), err);
    assert_int_equal(engine_submit(desk.engine, &request, &none, &err), ERR_BUSY);
    assert_says(err, "3 requests are waiting");
    assert_int_equal(none, 99);
    engine_stats(desk.engine, &stats);
    assert_int_equal(stats.running, 1);
    assert_int_equal(stats.waiting, 3);
    assert_int_equal(stats.requests, 4);
    engine_cancel(desk.engine, id[2]); /* one that waits, in the middle: it needs no free slot */
    sem_post(&desk.gate);
    assert_true(wait_for(&desk.held));
    engine_poll(desk.engine, keep, &all);
    assert_int_equal(all.finals, 1);
    assert_int_equal(list[2].finals, 1);
    engine_cancel(desk.engine, id[0]); /* the one that runs */
    atomic_store(&desk.hold, false);
    sem_post(&desk.gate);
    read_all(&desk, &all, 4);
    assert_int_equal(list[0].finish, FINISH_CANCELLED);
    assert_true(list[0].completion_tokens < 80);
    assert_int_equal(list[1].finish, FINISH_LENGTH);
    assert_int_equal(list[2].finish, FINISH_CANCELLED);
    assert_int_equal(list[2].events, 1);
    assert_int_equal(list[2].completion_tokens, 0);
    assert_int_equal(list[3].finish, FINISH_LENGTH);
    engine_cancel(desk.engine, id[3]); /* over already */
    assert_int_equal(engine_poll(desk.engine, keep, &all), 0);
    check_idle(&desk);
    desk_close(&desk);
    for (int i = 0; i < 4; i++)
        record_release(&list[i]);
}

/* A sequence takes the place of one that was cancelled with half a character held back. */
static void a_slot_forgets_the_request_before(void **state)
{
    (void)state;
    static const struct engine_bias half = {0xe2, 100};
    struct desk desk;
    struct record alone, list[2] = {0};
    struct records all = {list, 2, 0, 0};
    struct engine_request request = letters(9), first = plain();
    struct err err;
    uint64_t id;
    desk_open(&desk, (struct engine_options){.threads = 1, .max_sequences = 1});
    run_alone(&desk, request, &alone);
    first.biases = &half;
    first.n_biases = 1;
    first.speculation = 3;
    first.frequency_penalty = 1;
    first.max_tokens = 80;
    atomic_store(&desk.hold, true);
    assert_ok(engine_submit(desk.engine, &first, &id, &err), err);
    for (int step = 0; step < 3; step++) {
        assert_true(wait_for(&desk.held));
        if (step == 2)
            engine_cancel(desk.engine, id);
        sem_post(&desk.gate);
    }
    atomic_store(&desk.hold, false);
    sem_post(&desk.gate); /* in case it was held once more */
    request.user = 1;
    assert_ok(engine_submit(desk.engine, &request, &id, &err), err);
    read_all(&desk, &all, 2);
    assert_int_equal(list[0].finish, FINISH_CANCELLED);
    assert_int_equal(tokens_of(&list[0])[0].token, 0xe2);
    check_record(&list[1], &alone);
    check_own_speculation(&list[1]);
    record_release(&alone);
    record_release(&list[0]);
    record_release(&list[1]);
    desk_close(&desk);
}

/* What piled up while nobody read comes as one event. */
static void news_is_merged_for_a_late_reader(void **state)
{
    (void)state;
    struct desk desk;
    struct record r = {0};
    struct records all = {&r, 1, 0, 0};
    struct engine_request request = letters(3);
    struct engine_stats stats;
    struct err err;
    desk_open(&desk, (struct engine_options){.threads = 1, .max_sequences = 2});
    assert_ok(engine_submit(desk.engine, &request, &r.id, &err), err);
    do {
        usleep(1000);
        engine_stats(desk.engine, &stats);
    } while (stats.finished < 1);
    assert_int_equal(engine_poll(desk.engine, keep, &all), 1);
    assert_int_equal(r.events, 1);
    assert_int_equal(r.finals, 1);
    assert_int_equal(r.completion_tokens, 60);
    assert_int_equal(r.text.len, 60);
    assert_null(r.wrong);
    record_release(&r);
    desk_close(&desk);
}

/* A reader slower than the decode thread gets back from engine_poll all the same: it hands over
 * what waited when it was called, once. */
static void polling_ends_though_news_does_not(void **state)
{
    (void)state;
    struct desk desk;
    struct record list[2] = {0};
    struct records all = {list, 2, 0, 30000};
    struct engine_request request = letters(4);
    struct err err;
    desk_open(&desk, (struct engine_options){.threads = 1, .max_sequences = 2});
    request.max_tokens = 80;
    request.speculation = 0;
    for (request.user = 0; request.user < 2; request.user++)
        assert_ok(engine_submit(desk.engine, &request, &list[request.user].id, &err), err);
    while (all.finals < 2) {
        assert_true(wait_for(&desk.news));
        assert_in_range(engine_poll(desk.engine, keep, &all), 0, 2);
    }
    for (int i = 0; i < 2; i++)
        record_release(&list[i]);
    desk_close(&desk);
}

static void closing_at_any_moment(void **state)
{
    (void)state;
    engine_close(NULL);
    for (uint64_t round = 0; round < 30; round++) {
        struct desk desk;
        struct record list[8] = {0};
        struct records all = {list, 8, 0, 0};
        struct engine_request request = letters(round);
        struct err err;
        uint64_t id;
        request.max_tokens = 80;
        desk_open(&desk,
                  (struct engine_options){.threads = 1 + (round % 8 == 7), .max_sequences = 2});
        for (request.user = 0; request.user < round % 9; request.user++) {
            request.prompt_logprobs = request.user % 2;
            assert_ok(engine_submit(desk.engine, &request, &id, &err), err);
            if (request.user % 4 == 3)
                engine_cancel(desk.engine, id);
        }
        usleep((unsigned)rng_below(12, 0, round, 4000));
        if (round % 3 == 0)
            engine_poll(desk.engine, keep, &all);
        desk_close(&desk);
        for (int i = 0; i < 8; i++) {
            assert_null(list[i].wrong);
            record_release(&list[i]);
        }
    }
}

/* ---- where a text ends ---- */

static void max_tokens_and_context(void **state)
{
    (void)state;
    static const struct {
        size_t prompt;
        int max, expected;
    } cases[] = {
        {6, 0, 0},     {6, 1, 1},  {6, 20, 20},        {CONTEXT - 1, 50, 1}, {CONTEXT - 5, 50, 5},
        {1, 2000, 95}, {95, 0, 0}, {CONTEXT - 5, 5, 5}};
    struct desk desk;
    int32_t prompt[CONTEXT];
    for (int i = 0; i < CONTEXT; i++)
        prompt[i] = 'a' + i % 26;
    desk_open(&desk, (struct engine_options){.threads = 1, .max_sequences = 1, .prompt_chunk = 16});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int drafts = -1; drafts <= 3; drafts++) {
            struct engine_request request = letters(i);
            struct record r;
            request.tokens = prompt;
            request.n_tokens = cases[i].prompt;
            request.max_tokens = cases[i].max;
            request.speculation = drafts;
            run_alone(&desk, request, &r);
            assert_int_equal(r.finish, FINISH_LENGTH);
            assert_int_equal(r.completion_tokens, cases[i].expected);
            assert_int_equal(r.prompt_tokens, cases[i].prompt);
            assert_int_equal(r.text.len, cases[i].expected);
            if (drafts == 0)
                assert_int_equal(r.forwards, r.completion_tokens ? r.completion_tokens : 1);
            record_release(&r);
        }
    check_idle(&desk);
    desk_close(&desk);
}

static void stop_strings_and_min_tokens(void **state)
{
    (void)state;
    struct desk desk;
    struct record whole, r;
    desk_open(&desk, (struct engine_options){.threads = 1, .max_sequences = 1});
    run_alone(&desk, letters(21), &whole);
    assert_int_equal(whole.text.len, 60);
    for (int i = 0; i < 40; i++) {
        struct engine_request request = letters(21);
        size_t len = i % 3 ? 2 : 1, lens[] = {3, len, 5};
        const char *stop = text_of(&whole) + i, *at, *stops[] = {"\n\n\n", stop, "no no"};
        request.stops = stops;
        request.stop_lens = lens;
        request.n_stops = 3;
        request.min_tokens = i % 4 ? 0 : i + 1 + i / 4 % 2;
        request.speculation = i % 4 - 1;
        /* tokens before number min_tokens are shown whatever they are */
        size_t from = request.min_tokens ? (size_t)request.min_tokens - 1 : 0;
        at = memmem(text_of(&whole) + from, 60 - from, stop, len);
        size_t shown = at ? (size_t)(at - text_of(&whole)) : 60;
        run_alone(&desk, request, &r);
        assert_int_equal(r.finish, at ? FINISH_STOP : FINISH_LENGTH);
        assert_int_equal(r.stop, at ? 2 : 0);
        assert_int_equal(r.text.len, shown);
        assert_memory_equal(text_of(&r), text_of(&whole), shown);
        assert_int_equal(r.completion_tokens, at ? shown + len : 60);
        record_release(&r);
        /* The one behind it, in the same place, was not ended by that. */
        struct engine_request next = plain();
        static const struct engine_bias bias = {END, 100};
        next.biases = &bias;
        next.n_biases = 1;
        next.ignore_eos = false;
        run_alone(&desk, next, &r);
        assert_int_equal(r.finish, FINISH_STOP);
        assert_int_equal(r.stop, 0);
        record_release(&r);
    }
    record_release(&whole);
    desk_close(&desk);
}

static void end_token_and_min_tokens(void **state)
{
    (void)state;
    static const struct engine_bias bias = {END, 100};
    struct desk desk;
    desk_open(&desk, (struct engine_options){.threads = 1, .max_sequences = 1});
    for (int i = 0; i < 24; i++) {
        struct engine_request request = plain();
        struct record r;
        request.biases = &bias;
        request.n_biases = 1;
        request.temperature = (float)(i % 2);
        request.speculation = i % 4 - 1;
        request.ignore_eos = i % 3 == 0;
        request.min_tokens = i % 3 == 1 ? 5 : 0;
        run_alone(&desk, request, &r);
        const struct engine_token *last = tokens_of(&r) + r.completion_tokens - 1;
        assert_int_equal(r.finish, request.ignore_eos ? FINISH_LENGTH : FINISH_STOP);
        assert_int_equal(r.completion_tokens, request.ignore_eos ? 20 : request.min_tokens ? 6 : 1);
        assert_int_equal(last->token, END);
        assert_int_equal(r.stop, 0);
        for (int k = 0; k < request.min_tokens; k++)
            assert_int_not_equal(tokens_of(&r)[k].token, END);
        record_release(&r);
    }
    desk_close(&desk);
}

/* ---- log-probabilities ---- */

/* What was said of a token when it was chosen is said again when it is read as a prompt, to the
 * last bit, though it came in other chunks. */
static void prompt_logprobs_agree(void **state)
{
    (void)state;
    static const int chunks[] = {1, 5, 64};
    struct desk desk;
    struct record r, again;
    int32_t prompt[CONTEXT];
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        desk_open(&desk, (struct engine_options){
                             .threads = 1, .max_sequences = 1, .prompt_chunk = chunks[i]});
        struct engine_request request = letters(31 + i);
        request.top_logprobs = i ? ENGINE_TOP_LOGPROBS_MAX : 0;
        run_alone(&desk, request, &r);
        assert_int_equal(r.prompt.len, 0);
        memcpy(prompt, hello, sizeof hello);
        for (int k = 0; k < 60; k++)
            prompt[6 + k] = tokens_of(&r)[k].token;
        request.tokens = prompt;
        request.n_tokens = 66;
        request.max_tokens = 0;
        request.prompt_logprobs = true;
        run_alone(&desk, request, &again);
        const struct engine_token *p = (const struct engine_token *)(const void *)again.prompt.data;
        assert_int_equal(again.prompt.len, 66 * sizeof *p);
        assert_true(isnan(p[0].logprob) && p[0].token == END && p[0].n_top == 0);
        for (int k = 0; k < 60; k++)
            assert_true(same_token(&tokens_of(&r)[k], &p[6 + k]));
        record_release(&r);
        record_release(&again);
        desk_close(&desk);
    }
}

static void logprobs_are_the_models_own(void **state)
{
    (void)state;
    struct desk desk;
    struct record greedy, biased;
    struct engine_bias bias;
    struct engine_request request = plain();
    desk_open(&desk, (struct engine_options){.threads = 1, .max_sequences = 1});
    request.top_logprobs = ENGINE_TOP_LOGPROBS_MAX;
    run_alone(&desk, request, &greedy);
    for (size_t i = 0; i < 20; i++) {
        const struct engine_token *t = &tokens_of(&greedy)[i];
        double sum = 0;
        assert_int_equal(t->n_top, ENGINE_TOP_LOGPROBS_MAX);
        assert_int_equal(t->top[0].token, t->token);
        assert_true(t->top[0].logprob == t->logprob);
        for (int k = 0; k < t->n_top; k++) {
            assert_true(t->top[k].logprob < 0);
            assert_true(k == 0 || t->top[k].logprob <= t->top[k - 1].logprob);
            sum += exp(t->top[k].logprob);
        }
        assert_true(sum > ENGINE_TOP_LOGPROBS_MAX / (double)VOCAB && sum < 1);
    }
    /* a bias, the temperature and a cut move the choice, not what is said of it */
    bias = (struct engine_bias){tokens_of(&greedy)[0].top[7].token, 100};
    request.biases = &bias;
    request.n_biases = 1;
    request.temperature = 0.5f;
    request.top_k = 1;
    run_alone(&desk, request, &biased);
    assert_int_equal(tokens_of(&biased)[0].token, bias.token);
    assert_true(tokens_of(&biased)[0].logprob == tokens_of(&greedy)[0].top[7].logprob);
    record_release(&greedy);
    record_release(&biased);
    desk_close(&desk);
}

/* ---- refusals ---- */

static void check_refused(struct desk *desk, const struct engine_request *request, const char *word)
{
    struct err err = {""};
    uint64_t id = 77;
    if (engine_submit(desk->engine, request, &id, &err) != ERR_INVALID)
        fail_msg("a request with a bad %s was taken", word);
    assert_says(err, word);
    assert_int_equal(id, 77);
}

#define AT(field) offsetof(struct engine_request, field)

static void refuses_bad_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t at;
    } reals[] = {{"temperature", AT(temperature)},
                 {"top_p", AT(top_p)},
                 {"min_p", AT(min_p)},
                 {"frequency_penalty", AT(frequency_penalty)},
                 {"presence_penalty", AT(presence_penalty)},
                 {"repetition_penalty", AT(repetition_penalty)}},
      ints[] = {{"max_tokens", AT(max_tokens)},
                {"min_tokens", AT(min_tokens)},
                {"top_k", AT(top_k)},
                {"logprobs", AT(top_logprobs)},
                {"speculation", AT(speculation)},
                {"stop strings", AT(n_stops)},
                {"logit_bias", AT(n_biases)}};
    static const float bad_reals[] = {NAN, -NAN, INFINITY, -INFINITY, -3, 1000};
    static const int bad_ints[] = {-2, INT_MIN, INT_MAX};
    struct desk desk;
    desk_open(&desk, (struct engine_options){.threads = 1, .max_sequences = 1});
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        for (size_t k = 0; k < sizeof bad_reals / sizeof *bad_reals; k++) {
            struct engine_request request = plain();
            memcpy((char *)&request + reals[i].at, &bad_reals[k], sizeof(float));
            check_refused(&desk, &request, reals[i].name);
        }
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        for (size_t k = 0; k < sizeof bad_ints / sizeof *bad_ints; k++) {
            struct engine_request request = plain();
            bool any = !strcmp(ints[i].name, "max_tokens") || !strcmp(ints[i].name, "top_k");
            if (any && bad_ints[k] == INT_MAX)
                continue;
            memcpy((char *)&request + ints[i].at, &bad_ints[k], sizeof(int));
            check_refused(&desk, &request, ints[i].name);
        }
    struct engine_request request = plain();
    request.min_tokens = request.max_tokens + 1;
    check_refused(&desk, &request, "min_tokens is 21");
    struct engine_stats stats;
    engine_stats(desk.engine, &stats);
    assert_int_equal(stats.requests, 0);
    desk_close(&desk);
}

static void refuses_bad_lists(void **state)
{
    (void)state;
    static const size_t lens[] = {0, CONTEXT, SIZE_MAX};
    static const int32_t tokens[] = {-1, VOCAB, INT32_MIN, INT32_MAX};
    static const size_t stop_lens[] = {0, ENGINE_STOP_BYTES_MAX + 1, SIZE_MAX};
    static const float biases[] = {NAN, INFINITY, -101, 101};
    static const char *const stops[] = {"ab", "cd"};
    struct desk desk;
    struct engine_request request;
    desk_open(&desk, (struct engine_options){.threads = 1, .max_sequences = 1});
    for (int i = 0; i < 3; i++) {
        size_t len[2] = {2, stop_lens[i]};
        request = plain();
        request.n_tokens = lens[i];
        check_refused(&desk, &request, "prompt has");
        request = plain();
        request.stops = stops;
        request.stop_lens = len;
        request.n_stops = 2;
        check_refused(&desk, &request, "stop string 1");
    }
    for (int i = 0; i < 4; i++) {
        int32_t prompt[3] = {1, 2, tokens[i]};
        struct engine_bias bias[2] = {{5, 1}, {tokens[i], 1}};
        request = plain();
        request.tokens = prompt;
        request.n_tokens = 3;
        check_refused(&desk, &request, "prompt token 2");
        request = plain();
        request.biases = bias;
        request.n_biases = 2;
        check_refused(&desk, &request, "logit_bias names token");
        bias[1] = (struct engine_bias){5, biases[i]};
        check_refused(&desk, &request, "logit_bias is");
    }
    desk_close(&desk);
}

static void the_widest_request_is_taken(void **state)
{
    (void)state;
    struct desk desk;
    struct engine_bias biases[ENGINE_BIAS_MAX];
    char stop[ENGINE_STOPS_MAX][ENGINE_STOP_BYTES_MAX];
    const char *stops[ENGINE_STOPS_MAX];
    size_t lens[ENGINE_STOPS_MAX];
    struct record r;
    struct engine_request request = plain();
    for (int i = 0; i < ENGINE_BIAS_MAX; i++)
        biases[i] = (struct engine_bias){i % VOCAB, i % 2 ? 100 : -100};
    for (int i = 0; i < ENGINE_STOPS_MAX; i++) {
        memset(stop[i], i + 1, ENGINE_STOP_BYTES_MAX);
        stops[i] = stop[i];
        lens[i] = ENGINE_STOP_BYTES_MAX;
    }
    request.biases = biases;
    request.n_biases = ENGINE_BIAS_MAX;
    request.stops = stops;
    request.stop_lens = lens;
    request.n_stops = ENGINE_STOPS_MAX;
    request.temperature = 2;
    request.repetition_penalty = 100;
    request.frequency_penalty = request.presence_penalty = -2;
    request.top_p = 0;
    request.min_p = 1;
    request.top_k = request.max_tokens = INT_MAX;
    request.min_tokens = request.max_tokens;
    request.seed = UINT64_MAX;
    request.top_logprobs = ENGINE_TOP_LOGPROBS_MAX;
    request.speculation = 3;
    desk_open(&desk, (struct engine_options){.threads = 1, .max_sequences = 1});
    run_alone(&desk, request, &r);
    assert_int_equal(r.finish, FINISH_LENGTH);
    assert_int_equal(r.completion_tokens, CONTEXT - 6);
    record_release(&r);
    desk_close(&desk);
}

static void opening(void **state)
{
    (void)state;
    struct desk desk;
    struct engine *engine = (void *)&desk;
    struct err err;
    struct engine_options options = {.model = "/nowhere/at/all", .threads = 1};
    assert_int_equal(engine_open(&engine, &options, &err), ERR_IO);
    assert_says(err, "/nowhere/at/all");
    assert_null(engine);
    options = (struct engine_options){.model = folder.path, .threads = 1, .isa = "abacus"};
    assert_int_equal(engine_open(&engine, &options, &err), ERR_INVALID);
    assert_says(err, "abacus");
    options = (struct engine_options){.model = folder.path, .threads = 1, .kv = "q8"};
    assert_int_equal(engine_open(&engine, &options, &err), ERR_INVALID);
    assert_says(err, "'q8' is no type of keys and values");
    desk_open(&desk, (struct engine_options){.threads = 2, .max_sequences = 5});
    const struct engine_info *info = engine_info(desk.engine);
    assert_string_equal(info->model, folder.path);
    assert_string_equal(info->kind, "parallel");
    assert_int_equal(info->n_predict, 4);
    assert_int_equal(info->vocab, VOCAB);
    assert_int_equal(info->context, CONTEXT);
    assert_int_equal(info->max_sequences, 5);
    assert_int_equal(info->threads, 2);
    struct tokens tokens = {0};
    struct encode_options whole = {.add_special = true};
    assert_int_equal(tokenizer_bos(info->tokenizer), END);
    assert_ok(tokenizer_encode(info->tokenizer, "abcd", 4, &whole, &tokens, &err), err);
    assert_int_equal(tokens.n, 5);
    assert_int_equal(tokens.ids[0], END);
    assert_int_equal(tokens.ids[3], 'c');
    free(tokens.ids);
    desk_close(&desk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening),
        cmocka_unit_test(many_at_once_as_if_alone),
        cmocka_unit_test(a_full_queue_says_busy),
        cmocka_unit_test(a_slot_forgets_the_request_before),
        cmocka_unit_test(news_is_merged_for_a_late_reader),
        cmocka_unit_test(polling_ends_though_news_does_not),
        cmocka_unit_test(closing_at_any_moment),
        cmocka_unit_test(max_tokens_and_context),
        cmocka_unit_test(stop_strings_and_min_tokens),
        cmocka_unit_test(end_token_and_min_tokens),
        cmocka_unit_test(prompt_logprobs_agree),
        cmocka_unit_test(logprobs_are_the_models_own),
        cmocka_unit_test(refuses_bad_numbers),
        cmocka_unit_test(refuses_bad_lists),
        cmocka_unit_test(the_widest_request_is_taken),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
