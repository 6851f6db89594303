/* Conversations that a model holds with itself: see own_text.h. */
#include "train/own_text.h"

#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "text/chat_frame.h"
#include "text/tokens.h"
#include "train/repeats.h"
#include "text/text_file.h"

#define QUESTION_LEAST 3 /* tokens of a question that was written */
#define SEEN_MOST 0.5    /* of a text's runs, texts before it may have had */
#define AHEAD 4          /* texts begun behind one that is not finished yet, per sequence */
#define REPORT_SECONDS 10

enum { STREAM_SEED, STREAM_GREEDY, STREAM_OPENED, STREAM_OPENING };

enum stage { FREE, ASKING, ANSWERING, DONE };

/* One conversation. */
struct talk {
    enum stage stage;
    uint32_t number;
    struct tokens tokens;
    size_t prompt;             /* tokens before the answer */
    bool ended;                /* the request under way has */
    enum engine_finish finish; /* how */
    bool odd;                  /* is to be dropped */
};

struct writer {
    const struct own_text_options *o;
    struct engine *engine;
    const struct engine_info *info;
    json_t *openings, *prompts;
    struct chat_frame frame; /* what stands around a question */
    bool chats;
    struct talk *talks; /* (n_talks) number n is in n % n_talks */
    int n_talks, running;
    uint32_t next, first, last; /* to begin, to be written; not to be begun any more */
    struct text_file old;
    struct text_writer out;
    struct seen_text seen;
    size_t written, begun_with, texts, loops, repeats, odd;
    pthread_mutex_t lock;
    pthread_cond_t news;
    bool has_news;
    struct err *err;
    int rc; /* of the events */
};

/* ---- conversations ---- */

static bool ends(const struct writer *w, int32_t token)
{
    int n;
    const int32_t *list = tokenizer_ends(w->info->tokenizer, &n);
    for (int i = 0; i < n; i++)
        if (list[i] == token)
            return true;
    return false;
}

static double chance(const struct writer *w, int stream, uint32_t number)
{
    return rng_uniform((uint64_t)w->o->seed, (uint64_t)stream, number);
}

static int submit(struct writer *w, struct talk *t, enum stage stage, struct err *err)
{
    const struct own_text_options *o = w->o;
    bool answers = stage == ANSWERING, greedy = chance(w, STREAM_GREEDY, t->number) < o->greedy;
    double temperature = !answers ? o->spread : greedy ? 0 : o->temperature;
    struct engine_request request = {
        .tokens = t->tokens.ids,
        .n_tokens = t->tokens.n,
        .max_tokens = answers ? o->answer : o->question,
        .temperature = (float)temperature,
        .top_p = 1,
        .repetition_penalty = 1,
        .seed = rng_bits((uint64_t)o->seed, STREAM_SEED, 2 * (uint64_t)t->number + answers),
        .speculation = SPECULATION_AUTO,
        .user = t->number,
    };
    uint64_t id;
    t->stage = stage;
    t->ended = false;
    return engine_submit(w->engine, &request, &id, err);
}

static int add_string(struct writer *w, struct talk *t, const json_t *string, struct err *err)
{
    struct encode_options plain = {0};
    return tokenizer_encode(w->info->tokenizer, json_string_value(string),
                            json_string_length(string), &plain, &t->tokens, err);
}

static int answer(struct writer *w, struct talk *t, struct err *err)
{
    int rc = tokens_append(&t->tokens, w->frame.behind.ids, w->frame.behind.n, err);
    t->prompt = t->tokens.n;
    return rc ? rc : submit(w, t, ANSWERING, err);
}

static int begin(struct writer *w, struct err *err)
{
    struct talk *t = &w->talks[w->next % (uint32_t)w->n_talks];
    t->number = w->next++;
    t->tokens.n = 0;
    t->odd = false;
    w->running++;
    int rc = tokens_append(&t->tokens, w->frame.before.ids, w->frame.before.n, err);
    if (rc)
        return rc;
    if (w->prompts) {
        rc = add_string(w, t, json_array_get(w->prompts, t->number), err);
        return rc ? rc : answer(w, t, err);
    }
    size_t n = json_array_size(w->openings);
    if (n && chance(w, STREAM_OPENED, t->number) < w->o->opened) {
        size_t i = rng_below((uint64_t)w->o->seed, STREAM_OPENING, t->number, n);
        if ((rc = add_string(w, t, json_array_get(w->openings, i), err)))
            return rc;
    }
    return w->chats ? submit(w, t, ASKING, err) : answer(w, t, err);
}

/* The question is there. */
static int asked(struct writer *w, struct talk *t, struct err *err)
{
    bool ended = t->finish == FINISH_STOP;
    if (ended && ends(w, t->tokens.ids[t->tokens.n - 1]))
        t->tokens.n--;
    t->odd = !ended || t->tokens.n < w->frame.before.n + QUESTION_LEAST;
    for (size_t i = w->frame.before.n; i < t->tokens.n; i++) {
        size_t len;
        tokenizer_bytes(w->info->tokenizer, -1, t->tokens.ids[i], &len);
        t->odd |= !len; /* a control token: not what a user would write */
    }
    if (!t->odd)
        return answer(w, t, err);
    t->stage = DONE;
    w->running--;
    return 0;
}

/* Writes a finished text, or that it was dropped. */
static int finish(struct writer *w, struct talk *t, struct err *err)
{
    struct text_record record = {t->number, (uint32_t)t->prompt, (uint32_t)t->tokens.n,
                                 t->tokens.ids};
    const int32_t *own = t->tokens.ids + w->frame.before.n;
    size_t n = t->tokens.n - w->frame.before.n, *dropped = NULL;
    t->stage = FREE;
    if (t->odd)
        dropped = &w->odd;
    else if (text_loops(own, n))
        dropped = &w->loops;
    else if (seen_text_share(&w->seen, own, n) > SEEN_MOST)
        dropped = &w->repeats;
    if (dropped) {
        ++*dropped;
        record.prompt = record.n = 0;
    } else if (seen_text_add(&w->seen, own, n, err)) {
        return ERR_MEMORY;
    }
    w->texts += !dropped;
    w->written += record.n;
    return text_writer_add(&w->out, &record, err);
}

static bool enough(const struct writer *w)
{
    return w->written >= w->o->tokens;
}

/* What can be done without waiting: in the order of their numbers, so that the file does not depend
 * on which was finished first. */
static int advance(struct writer *w, struct err *err)
{
    int rc = w->rc;
    for (uint32_t number = w->first; !rc && number < w->next; number++) {
        struct talk *t = &w->talks[number % (uint32_t)w->n_talks];
        if (!t->ended || (t->stage != ASKING && t->stage != ANSWERING))
            continue;
        if (t->stage == ASKING) {
            rc = asked(w, t, err);
        } else {
            t->stage = DONE;
            w->running--;
        }
    }
    for (; !rc && w->first < w->next && !enough(w); w->first++) {
        struct talk *t = &w->talks[w->first % (uint32_t)w->n_talks];
        if (t->stage != DONE)
            break;
        rc = finish(w, t, err);
    }
    while (!rc && w->running < w->o->sequences && w->next < w->last &&
           w->next - w->first < (uint32_t)w->n_talks)
        rc = begin(w, err);
    return rc;
}

/* ---- the engine ---- */

static void notify(void *arg)
{
    struct writer *w = arg;
    pthread_mutex_lock(&w->lock);
    w->has_news = true;
    pthread_cond_signal(&w->news);
    pthread_mutex_unlock(&w->lock);
}

/* Waits for news, but not for long: someone may have asked to stop. */
static void wait_news(struct writer *w)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec++;
    pthread_mutex_lock(&w->lock);
    while (!w->has_news && !pthread_cond_timedwait(&w->news, &w->lock, &until))
        ;
    w->has_news = false;
    pthread_mutex_unlock(&w->lock);
}

static void handle(void *arg, const struct engine_event *event)
{
    struct writer *w = arg;
    struct talk *t = &w->talks[event->user % (uint64_t)w->n_talks];
    for (size_t i = 0; i < event->n_tokens && !w->rc; i++)
        w->rc = tokens_push(&t->tokens, event->tokens[i].token, w->err);
    if (event->finish == FINISH_NONE)
        return;
    t->ended = true;
    t->finish = event->finish;
    if (event->finish == FINISH_ERROR && !w->rc)
        w->rc = err_set(w->err, ERR_INVALID, "text %u: %s", t->number, event->error);
}

/* ---- the run ---- */

static void report(const struct writer *w, double seconds)
{
    size_t made = w->written - w->begun_with;
    double rate = (double)made / seconds, left = (w->o->tokens - (double)w->written) / rate;
    fprintf(stderr,
            "%zu tokens in %zu texts, %.0f tokens/s, ETA %dh%02dm; dropped: %zu in circles, %zu "
            "said before, %zu without a question\n",
            w->written, w->texts, rate, made ? (int)(left / 3600) : 0,
            made ? (int)(left / 60) % 60 : 0, w->loops, w->repeats, w->odd);
}

static int write_all(struct writer *w, struct err *err)
{
    double start = clock_seconds(), last = start;
    int rc = 0;
    while (!(rc = advance(w, err)) && !enough(w) && !w->o->stop() &&
           (w->running || w->first < w->next)) {
        wait_news(w);
        engine_poll(w->engine, handle, w);
        double now = clock_seconds();
        if (now - last < REPORT_SECONDS)
            continue;
        report(w, now - start);
        last = now;
    }
    report(w, clock_seconds() - start);
    return rc;
}

static int read_list(const char *path, json_t **list, struct err *err)
{
    json_error_t where;
    size_t i;
    json_t *item;
    if (!path)
        return 0;
    *list = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    if (!*list)
        return err_set(err, ERR_INVALID, "%s could not be read: %s (line %d)", path, where.text,
                       where.line);
    bool good = json_is_array(*list) && json_array_size(*list);
    json_array_foreach(*list, i, item) good = good && json_is_string(item);
    return good ? 0 : err_set(err, ERR_INVALID, "%s must be a list of strings", path);
}

/* What stands in the file already. */
static int go_on(struct writer *w, struct err *err)
{
    size_t at = 0;
    struct text_record r;
    int rc = text_file_read(&w->old, w->o->out, err);
    if (rc)
        return rc;
    if (w->old.vocab != w->info->vocab)
        return err_set(err, ERR_INVALID,
                       "%s is of a vocabulary of %d tokens, the model has %d: name another --out",
                       w->o->out, w->old.vocab, w->info->vocab);
    while (!rc && text_file_next(&w->old, &at, &r)) {
        w->texts += r.n > 0;
        if (r.n > w->frame.before.n)
            rc =
                seen_text_add(&w->seen, r.tokens + w->frame.before.n, r.n - w->frame.before.n, err);
    }
    w->next = w->first = w->old.next;
    w->begun_with = w->written = w->old.n_tokens;
    return rc;
}

static int open_engine(struct writer *w, struct err *err)
{
    const struct own_text_options *o = w->o;
    struct engine_options options = {.model = o->model,
                                     .threads = o->threads,
                                     .isa = o->isa,
                                     .max_sequences = o->sequences,
                                     .max_queue = w->n_talks,
                                     .notify = notify,
                                     .notify_arg = w};
    int rc = engine_open(&w->engine, &options, err);
    if (rc)
        return rc;
    w->info = engine_info(w->engine);
    log_info("%s: %d sequences, %d threads, %s kernels", o->model, o->sequences, w->info->threads,
             w->info->isa);
    return 0;
}

static int run(struct writer *w, struct err *err)
{
    const struct own_text_options *o = w->o;
    int rc;
    w->talks = calloc((size_t)w->n_talks, sizeof *w->talks);
    if (!w->talks)
        return err_set(err, ERR_MEMORY, "no memory for %d conversations", w->n_talks);
    if ((rc = read_list(o->openings, &w->openings, err)) ||
        (rc = read_list(o->prompts, &w->prompts, err)) || (rc = open_engine(w, err)) ||
        (rc = chat_frame_init(&w->frame, w->info->tokenizer, w->info->chat_template,
                              w->info->chat_template_len, err)) ||
        (o->resume && (rc = go_on(w, err))) ||
        (rc = text_writer_open(&w->out, o->out, w->info->vocab, o->resume ? &w->old : NULL, err)))
        return rc;
    w->chats = w->info->chat_template_len > 0;
    w->last = w->prompts ? (uint32_t)json_array_size(w->prompts) : UINT32_MAX;
    rc = write_all(w, err);
    int closed = text_writer_close(&w->out, rc ? NULL : err);
    return rc ? rc : closed;
}

int own_text_write(const struct own_text_options *o, struct err *err)
{
    struct writer w = {.o = o, .n_talks = (1 + AHEAD) * o->sequences, .err = err};
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.news, NULL);
    int rc = run(&w, err);
    engine_close(w.engine);
    for (int i = 0; w.talks && i < w.n_talks; i++)
        free(w.talks[i].tokens.ids);
    free(w.talks);
    chat_frame_release(&w.frame);
    json_decref(w.openings);
    json_decref(w.prompts);
    text_file_release(&w.old);
    seen_text_release(&w.seen);
    pthread_cond_destroy(&w.news);
    pthread_mutex_destroy(&w.lock);
    return rc;
}
