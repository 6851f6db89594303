/* A running completion: the engine requests of its choices, and the bytes of its response. Owns
 * both; knows nothing of connections. exchange.c starts it, is woken when there is something to
 * send, reads, and drops it. Loop thread.
 *
 * A completion outlives its exchange until the engine has ended each of its requests: until then
 * events point to its choices. */
#ifndef SERVER_COMPLETION_H
#define SERVER_COMPLETION_H

#include "server/answer.h"
#include "server/app.h"
#include "server/logprobs.h"
#include "server/response.h"

struct dialect; /* dialect.h */

enum completion_state {
    COMPLETION_RUNNING,
    COMPLETION_DONE,   /* the response is complete, though perhaps not read yet */
    COMPLETION_BROKEN, /* it never will be: close the connection */
};

/* Of a text that is timed: seconds behind its first token, what plain decoding would have taken by
 * the engine's estimate, and its drafts, by drafter as in struct engine_speculation. */
struct speedup_text {
    double seconds, plain_seconds;
    size_t forwards;
    uint32_t tried[ENGINE_DRAFTS_MAX + 1], accepted[ENGINE_DRAFTS_MAX + 1];
};

struct choice {
    struct completion *completion;
    struct api_prompt *prompt;
    uint64_t id; /* the engine's, 0 = not submitted */
    int index;
    bool begun, ended;         /* by the engine */
    bool opened;               /* a chunk has been written */
    const char *finish_reason; /* NULL while it runs */
    int stop;                  /* 1 + the place in request.stops of what ended it, else 0 */
    struct answer answer;      /* what it says, with the prompt where that is echoed */
    size_t n_calls;            /* written to a stream */
    struct buf ids;            /* of tokens not yet written, "1,2,3", when asked for */
    struct buf trace;          /* origins of tokens not yet written, when asked for */
    int32_t last_token;        /* before the next one */
    struct speedup_text speedup;
    struct audit audit;
    struct buf captured; /* int32_t tokens, with --capture */
    struct logprobs logprobs;
    size_t n_tokens;
    double logprob;     /* the sum of its tokens', where there are some */
    double first, last; /* when tokens came, s */
};

struct completion {
    struct app *app;
    struct completion *prev, *next; /* in app->completions */
    struct api_request request;
    const struct dialect *dialect;
    char id[32];     /* cmpl-..., resp_... */
    uint64_t client; /* as in struct engine_request */
    time_t created;
    double start; /* s */
    struct choice *choices;
    size_t n_choices, pending; /* pending: engine requests that have not ended */
    size_t held;               /* audits that have not, for which it stays when all is sent */
    enum completion_state state;
    const char *broken;       /* why, in two words, for the log */
    bool dropped, paused;     /* paused: its reader has enough for now, */
    bool expired;             /* it has had its time */
    struct buf out;           /* of a stream: not yet read */
    size_t n_events;          /* written to it, where the dialect numbers them */
    size_t echoed;            /* bytes of its chunks that carried a prompt */
    struct response response; /* when not streamed, once done */
    struct buf metrics;       /* JSON of the `metrics` field, empty = none */
    size_t prompt_tokens, completion_tokens;
    size_t cached_tokens;                 /* of the prompts', by the first choice of each */
    uint64_t forwards, drafted, accepted; /* of the choices that have ended */
    void (*wake)(void *arg);
    void *wake_arg;
};

/* A completion in app->completions whose body has still to be read, or NULL when memory ran out.
 * request_id is borrowed until it is dropped. */
struct completion *completion_new(struct app *app, enum api_kind kind, uint64_t client,
                                  const char *request_id);

/* Reads a body. What is wrong with it is in completion->response, whose status is 0 otherwise. Any
 * thread, while no other uses the completion. */
void completion_parse(struct completion *completion, const char *body, size_t len);

/* Submits a request for each choice of what was parsed to the engine. wake(arg) will be called,
 * from completions_poll only, when there are bytes to read or the state has changed. False when the
 * response is an error, which is complete. */
bool completion_start(struct completion *completion, void (*wake)(void *arg), void *arg);

/* Moves at most max bytes of a stream to `to`. */
size_t completion_read(struct completion *completion, char *to, size_t max);

/* The engine's request of a choice, its user the choice. It points into the completion. */
struct engine_request completion_request(const struct choice *choice);

/* An audit is left out. */
void completion_let_go(struct completion *completion);

/* For the log: tokens that were decoded so far, ended or not; seconds to the first, NAN for none.
 */
size_t completion_tokens(const struct completion *completion);
double completion_first(const struct completion *completion);

/* The client has gone: its requests are cancelled and nothing more will be read. */
void completion_cancel(struct completion *completion);

/* Its client has half-closed, or gone: which of the two, sending something will show. A comment,
 * where it is a stream. */
void completion_probe(struct completion *completion);

/* The exchange is over. Frees the completion, now or when the engine has ended its requests. */
void completion_drop(struct completion *completion);

/* Ends what still runs with a sentence: the server has no more time. */
void completions_end(struct app *app);

/* Ends those that have had their time: what they brought is their answer, and its finish reason is
 * "length"; who has waited all the time is told so. Call it every now and then. */
void completions_expire(struct app *app);

/* Takes the engine's events and hands each to its completion. */
void completions_poll(struct app *app);

#endif
