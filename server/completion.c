/* Running completions: see completion.h. */
#include "server/completion.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/choice.h"
#include "server/dialect.h"
#include "server/speedup.h"

static uint64_t random_bits(void)
{
    uint64_t bits;
    if (getrandom(&bits, sizeof bits, 0) != sizeof bits)
        bits = (uint64_t)(clock_seconds() * 1e9);
    return bits;
}

/* ---- life ---- */

static void unlink_and_free(struct completion *completion)
{
    if (completion->prev)
        completion->prev->next = completion->next;
    else
        completion->app->completions = completion->next;
    if (completion->next)
        completion->next->prev = completion->prev;
    for (size_t i = 0; i < completion->n_choices; i++)
        choice_release(&completion->choices[i]);
    free(completion->choices);
    buf_release(&completion->out);
    buf_release(&completion->metrics);
    response_release(&completion->response);
    api_release(&completion->request);
    free(completion);
}

static void free_if_over(struct completion *completion)
{
    if (completion->dropped && !completion->pending && !completion->held)
        unlink_and_free(completion);
}

/* A stream whose reader has enough for now rests, and goes on when he has read half of it. */
static void rest(struct completion *completion, bool paused)
{
    struct app *app = completion->app;
    if (completion->paused == paused)
        return;
    completion->paused = paused;
    app->metrics.pauses += paused;
    app->paused += paused ? completion->n_choices : -completion->n_choices;
    for (size_t i = 0; i < completion->n_choices; i++)
        if (completion->choices[i].id && !completion->choices[i].ended)
            engine_pause(app->engine, completion->choices[i].id, paused);
}

static void cancel_requests(struct completion *completion)
{
    rest(completion, false);
    for (size_t i = 0; i < completion->n_choices; i++) {
        const struct choice *choice = &completion->choices[i];
        if (choice->id && !choice->ended)
            engine_cancel(completion->app->engine, choice->id);
        if (choice->audit.proof && choice->audit.id && !choice->audit.ended)
            engine_cancel(completion->app->engine, choice->audit.id);
    }
}

void completion_cancel(struct completion *completion)
{
    if (completion->state != COMPLETION_RUNNING)
        return;
    completion->state = COMPLETION_BROKEN;
    completion->broken = "client left";
    completion->app->metrics.disconnects++;
    cancel_requests(completion);
}

void completion_probe(struct completion *completion)
{
    if (completion->state == COMPLETION_RUNNING && completion->request.stream)
        buf_puts(&completion->out, ": is anybody there?\n\n");
}

void completion_drop(struct completion *completion)
{
    completion->app->metrics.overflows += completion->paused;
    completion_cancel(completion);
    completion->dropped = true;
    completion->wake = NULL;
    free_if_over(completion);
}

void completion_let_go(struct completion *completion)
{
    completion->held--;
    free_if_over(completion);
}

/* ---- start ---- */

static int make_choices(struct completion *completion)
{
    const struct api_request *request = &completion->request;
    completion->choices =
        calloc(request->n_prompts * (size_t)request->best_of, sizeof *completion->choices);
    if (!completion->choices)
        return ERR_MEMORY;
    completion->n_choices = request->n_prompts * (size_t)request->best_of;
    for (size_t i = 0; i < completion->n_choices; i++)
        choice_init(completion, i);
    return 0;
}

/* A prompt's first choice has the request's own seed, so that each prompt of a list gives the text
 * that it would give alone. */
struct engine_request completion_request(const struct choice *choice)
{
    const struct completion *completion = choice->completion;
    struct engine_request request = completion->request.engine;
    request.tokens = choice->prompt->tokens;
    request.n_tokens = choice->prompt->n_tokens;
    request.seed += (uint64_t)((choice - completion->choices) % completion->request.best_of);
    request.user = (uintptr_t)choice;
    request.client = completion->client;
    if (completion->app->prefix_apart)
        request.prefix_salt ^= completion->client;
    if (completion->request.rounds)
        speedup_submit(choice, &request);
    return request;
}

static int submit(struct completion *completion, struct choice *choice, struct err *err)
{
    struct engine_request request = completion_request(choice);
    audit_choose(choice, &request);
    int rc = engine_submit(completion->app->engine, &request, &choice->id, err);
    if (!rc)
        completion->pending++;
    return rc;
}

static int refuse(int rc, const struct err *err, struct response *error)
{
    if (rc == ERR_INVALID)
        return response_error(error, 400, NULL, NULL, "The request cannot be run: %s.", err->text);
    if (rc != ERR_BUSY)
        return response_error(error, 500, NULL, NULL, "The request cannot be run: %s.", err->text);
    error->retry_after = 1;
    return response_error(error, 429, NULL, "server_busy", "The server is busy: %s.", err->text);
}

static int submit_all(struct completion *completion, struct response *error)
{
    struct err err = {.text = "memory ran out"};
    int rc = make_choices(completion);
    for (size_t i = 0; !rc && i < completion->n_choices; i++)
        rc = submit(completion, &completion->choices[i], &err);
    for (size_t i = 0; i < completion->request.n_prompts; i++)
        completion->prompt_tokens += completion->request.prompts[i].n_tokens;
    return rc ? refuse(rc, &err, error) : 0;
}

struct completion *completion_new(struct app *app, enum api_kind kind, uint64_t client,
                                  const char *request_id)
{
    struct completion *completion = calloc(1, sizeof *completion);
    if (!completion)
        return NULL;
    completion->app = app;
    completion->client = client;
    completion->next = app->completions;
    if (app->completions)
        app->completions->prev = completion;
    app->completions = completion;
    completion->start = clock_seconds();
    completion->created = time(NULL);
    completion->dialect = dialect_of(kind);
    completion->request.kind = kind;
    completion->response.anthropic = kind == API_MESSAGES;
    completion->response.request_id = request_id;
    snprintf(completion->id, sizeof completion->id, "%s%016" PRIx64, completion->dialect->id,
             random_bits());
    return completion;
}

void completion_parse(struct completion *completion, const char *body, size_t len)
{
    api_parse(&completion->request, completion->request.kind, &completion->app->model, body, len,
              random_bits(), &completion->response);
}

bool completion_start(struct completion *completion, void (*wake)(void *arg), void *arg)
{
    struct response *error = &completion->response;
    if (!error->status && submit_all(completion, error))
        cancel_requests(completion);
    if (error->status) {
        completion->state = COMPLETION_DONE;
        return false;
    }
    completion->wake = wake;
    completion->wake_arg = arg;
    return true;
}

size_t completion_read(struct completion *completion, char *to, size_t max)
{
    size_t n = completion->out.len < max ? completion->out.len : max;
    if (n)
        memcpy(to, completion->out.data, n);
    buf_consume(&completion->out, n);
    if (completion->out.len <= completion->app->max_unread / 2)
        rest(completion, false);
    return n;
}

size_t completion_tokens(const struct completion *completion)
{
    size_t n = 0;
    for (size_t i = 0; i < completion->n_choices; i++)
        n += completion->choices[i].n_tokens;
    return n;
}

double completion_first(const struct completion *completion)
{
    double first = NAN;
    for (size_t i = 0; i < completion->n_choices; i++)
        if (completion->choices[i].n_tokens)
            first = fmin(first, completion->choices[i].first); /* of a number and NAN: the number */
    return first - completion->start;
}

/* ---- events ---- */

/* Ends it with a sentence: in place of the response, or behind what a stream has brought. */
static void end_with(struct completion *completion, int status, const char *code,
                     const char *message)
{
    cancel_requests(completion);
    completion->state = COMPLETION_DONE;
    if (completion->request.stream)
        completion->dialect->error(completion, status, code, message);
    else
        response_error(&completion->response, status, NULL, code, "%s", message);
}

static void fail(struct completion *completion, const char *why)
{
    const char *message = why ? why : "The server ended this request before it was complete.";
    log_error("%s: %s", completion->id, message);
    end_with(completion, 500, NULL, message);
}

void completions_end(struct app *app)
{
    for (struct completion *c = app->completions, *next; c; c = next) {
        next = c->next;
        if (c->state != COMPLETION_RUNNING || !c->wake)
            continue;
        c->response.retry_after = 5;
        end_with(c, 503, "shutting_down",
                 "The server is shutting down and had no time to end this request.");
        c->wake(c->wake_arg);
    }
}

void completions_expire(struct app *app)
{
    double since = clock_seconds() - app->max_seconds;
    for (struct completion *c = app->completions; c && app->max_seconds; c = c->next)
        if (c->state == COMPLETION_RUNNING && c->wake && !c->expired && c->start < since) {
            c->expired = true;
            cancel_requests(c);
        }
}

/* A choice that has had its time. */
static void expire(struct choice *choice, const struct engine_event *event)
{
    struct completion *completion = choice->completion;
    struct engine_event last = *event;
    if (completion_tokens(completion)) {
        last.finish = FINISH_LENGTH;
        choice_add(choice, &last);
    } else {
        completion->response.retry_after = 1;
        end_with(completion, 503, "timed_out",
                 "The request has waited as long as this server allows and was not begun.");
    }
}

/* Prompts that are echoed come all at once: they don't count as unread. */
static void check_limits(struct completion *completion)
{
    bool failed = completion->out.failed || completion->response.body.failed;
    bool much = completion->out.len > completion->app->max_unread + completion->echoed;
    bool runs = completion->state == COMPLETION_RUNNING;
    bool room = completion->app->paused + completion->n_choices <=
                (size_t)completion->app->info->max_sequences;
    if (!failed && much && room && runs)
        rest(completion, true);
    bool overflow = much && runs && !completion->paused;
    if (!failed && !overflow)
        return;
    log_warn("%s: closed, because %s", completion->id,
             failed ? "memory ran out" : "the client and others do not read their streams");
    completion->app->metrics.overflows += overflow;
    completion->state = COMPLETION_BROKEN;
    completion->broken = failed ? "no memory" : "stream unread";
    cancel_requests(completion);
}

static void complete(struct completion *completion)
{
    rest(completion, false);
    completion->state = COMPLETION_DONE;
    if (completion->request.stream)
        completion->dialect->end(completion);
    else
        completion->dialect->whole(completion);
}

/* Adds one event to its completion. */
static void take_event(struct completion *completion, struct choice *choice,
                       const struct engine_event *event)
{
    struct err err;
    if (event->finish == FINISH_CANCELLED && completion->expired)
        expire(choice, event);
    else if (event->finish == FINISH_ERROR || event->finish == FINISH_CANCELLED)
        fail(completion, event->error);
    else
        choice_add(choice, event);
    if (choice->finish_reason && completion->state == COMPLETION_RUNNING && !completion->expired &&
        audit_end(choice, &err))
        fail(completion, err.text);
}

static void note_progress(struct choice *choice, const struct engine_event *event)
{
    if (!choice->completion->request.rounds)
        choice_measure(choice, event);
    else
        choice->n_tokens += event->n_tokens;
    choice->ended = event->finish != FINISH_NONE;
    choice->completion->pending -= choice->ended;
}

static void on_event(void *arg, const struct engine_event *event)
{
    struct choice *choice = (struct choice *)(uintptr_t)(event->user & ~(uint64_t)AUDIT_USER);
    struct completion *completion = choice->completion;
    bool running = completion->state == COMPLETION_RUNNING;
    (void)arg;
    if (event->user & AUDIT_USER) {
        audit_event(choice, event);
    } else {
        note_progress(choice, event);
        if (running)
            take_event(completion, choice, event);
    }
    if (running) {
        if (completion->state == COMPLETION_RUNNING && !completion->pending)
            complete(completion);
        check_limits(completion);
        if ((completion->out.len || completion->state != COMPLETION_RUNNING) && completion->wake)
            completion->wake(completion->wake_arg);
    }
    free_if_over(completion);
}

void completions_poll(struct app *app)
{
    engine_poll(app->engine, on_event, app);
    audits_pump(app);
}
