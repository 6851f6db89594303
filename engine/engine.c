/* The decode thread and the mailbox between it and everybody else. The scheduler does the work;
 * this file moves requests in and events out.
 *
 * Invariant: `lock` guards the job lists, every job's `out` part and `cancelled`, and `stats`. The
 * scheduler and the jobs' other fields belong to the decode thread alone once a job runs. The lock
 * is never held across a step, a notify or a handler. */
#include "engine/engine.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/scheduler.h"

/* What one request has brought and nobody has taken yet. */
struct news {
    struct buf text;
    struct buf tokens; /* struct engine_token, one after another */
    enum engine_finish finish;
    size_t completion_tokens, forwards;
    bool prompt_ready;
};

struct job {
    struct job *next;
    struct engine_request request; /* its pointers lead into `copy` */
    void *copy;
    uint64_t id;
    int slot; /* -1 while it waits */
    bool cancelled, dirty;
    struct news out;             /* filled by the decode thread */
    struct news taken;           /* handed to engine_poll's handler, that thread's alone */
    struct engine_token *prompt; /* taken from the sequence when ready */
    struct engine_speculation speculation;
    struct err error;
};

struct engine {
    struct scheduler scheduler;
    struct engine_info info;
    struct engine_options options;
    char *folder;
    int max_queue;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* work has come, or closing */
    struct job *waiting, **waiting_end;
    struct job **running;           /* (max_sequences) by slot, decode thread's */
    struct job *dirty, **dirty_end; /* have news, in order */
    size_t n_dirty;
    bool news; /* something was put there since the last notify */
    uint64_t next_id;
    bool closing;
    struct engine_stats stats;
    _Atomic double heartbeat;
};

/* ---- jobs ---- */

static void news_release(struct news *n)
{
    buf_release(&n->text);
    buf_release(&n->tokens);
}

static void job_free(struct job *job)
{
    if (!job)
        return;
    news_release(&job->out);
    news_release(&job->taken);
    free(job->prompt);
    free(job->copy);
    free(job);
}

/* Copies what a request points to into one block. */
static struct job *job_new(const struct engine_request *r)
{
    struct job *job = calloc(1, sizeof *job);
    size_t tokens = r->n_tokens * sizeof *r->tokens;
    size_t stops = (size_t)r->n_stops * (sizeof(char *) + sizeof(size_t));
    size_t biases = (size_t)r->n_biases * sizeof *r->biases, bytes = 0;
    for (int i = 0; i < r->n_stops; i++)
        bytes += r->stop_lens[i];
    char *at = job ? malloc(stops + tokens + biases + bytes + 1) : NULL;
    if (!at) {
        free(job);
        return NULL;
    }
    job->copy = at;
    job->request = *r;
    job->slot = -1;
    const char **strings = (const char **)(void *)at;
    size_t *lens = (size_t *)(void *)(strings + r->n_stops);
    int32_t *copy = (int32_t *)(void *)(lens + r->n_stops);
    struct engine_bias *bias = (struct engine_bias *)(void *)(copy + r->n_tokens);
    char *text = (char *)(bias + r->n_biases);
    memcpy(copy, r->tokens, tokens);
    if (biases)
        memcpy(bias, r->biases, biases);
    for (int i = 0; i < r->n_stops; i++) {
        strings[i] = memcpy(text, r->stops[i], r->stop_lens[i]);
        lens[i] = r->stop_lens[i];
        text += r->stop_lens[i];
    }
    job->request.tokens = copy;
    job->request.stops = strings;
    job->request.stop_lens = lens;
    job->request.biases = bias;
    return job;
}

/* Under the lock: the job has news. */
static void mark_dirty(struct engine *e, struct job *job)
{
    e->news = true;
    if (job->dirty)
        return;
    job->dirty = true;
    job->next = NULL;
    *e->dirty_end = job;
    e->dirty_end = &job->next;
    e->n_dirty++;
}

static void finish_unstarted(struct engine *e, struct job *job, enum engine_finish finish)
{
    job->out.finish = finish;
    e->stats.waiting--;
    if (finish == FINISH_CANCELLED)
        e->stats.cancelled++;
    else
        e->stats.errors++;
    mark_dirty(e, job);
}

/* ---- the decode thread ---- */

/* Moves waiting jobs into free slots, and drops those that were cancelled. Under the lock. */
static void admit(struct engine *e)
{
    struct job **link = &e->waiting;
    while (*link) {
        struct job *job = *link;
        bool start = !job->cancelled && !e->closing;
        int slot = start ? scheduler_add(&e->scheduler, &job->request, job->id, &job->error) : -1;
        if (start && slot == ERR_BUSY) {
            link = &job->next;
            continue;
        }
        *link = job->next;
        if (!*link)
            e->waiting_end = link;
        if (slot >= 0) {
            job->slot = slot;
            e->running[slot] = job;
            e->stats.waiting--;
            e->stats.running++;
        } else {
            finish_unstarted(e, job, start ? FINISH_ERROR : FINISH_CANCELLED);
        }
    }
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

/* Ends the sequence of a slot. Under the lock. */
static void end_job(struct engine *e, struct job *job, enum engine_finish finish)
{
    struct sequence *q = &e->scheduler.sequences[job->slot];
    job->out.finish = finish;
    job->speculation = q->speculation;
    add_speculation(&e->stats.speculation, &q->speculation);
    e->stats.running--;
    e->stats.cancelled += finish == FINISH_CANCELLED;
    e->stats.errors += finish == FINISH_ERROR;
    e->stats.finished += finish != FINISH_CANCELLED && finish != FINISH_ERROR;
    e->running[job->slot] = NULL;
    scheduler_remove(&e->scheduler, job->slot);
    mark_dirty(e, job);
}

/* Moves a sequence's news into its job. Under the lock. */
static void collect(struct engine *e, int slot)
{
    struct job *job = e->running[slot];
    struct sequence *q = &e->scheduler.sequences[slot];
    if (job->cancelled || e->closing) {
        end_job(e, job, FINISH_CANCELLED);
        return;
    }
    size_t before = job->out.completion_tokens;
    job->out.completion_tokens = (size_t)(q->n_tokens - q->n_prompt);
    job->out.forwards = q->forwards;
    e->stats.generation_tokens += job->out.completion_tokens - before;
    buf_append(&job->out.text, q->out.data, q->out.len);
    buf_append(&job->out.tokens, q->fresh, (size_t)q->n_fresh * sizeof *q->fresh);
    if (q->prompt_ready) {
        job->prompt = q->prompt;
        q->prompt = NULL;
        job->out.prompt_ready = true;
    }
    if (q->n_fresh || q->out.len || q->prompt_ready)
        mark_dirty(e, job);
    enum engine_finish finish = q->finish;
    if (job->out.text.failed || job->out.tokens.failed || q->out.failed || q->text.held.failed) {
        finish = FINISH_ERROR;
        err_set(&job->error, ERR_MEMORY, "memory ran out while collecting the answer");
    }
    scheduler_collected(&e->scheduler, slot);
    if (finish)
        end_job(e, job, finish);
}

static void update_stats(struct engine *e)
{
    const struct scheduler *s = &e->scheduler;
    double used = 0;
    for (int i = 0; i < s->max_sequences; i++)
        used += s->sequences[i].active ? s->sequences[i].n_cached : 0;
    e->stats.kv_used = used / ((double)s->max_sequences * s->context);
    e->stats.forwards = s->forwards;
    e->stats.step_seconds_sum = s->step_seconds;
}

/* Sleeps until there is work or news. Under the lock. */
static void wait_for_work(struct engine *e)
{
    struct timespec until;
    while (!e->closing && !e->stats.running && !e->news) {
        atomic_store(&e->heartbeat, clock_seconds());
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 1;
        pthread_cond_timedwait(&e->wake, &e->lock, &until);
        admit(e);
    }
}

static void *decode_thread(void *arg)
{
    struct engine *e = arg;
    pthread_setname_np(pthread_self(), "decode"); /* for top, and for tests that stop it */
    for (;;) {
        pthread_mutex_lock(&e->lock);
        admit(e);
        wait_for_work(e);
        bool step = e->stats.running > 0, end = e->closing && !step && !e->waiting;
        pthread_mutex_unlock(&e->lock);
        atomic_store(&e->heartbeat, clock_seconds());
        if (step)
            scheduler_step(&e->scheduler);
        pthread_mutex_lock(&e->lock);
        for (int i = 0; i < e->scheduler.max_sequences; i++)
            if (e->running[i])
                collect(e, i);
        update_stats(e);
        bool news = e->news;
        e->news = false;
        pthread_mutex_unlock(&e->lock);
        if (news && e->options.notify)
            e->options.notify(e->options.notify_arg);
        if (end)
            return NULL;
    }
}

/* ---- life ---- */

static int start(struct engine *e, struct err *err)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->wake, &attr);
    pthread_condattr_destroy(&attr);
    atomic_store(&e->heartbeat, clock_seconds());
    int rc = pthread_create(&e->thread, NULL, decode_thread, e);
    if (rc)
        return err_set(err, ERR_IO, "the decode thread could not be started: %s", strerror(rc));
    e->started = true;
    return 0;
}

int engine_open(struct engine **out, const struct engine_options *o, struct err *err)
{
    struct engine *e = calloc(1, sizeof *e);
    *out = NULL;
    if (!e)
        return err_set(err, ERR_MEMORY, "no memory for the engine");
    e->options = *o;
    e->max_queue = o->max_queue > 0 ? o->max_queue : 256;
    e->waiting_end = &e->waiting;
    e->dirty_end = &e->dirty;
    e->next_id = 1;
    struct scheduler_options so = {o->model,        o->threads, o->max_sequences, o->context,
                                   o->prompt_chunk, o->isa,     o->weights,       o->kv};
    int rc = scheduler_init(&e->scheduler, &so, err);
    if (rc) {
        free(e);
        return rc;
    }
    const struct scheduler *s = &e->scheduler;
    const struct config *c = &s->model.config;
    e->folder = strdup(o->model);
    e->running = calloc((size_t)s->max_sequences, sizeof *e->running);
    e->info = (struct engine_info){.model = e->folder,
                                   .kind = head_kind_name(c->kind),
                                   .isa = kernels.name,
                                   .n_predict = c->n_predict,
                                   .vocab = c->vocab,
                                   .context = s->context,
                                   .max_sequences = s->max_sequences,
                                   .bos = c->bos,
                                   .eos = c->eos,
                                   .parameters = s->model.params.count,
                                   .threads = s->team.n};
    if (!e->folder || !e->running)
        rc = err_set(err, ERR_MEMORY, "no memory for %d sequences", s->max_sequences);
    if (!rc)
        rc = start(e, err);
    if (rc)
        engine_close(e);
    else
        *out = e;
    return rc;
}

void engine_close(struct engine *e)
{
    if (!e)
        return;
    if (e->started) {
        pthread_mutex_lock(&e->lock);
        e->closing = true;
        pthread_cond_signal(&e->wake);
        pthread_mutex_unlock(&e->lock);
        pthread_join(e->thread, NULL);
        pthread_cond_destroy(&e->wake);
        pthread_mutex_destroy(&e->lock);
    }
    while (e->dirty) {
        struct job *job = e->dirty;
        e->dirty = job->next;
        job_free(job);
    }
    scheduler_release(&e->scheduler);
    free(e->running);
    free(e->folder);
    free(e);
}

const struct engine_info *engine_info(const struct engine *e)
{
    return &e->info;
}

size_t engine_encode(const struct engine *e, const char *text, size_t len, int32_t *tokens,
                     size_t max)
{
    return tokenizer_encode(&e->scheduler.tokenizer, text, len, tokens, max);
}

const char *engine_token_bytes(const struct engine *e, int32_t token, size_t *len)
{
    return tokenizer_bytes(&e->scheduler.tokenizer, token, len);
}

/* ---- requests in ---- */

int engine_submit(struct engine *e, const struct engine_request *request, uint64_t *id,
                  struct err *err)
{
    /* scheduler_check reads what never changes while the engine runs. */
    int rc = scheduler_check(&e->scheduler, request, err);
    if (rc)
        return rc;
    struct job *job = job_new(request);
    if (!job)
        return err_set(err, ERR_MEMORY, "no memory for a request of %zu tokens", request->n_tokens);
    pthread_mutex_lock(&e->lock);
    if (e->stats.waiting >= e->max_queue || e->closing) {
        rc = err_set(err, ERR_BUSY, "%d requests are waiting already: try again later",
                     e->stats.waiting);
    } else {
        *id = job->id = e->next_id++;
        *e->waiting_end = job;
        e->waiting_end = &job->next;
        e->stats.waiting++;
        e->stats.requests++;
        e->stats.prompt_tokens += request->n_tokens;
        pthread_cond_signal(&e->wake);
    }
    pthread_mutex_unlock(&e->lock);
    if (rc)
        job_free(job);
    return rc;
}

void engine_cancel(struct engine *e, uint64_t id)
{
    pthread_mutex_lock(&e->lock);
    for (struct job *job = e->waiting; job; job = job->next)
        if (job->id == id)
            job->cancelled = true;
    for (int i = 0; i < e->scheduler.max_sequences; i++)
        if (e->running[i] && e->running[i]->id == id)
            e->running[i]->cancelled = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

/* ---- events out ---- */

/* Swaps the job's news into its `taken` part, keeping the buffers of both for later. */
static void take_news(struct job *job)
{
    struct news old = job->taken;
    job->taken = job->out;
    job->out = old;
    job->out.text.len = job->out.tokens.len = 0;
    job->out.finish = FINISH_NONE;
    job->out.prompt_ready = false;
    job->out.completion_tokens = job->taken.completion_tokens;
    job->out.forwards = job->taken.forwards;
}

static void hand_over(struct job *job, void (*handle)(void *, const struct engine_event *),
                      void *arg)
{
    const struct news *n = &job->taken;
    const struct engine_event event = {
        .id = job->id,
        .user = job->request.user,
        .text = n->text.len ? n->text.data : "",
        .text_len = n->text.len,
        .tokens = (const struct engine_token *)(const void *)n->tokens.data,
        .n_tokens = n->tokens.len / sizeof(struct engine_token),
        .prompt = n->prompt_ready ? job->prompt : NULL,
        .n_prompt = n->prompt_ready ? job->request.n_tokens : 0,
        .finish = n->finish,
        .error = n->finish == FINISH_ERROR ? job->error.text : NULL,
        .prompt_tokens = job->request.n_tokens,
        .completion_tokens = n->completion_tokens,
        .forwards = n->forwards,
        .speculation = n->finish ? &job->speculation : NULL,
    };
    handle(arg, &event);
}

size_t engine_poll(struct engine *e, void (*handle)(void *arg, const struct engine_event *),
                   void *arg)
{
    /* What comes meanwhile is left for the next call, or a decode thread faster than the handler
     * would keep the reader here. */
    size_t waiting = 0;
    for (size_t n = 0;; n++) {
        pthread_mutex_lock(&e->lock);
        if (n == 0)
            waiting = e->n_dirty;
        struct job *job = n < waiting ? e->dirty : NULL;
        if (job) {
            e->n_dirty--;
            e->dirty = job->next;
            if (!e->dirty)
                e->dirty_end = &e->dirty;
            job->dirty = false;
            take_news(job);
        }
        pthread_mutex_unlock(&e->lock);
        if (!job)
            return n;
        bool last = job->taken.finish != FINISH_NONE;
        hand_over(job, handle, arg);
        if (last) /* it left the scheduler before, so nobody else knows it */
            job_free(job);
    }
}

void engine_stats(struct engine *e, struct engine_stats *stats)
{
    pthread_mutex_lock(&e->lock);
    *stats = e->stats;
    pthread_mutex_unlock(&e->lock);
    stats->heartbeat_age = clock_seconds() - atomic_load(&e->heartbeat);
}
