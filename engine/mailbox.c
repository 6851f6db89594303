/* Requests in, events out. Invariant: `lock` guards everything in struct mailbox, and of a job its
 * links, `cancelled`, `dirty` and `out`; what else is in a job belongs to the decode thread while
 * it runs, and to the reader after its last event. */
#include "engine/mailbox.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "engine/request.h"

#define QUEUE 256 /* waiting requests, when nobody says */

void mailbox_init(struct mailbox *m, int max_queue)
{
    pthread_condattr_t attr;
    memset(m, 0, sizeof *m);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->wake, &attr);
    pthread_condattr_destroy(&attr);
    m->max_queue = max_queue > 0 ? max_queue : QUEUE;
    m->waiting_end = &m->waiting;
    m->dirty_end = &m->dirty;
    m->next_id = 1;
}

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
    request_free(job->request);
    free(job);
}

void mailbox_release(struct mailbox *m)
{
    while (m->dirty) {
        struct job *job = m->dirty;
        m->dirty = job->next;
        job_free(job);
    }
    pthread_cond_destroy(&m->wake);
    pthread_mutex_destroy(&m->lock);
}

/* ---- any thread: requests in ---- */

/* Under the lock. NULL when memory ran out. */
static struct client *find_client(struct mailbox *m, uint64_t id)
{
    struct client *c = m->clients;
    while (c && c->id != id)
        c = c->next;
    if (!c && (c = calloc(1, sizeof *c))) {
        c->id = id;
        c->next = m->clients;
        m->clients = c;
    }
    return c;
}

/* Under the lock: it has lost a request, perhaps its last. */
static void drop_client(struct mailbox *m, struct client *client)
{
    struct client **link = &m->clients;
    if (client->waiting || client->running)
        return;
    while (*link != client)
        link = &(*link)->next;
    *link = client->next;
    free(client);
}

/* Under the lock. A queue that is full of others' requests still has room for one of each client,
 * up to a quarter more. */
static bool has_room(const struct mailbox *m, const struct client *client)
{
    int most = m->max_queue + (client->waiting ? 0 : 1 + m->max_queue / 4);
    return m->stats.waiting < most;
}

int mailbox_submit(struct mailbox *m, const struct engine_request *request, uint64_t *id,
                   struct err *err)
{
    int rc = 0;
    struct job *job = calloc(1, sizeof *job);
    if (job)
        job->request = request_copy(request);
    if (!job || !job->request) {
        job_free(job);
        return err_set(err, ERR_MEMORY, "no memory for a request of %zu tokens", request->n_tokens);
    }
    pthread_mutex_lock(&m->lock);
    job->client = find_client(m, request->client);
    if (!job->client) {
        rc = err_set(err, ERR_MEMORY, "no memory for a request of %zu tokens", request->n_tokens);
    } else if (!has_room(m, job->client) || m->closing) {
        rc = err_set(err, ERR_BUSY, "%d requests are waiting already: try again later",
                     m->stats.waiting);
    } else {
        *id = job->id = m->next_id++;
        job->came = clock_seconds();
        *m->waiting_end = job;
        m->waiting_end = &job->next;
        job->client->waiting++;
        m->stats.waiting++;
        m->stats.requests++;
        m->stats.prompt_tokens += request->n_tokens;
        m->attention = true;
        pthread_cond_signal(&m->wake);
    }
    if (rc && job->client)
        drop_client(m, job->client);
    pthread_mutex_unlock(&m->lock);
    if (rc)
        job_free(job);
    return rc;
}

/* Under the lock. NULL: it has ended, or never was. */
static struct job *find_job(struct mailbox *m, uint64_t id)
{
    for (struct job *job = m->waiting; job; job = job->next)
        if (job->id == id)
            return job;
    for (struct job *job = m->running; job; job = job->next_running)
        if (job->id == id)
            return job;
    return NULL;
}

void mailbox_cancel(struct mailbox *m, uint64_t id)
{
    pthread_mutex_lock(&m->lock);
    struct job *job = find_job(m, id);
    if (job)
        job->cancelled = true;
    m->attention = true;
    pthread_cond_signal(&m->wake);
    pthread_mutex_unlock(&m->lock);
}

void mailbox_pause(struct mailbox *m, uint64_t id, bool paused)
{
    pthread_mutex_lock(&m->lock);
    struct job *job = find_job(m, id);
    if (job)
        job->paused = paused;
    m->attention = true;
    pthread_cond_signal(&m->wake);
    pthread_mutex_unlock(&m->lock);
}

void mailbox_close(struct mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    m->closing = true;
    pthread_cond_signal(&m->wake);
    pthread_mutex_unlock(&m->lock);
}

/* ---- any thread: events out ---- */

/* Swaps the job's news into its `taken` part, keeping the buffers of both for later. */
static void take_news(struct job *job)
{
    struct news old = job->taken;
    job->taken = job->out;
    job->out = old;
    job->out.text.len = job->out.tokens.len = 0;
    job->out.finish = FINISH_NONE;
    job->out.prompt_ready = false;
    job->out.progress = job->taken.progress;
}

static void hand_over(struct job *job, void (*handle)(void *, const struct engine_event *),
                      void *arg)
{
    const struct news *n = &job->taken;
    const struct engine_event event = {
        .id = job->id,
        .user = job->request->user,
        .text = n->text.len ? n->text.data : "",
        .text_len = n->text.len,
        .tokens = (const struct engine_token *)(const void *)n->tokens.data,
        .n_tokens = n->tokens.len / sizeof(struct engine_token),
        .prompt = n->prompt_ready ? job->prompt : NULL,
        .n_prompt = n->prompt_ready ? job->request->n_tokens : 0,
        .finish = n->finish,
        .stop = n->finish == FINISH_STOP ? n->stop : 0,
        .error = n->finish == FINISH_ERROR ? job->error.text : NULL,
        .prompt_tokens = job->request->n_tokens,
        .completion_tokens = n->progress.completion_tokens,
        .cached_tokens = n->progress.cached_tokens,
        .forwards = n->progress.forwards,
        .decode_seconds = n->progress.decode_seconds,
        .plain_seconds = n->progress.plain_seconds,
        .queued = job->queued,
        .speculation = n->finish ? &job->speculation : NULL,
    };
    handle(arg, &event);
}

size_t mailbox_poll(struct mailbox *m, void (*handle)(void *arg, const struct engine_event *),
                    void *arg)
{
    /* What comes meanwhile is left for the next call, or a decode thread faster than the handler
     * would keep the reader here. */
    size_t waiting = 0;
    for (size_t n = 0;; n++) {
        pthread_mutex_lock(&m->lock);
        if (n == 0)
            waiting = m->n_dirty;
        struct job *job = n < waiting ? m->dirty : NULL;
        if (job) {
            m->n_dirty--;
            m->dirty = job->next;
            if (!m->dirty)
                m->dirty_end = &m->dirty;
            job->dirty = false;
            take_news(job);
        }
        pthread_mutex_unlock(&m->lock);
        if (!job)
            return n;
        bool last = job->taken.finish != FINISH_NONE;
        hand_over(job, handle, arg);
        if (last) /* nobody else knows it any more */
            job_free(job);
    }
}

void mailbox_stats(struct mailbox *m, struct engine_stats *stats)
{
    pthread_mutex_lock(&m->lock);
    *stats = m->stats;
    pthread_mutex_unlock(&m->lock);
}

/* ---- the decode thread ---- */

/* Under the lock: the job has news. */
static void mark_dirty(struct mailbox *m, struct job *job)
{
    m->news = true;
    if (job->dirty)
        return;
    job->dirty = true;
    job->next = NULL;
    *m->dirty_end = job;
    m->dirty_end = &job->next;
    m->n_dirty++;
}

/* Under the lock: the job has brought its last news. */
static void end(struct mailbox *m, struct job *job, enum engine_finish finish)
{
    job->out.finish = finish;
    m->stats.cancelled += finish == FINISH_CANCELLED;
    m->stats.errors += finish == FINISH_ERROR;
    m->stats.finished += finish != FINISH_CANCELLED && finish != FINISH_ERROR;
    struct job **link = &m->running;
    while (*link != job)
        link = &(*link)->next_running;
    *link = job->next_running;
    job->client->running--;
    drop_client(m, job->client);
    job->client = NULL;
    mark_dirty(m, job);
}

bool mailbox_wait(struct mailbox *m)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 1;
    pthread_mutex_lock(&m->lock);
    if (!m->closing && !m->attention && !m->news)
        pthread_cond_timedwait(&m->wake, &m->lock, &until);
    m->attention = false;
    bool closing = m->closing;
    pthread_mutex_unlock(&m->lock);
    return !closing;
}

/* Under the lock: the job at *link leaves the queue for the decode thread. */
static struct job *leave_queue(struct mailbox *m, struct job **link)
{
    struct job *job = *link;
    *link = job->next;
    if (!*link)
        m->waiting_end = link;
    m->stats.waiting--;
    job->client->waiting--;
    job->client->running++;
    job->queued = clock_seconds() - job->came;
    job->next_running = m->running;
    m->running = job;
    return job;
}

struct job *mailbox_take(struct mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    for (struct job **link = &m->waiting; *link;) {
        if ((*link)->cancelled || m->closing)
            end(m, leave_queue(m, link), FINISH_CANCELLED);
        else
            link = &(*link)->next;
    }
    struct job **first = &m->waiting;
    for (struct job **link = &m->waiting; *link; link = &(*link)->next)
        if ((*link)->client->running < (*first)->client->running)
            first = link;
    struct job *job = *first ? leave_queue(m, first) : NULL;
    pthread_mutex_unlock(&m->lock);
    return job;
}

void mailbox_return(struct mailbox *m, struct job *job)
{
    pthread_mutex_lock(&m->lock);
    m->running = job->next_running; /* mailbox_take put it there, and nobody else does */
    job->next = m->waiting;
    m->waiting = job;
    if (!job->next)
        m->waiting_end = &job->next;
    m->stats.waiting++;
    job->client->waiting++;
    job->client->running--;
    pthread_mutex_unlock(&m->lock);
}

bool mailbox_cancelled(struct mailbox *m, const struct job *job, bool *paused)
{
    pthread_mutex_lock(&m->lock);
    bool cancelled = job->cancelled || m->closing;
    *paused = job->paused;
    pthread_mutex_unlock(&m->lock);
    return cancelled;
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

bool mailbox_deliver(struct mailbox *m, struct job *job, const struct delivery *d)
{
    enum engine_finish finish = d->finish;
    pthread_mutex_lock(&m->lock);
    m->stats.generation_tokens +=
        d->progress.completion_tokens - job->out.progress.completion_tokens;
    job->out.progress = d->progress;
    job->out.stop = d->stop;
    buf_append(&job->out.text, d->text, d->text_len);
    buf_append(&job->out.tokens, d->tokens, d->n_tokens * sizeof *d->tokens);
    if (d->prompt) {
        job->prompt = d->prompt;
        job->out.prompt_ready = true;
    }
    if (job->out.text.failed || job->out.tokens.failed) {
        finish = FINISH_ERROR;
        err_set(&job->error, ERR_MEMORY, "memory ran out while collecting the answer");
    }
    if (d->n_tokens || d->text_len || d->prompt)
        mark_dirty(m, job);
    if (finish) {
        if (d->speculation) {
            job->speculation = *d->speculation;
            add_speculation(&m->stats.speculation, d->speculation);
        }
        end(m, job, finish);
    }
    pthread_mutex_unlock(&m->lock);
    return finish != FINISH_NONE;
}

bool mailbox_news(struct mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    bool news = m->news;
    m->news = false;
    pthread_mutex_unlock(&m->lock);
    return news;
}

void mailbox_publish(struct mailbox *m, const struct engine_stats *stats)
{
    pthread_mutex_lock(&m->lock);
    struct engine_stats own = m->stats;
    m->stats = *stats;
    m->stats.waiting = own.waiting;
    m->stats.requests = own.requests;
    m->stats.finished = own.finished;
    m->stats.cancelled = own.cancelled;
    m->stats.errors = own.errors;
    m->stats.prompt_tokens = own.prompt_tokens;
    m->stats.generation_tokens = own.generation_tokens;
    m->stats.speculation = own.speculation;
    pthread_mutex_unlock(&m->lock);
}
