/* Between everybody else and the decode thread: requests in, events out. This is the one lock of
 * the program; it is never held across a step, a notify or a handler.
 *
 * A job is one request with what it has brought. It waits in the queue, then the decode thread has
 * it, and after its last event was handed over it is gone. */
#ifndef ENGINE_MAILBOX_H
#define ENGINE_MAILBOX_H

#include <pthread.h>

#include "base/buf.h"
#include "base/err.h"
#include "engine/engine.h"

/* How far a request is: see struct engine_event. */
struct progress {
    size_t completion_tokens, forwards, cached_tokens;
    double decode_seconds, plain_seconds;
};

/* What one request has brought and nobody has taken yet. */
struct news {
    struct buf text;
    struct buf tokens; /* struct engine_token, one after another */
    enum engine_finish finish;
    int stop; /* as in struct engine_event */
    struct progress progress;
    bool prompt_ready;
};

/* Whoever has requests here. */
struct client {
    struct client *next;
    uint64_t id;
    int waiting, running; /* requests */
};

struct job {
    struct job *next;               /* in the queue, or among those with news */
    struct job *next_running;       /* of the decode thread's */
    struct engine_request *request; /* a copy, owned */
    struct client *client;          /* of the mailbox's */
    uint64_t id;
    bool cancelled, paused, dirty; /* under the lock */
    double came, queued;           /* s: when it was queued, and how long it was */
    struct news out;               /* under the lock; filled by the decode thread */
    struct news taken;             /* handed to mailbox_poll's handler, that thread's alone */
    struct engine_token *prompt;   /* owned; taken from the sequence when it is ready */
    struct engine_speculation speculation;
    struct err error;
};

struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t wake; /* work has come, or it closes */
    struct job *waiting, **waiting_end;
    struct client *clients;
    struct job *running;            /* the decode thread's, in any order */
    struct job *dirty, **dirty_end; /* have news, in order */
    size_t n_dirty;
    bool news;      /* something was put there since the last mailbox_news */
    bool attention; /* a request came or was cancelled since the decode thread last looked */
    bool closing;
    int max_queue;
    uint64_t next_id;
    struct engine_stats stats; /* counters of requests; the rest is what was published */
};

void mailbox_init(struct mailbox *mailbox, int max_queue);
void mailbox_release(struct mailbox *mailbox);

/* ---- any thread ---- */

/* Queues a copy of a checked request. ERR_BUSY, ERR_MEMORY. */
int mailbox_submit(struct mailbox *mailbox, const struct engine_request *request, uint64_t *id,
                   struct err *err);
/* Marks it; unknown ids are ignored. */
void mailbox_cancel(struct mailbox *mailbox, uint64_t id);
/* As engine_pause. */
void mailbox_pause(struct mailbox *mailbox, uint64_t id, bool paused);
/* As engine_poll. One thread. */
size_t mailbox_poll(struct mailbox *mailbox, void (*handle)(void *arg, const struct engine_event *),
                    void *arg);
void mailbox_stats(struct mailbox *mailbox, struct engine_stats *stats);
/* The decode thread is to cancel all and end. */
void mailbox_close(struct mailbox *mailbox);

/* ---- the decode thread ---- */

/* Sleeps until there is something to do, at most a second. False when it closes. */
bool mailbox_wait(struct mailbox *mailbox);
/* The first job that waits of the client with the fewest running, now the decode thread's, or NULL;
 * cancelled ones end here. */
struct job *mailbox_take(struct mailbox *mailbox);
/* Puts it back in front: there was no room. */
void mailbox_return(struct mailbox *mailbox, struct job *job);
/* Whether it was; *paused says whether it is to rest. */
bool mailbox_cancelled(struct mailbox *mailbox, const struct job *job, bool *paused);
struct delivery {
    const char *text;
    size_t text_len;
    const struct engine_token *tokens;
    size_t n_tokens;
    struct progress progress;
    struct engine_token *prompt;
    enum engine_finish finish;
    int stop;
    const struct engine_speculation *speculation;
};
/* Adds news to what the job has brought: text and tokens are copied, prompt (or NULL) is taken,
 * speculation (or NULL) are its figures. True when that was the last: with a finish, or because
 * memory ran out. Then the job is not the decode thread's any more. */
bool mailbox_deliver(struct mailbox *mailbox, struct job *job, const struct delivery *delivery);
/* Whether events came since the last call, so that the reader is to be told. */
bool mailbox_news(struct mailbox *mailbox);
/* The engine's part of the figures: all but the counts of requests. */
void mailbox_publish(struct mailbox *mailbox, const struct engine_stats *stats);

#endif
