/* The decode thread: requests go from the mailbox into the scheduler, a step at a time, and what
 * their sequences bring goes back. */
#include "engine/engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/mailbox.h"
#include "engine/request.h"
#include "engine/scheduler.h"

/* Waits of a second each after which an idle engine gives the memory of its pages back. */
#define IDLE_WAITS 3
#define MIDDLING 256.0 /* positions of a text whose steps' costs are told */

struct engine {
    struct runtime runtime;
    struct scheduler scheduler;
    struct mailbox mailbox;
    struct engine_info info;
    struct engine_options options;
    char *folder;
    struct job **running; /* (max_sequences) by slot; the decode thread's */
    int n_running;
    int dead; /* the head that was last reported, 0 = none */
    pthread_t thread;
    bool started;
    _Atomic double heartbeat;
};

/* ---- the decode thread ---- */

static void fail(struct engine *e, struct job *job)
{
    const struct delivery none = {.finish = FINISH_ERROR};
    mailbox_deliver(&e->mailbox, job, &none);
}

/* Moves waiting requests into free slots, in their order. */
static void admit(struct engine *e)
{
    struct job *job;
    while ((job = mailbox_take(&e->mailbox))) {
        int slot = scheduler_add(&e->scheduler, job->request, &job->error);
        if (slot == ERR_BUSY) {
            mailbox_return(&e->mailbox, job);
            return;
        }
        if (slot < 0) {
            fail(e, job);
            continue;
        }
        e->running[slot] = job;
        e->n_running++;
    }
}

/* Moves what a sequence has brought into the mailbox. */
static void collect(struct engine *e, int slot)
{
    struct job *job = e->running[slot];
    struct sequence *q = &e->scheduler.sequences[slot];
    struct delivery d = {.progress = {.completion_tokens = (size_t)(q->n_tokens - q->n_prompt),
                                      .cached_tokens = q->reused > 0 ? (size_t)q->reused : 0,
                                      .forwards = q->forwards,
                                      .decode_seconds = q->decode_seconds,
                                      .plain_seconds = q->plain_seconds},
                         .finish = q->finish,
                         .stop = q->text.stop,
                         .speculation = &q->figures,
                         .text = q->out.data,
                         .text_len = q->out.len,
                         .tokens = q->fresh,
                         .n_tokens = (size_t)q->n_fresh};
    bool cancelled = mailbox_cancelled(&e->mailbox, job, &q->paused);
    if (cancelled) {
        d.progress.completion_tokens -= d.n_tokens;
        d = (struct delivery){
            .progress = d.progress, .finish = FINISH_CANCELLED, .speculation = d.speculation};
    } else if (q->prompt_ready) {
        d.prompt = q->prompt;
        q->prompt = NULL;
    }
    if (q->out.failed || q->text.held.failed) {
        d.finish = FINISH_ERROR;
        err_set(&job->error, ERR_MEMORY, "memory ran out while decoding the text");
    }
    if (d.finish == FINISH_ERROR && *q->fault)
        err_set(&job->error, ERR_INVALID, "%s", q->fault);
    sequence_collected(q);
    if (mailbox_deliver(&e->mailbox, job, &d)) {
        scheduler_remove(&e->scheduler, slot);
        e->running[slot] = NULL;
        e->n_running--;
    }
}

/* Seconds of a step with so many drafts for one text of middling length. */
static double draft_seconds(const struct scheduler *s, int drafts, int heads)
{
    return costs_pass(&s->costs, drafts + 1, MIDDLING * (drafts + 1), false) +
           costs_draft(&s->costs, heads, 1, false);
}

static void publish_costs(const struct engine *e, struct engine_stats *stats)
{
    int heads = e->info.n_predict - 1, n = ENGINE_COSTS_MAX;
    n = heads && heads < n ? heads : n;
    double plain = draft_seconds(&e->scheduler, 0, 0);
    for (int i = 0; i < n && plain > 0; i++)
        stats->draft_costs[i] = draft_seconds(&e->scheduler, i + 1, heads ? i + 1 : 0) / plain;
}

static void publish(struct engine *e)
{
    const struct scheduler *s = &e->scheduler;
    const struct kv_pool *pool = &s->pool;
    size_t used = (size_t)(pool->n_pages - pool->n_free), kept = (size_t)pool->n_idle;
    struct engine_stats stats = {
        .forwards = s->forwards,
        .step_seconds_sum = s->step_seconds,
        .batched = s->batched,
        .kv_used = (double)(used - kept) / pool->n_pages,
        .kv_bytes = used * pool->page_bytes,
        .kv_bytes_limit = (size_t)pool->n_pages * pool->page_bytes,
        .kv_kept_bytes = kept * pool->page_bytes,
        .prefix_queries = s->prompt_tokens,
        .prefix_hits = s->reused_tokens,
        .preemptions = s->preemptions,
        .lookup_tried = s->drafted[0].tried,
        .lookup_accepted = s->drafted[0].accepted,
    };
    int dead = rates_dead_head(&s->rates);
    memcpy(stats.batches, s->batches, sizeof stats.batches);
    stats.running = scheduler_running(s, &stats.preempted);
    for (int i = 1; i < e->info.n_predict; i++) {
        stats.heads[i - 1].tried = s->drafted[i].tried;
        stats.heads[i - 1].accepted = s->drafted[i].accepted;
        stats.heads[i - 1].dead = i == dead;
    }
    publish_costs(e, &stats);
    mailbox_publish(&e->mailbox, &stats);
    if (dead && dead != e->dead)
        log_error(
            "head %d is dead: less than 5 %% of its drafts were right behind drafts that were. "
            "Is it trained, and for this trunk?",
            dead);
    e->dead = dead ? dead : e->dead;
}

static void *decode_thread(void *arg)
{
    struct engine *e = arg;
    bool open = true;
    int idle = 0; /* waits for work since a step */
    while (open || e->n_running) {
        admit(e);
        idle = e->n_running ? 0 : idle + 1;
        if (idle) {
            publish(e);
            open = mailbox_wait(&e->mailbox);
        }
        if (idle == IDLE_WAITS)
            kv_pool_trim(&e->scheduler.pool);
        atomic_store(&e->heartbeat, clock_seconds());
        bool rests = e->n_running && !scheduler_step(&e->scheduler); /* all are paused */
        for (int i = 0; i < e->scheduler.max_sequences; i++)
            if (e->running[i])
                collect(e, i);
        publish(e);
        if (mailbox_news(&e->mailbox) && e->options.notify)
            e->options.notify(e->options.notify_arg);
        if (rests)
            open = mailbox_wait(&e->mailbox);
    }
    return NULL;
}

/* ---- life ---- */

static int start(struct engine *e, struct err *err)
{
    atomic_store(&e->heartbeat, clock_seconds());
    int rc = pthread_create(&e->thread, NULL, decode_thread, e);
    if (rc)
        return err_set(err, ERR_IO, "the decode thread could not be started: %s", strerror(rc));
    e->started = true;
    /* For top, and for tests that stop it: named from here, it has its name before anyone asks. */
    pthread_setname_np(e->thread, "decode");
    return 0;
}

static int load(struct engine *e, const struct engine_options *o, struct err *err)
{
    struct runtime_options ro = {o->model, o->heads, o->threads, o->context, o->isa, o->weights};
    struct scheduler_options so = {
        .max_sequences = o->max_sequences,
        .context = o->context,
        .prompt_chunk = o->prompt_chunk,
        .spare = o->max_sequences > 0 ? o->max_sequences : SCHEDULER_SEQUENCES,
        .kv = o->kv,
        .kv_limit = o->kv_limit,
        .kv_kept = o->kv_kept,
    };
    int rc = runtime_init(&e->runtime, &ro, err);
    if (!rc)
        rc = scheduler_init(&e->scheduler, &e->runtime, &so, err);
    if (rc)
        return rc;
    const struct scheduler *s = &e->scheduler;
    const struct config *c = &e->runtime.model.config;
    if (s->context > c->context)
        log_warn("a context of %d positions is more than the %d that the model was trained for: "
                 "texts will get worse beyond those",
                 s->context, c->context);
    e->folder = strdup(o->model);
    e->running = calloc((size_t)s->max_sequences, sizeof *e->running);
    e->info = (struct engine_info){.model = e->folder,
                                   .kind = head_kind_name(c->kind),
                                   .isa = kernels.name,
                                   .n_predict = c->n_predict,
                                   .vocab = c->vocab,
                                   .context = s->context,
                                   .max_sequences = s->at_once,
                                   .max_queue = e->mailbox.max_queue,
                                   .tokenizer = e->runtime.tokenizer,
                                   .chat_template = e->runtime.chat_template.data,
                                   .chat_template_len = e->runtime.chat_template.len,
                                   .parameters = e->runtime.model.params.count,
                                   .threads = e->runtime.team.n};
    return e->folder && e->running
               ? 0
               : err_set(err, ERR_MEMORY, "no memory for %d sequences", s->max_sequences);
}

int engine_open(struct engine **out, const struct engine_options *o, struct err *err)
{
    struct engine *e = calloc(1, sizeof *e);
    *out = NULL;
    if (!e)
        return err_set(err, ERR_MEMORY, "no memory for the engine");
    e->options = *o;
    mailbox_init(&e->mailbox, o->max_queue);
    int rc = load(e, o, err);
    if (!rc) {
        publish(e); /* what warm-up has learned */
        rc = start(e, err);
    }
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
        mailbox_close(&e->mailbox);
        pthread_join(e->thread, NULL);
    }
    mailbox_release(&e->mailbox);
    scheduler_release(&e->scheduler);
    runtime_release(&e->runtime);
    free(e->running);
    free(e->folder);
    free(e);
}

/* ---- any thread ---- */

const struct engine_info *engine_info(const struct engine *e)
{
    return &e->info;
}

int engine_submit(struct engine *e, const struct engine_request *request, uint64_t *id,
                  struct err *err)
{
    int rc = request_check(request, e->info.vocab, e->info.context, err);
    return rc ? rc : mailbox_submit(&e->mailbox, request, id, err);
}

void engine_cancel(struct engine *e, uint64_t id)
{
    mailbox_cancel(&e->mailbox, id);
}

void engine_pause(struct engine *e, uint64_t id, bool paused)
{
    mailbox_pause(&e->mailbox, id, paused);
}

size_t engine_poll(struct engine *e, void (*handle)(void *arg, const struct engine_event *),
                   void *arg)
{
    return mailbox_poll(&e->mailbox, handle, arg);
}

void engine_stats(struct engine *e, struct engine_stats *stats)
{
    mailbox_stats(&e->mailbox, stats);
    stats->heartbeat_age = clock_seconds() - atomic_load(&e->heartbeat);
}
