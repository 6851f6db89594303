/* One request and its response: see exchange.h. */
#include "server/exchange.h"

#include <inttypes.h>
#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/hash.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/completion.h"
#include "server/headers.h"
#include "server/route.h"

/* A refused request's body is read to its end, so that the client gets to see why; when it is
 * longer than what is allowed by this much, the connection is closed under it. */
#define DISCARD_MAX (16u << 20)
#define STREAM_BLOCK 16384
/* Bodies up to this size are read at once, in less than 5 ms whatever they hold; longer ones by a
 * thread, one after another, while the loop goes on. They are also what must find room beside the
 * other bodies. */
#define BODY_SMALL 16384

struct exchange {
    struct http *http;
    struct connection *connection;
    struct MHD_Connection *mhd;
    enum route route;
    struct headers headers;
    struct buf body;
    size_t received; /* bytes of the body, kept or not */
    struct response response;
    struct completion *completion;
    size_t held;                /* bytes of it counted in app->bodies */
    uv_work_t work;             /* the thread that reads it, */
    bool working;               /* which has not ended */
    bool gone;                  /* libmicrohttpd has forgotten the request meanwhile */
    bool suspended;             /* as libmicrohttpd sees the connection */
    bool close;                 /* after this response */
    int status;                 /* of the response, 0: none was sent */
    double start;               /* s */
    char method[16], path[128]; /* for the log, */
    char client[CLIENT_BYTES];  /* as the connection's, which it may outlive */
    char id[32];                /* x-request-id */
};

/* ---- suspending: a connection sleeps while its completion has nothing to send ---- */

static void sleep_now(struct exchange *exchange)
{
    exchange->suspended = true;
    MHD_suspend_connection(exchange->mhd);
}

static void resume(struct exchange *exchange)
{
    if (exchange->suspended) {
        exchange->suspended = false;
        MHD_resume_connection(exchange->mhd);
    }
}

/* Called by the completion from completions_poll, never inside libmicrohttpd. A connection whose
 * response broke is shut down, because a full socket would not let it come to an end. */
static void wake(void *arg)
{
    struct exchange *exchange = arg;
    if (exchange->completion->state == COMPLETION_BROKEN)
        shutdown(exchange->connection->fd, SHUT_RDWR);
    resume(exchange);
}

/* The client has closed its side. Half-closed counts as gone, as in most servers. */
static void on_hangup(uv_poll_t *watch, int status, int what)
{
    struct connection *connection = watch->data;
    (void)status, (void)what;
    uv_poll_stop(watch);
    completion_cancel(connection->exchange->completion);
    shutdown(connection->fd, SHUT_RDWR);
    wake(connection->exchange);
    http_pump(connection->http);
}

/* ---- responses ---- */

static void add_header(struct MHD_Response *message, const char *name, const char *value)
{
    if (value && *value)
        MHD_add_response_header(message, name, value);
}

static void add_cors(const struct exchange *exchange, struct MHD_Response *message)
{
    const char *origin = exchange->http->app->allow_origin;
    if (!*origin)
        return;
    add_header(message, "Access-Control-Allow-Origin", origin);
    add_header(message, "Access-Control-Expose-Headers", "x-request-id, retry-after");
    if (exchange->route != ROUTE_PREFLIGHT)
        return;
    add_header(message, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    add_header(message, "Access-Control-Max-Age", "86400");
    /* The clients' own X-Stainless-* are many: allow what was asked for. */
    add_header(message, "Access-Control-Allow-Headers",
               exchange->headers.asked_headers
                   ? exchange->headers.asked_headers
                   : "Authorization, Content-Type, OpenAI-Organization, OpenAI-Project");
    add_header(message, "Vary", "Access-Control-Request-Headers");
}

static enum MHD_Result queue(struct exchange *exchange, int status, struct MHD_Response *message)
{
    if (!message)
        return MHD_NO;
    add_header(message, "x-request-id", exchange->id);
    if (exchange->response.anthropic)
        add_header(message, "request-id", exchange->id);
    if (status >= 400 && !response_may_retry(status))
        add_header(message, "x-should-retry", "false");
    if (exchange->close || exchange->http->app->draining)
        add_header(message, "Connection", "close");
    add_cors(exchange, message);
    metrics_count_response(&exchange->http->app->metrics, status);
    exchange->status = status;
    enum MHD_Result result = MHD_queue_response(exchange->mhd, (unsigned)status, message);
    MHD_destroy_response(message);
    return result;
}

static enum MHD_Result send_response(struct exchange *exchange, struct response *response)
{
    char seconds[16];
    if (response->body.failed)
        return MHD_NO;
    struct MHD_Response *message = MHD_create_response_from_buffer(
        response->body.len, response->body.data ? response->body.data : "",
        response->body.data ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (!message)
        return MHD_NO;
    memset(&response->body, 0, sizeof response->body); /* message owns it now */
    add_header(message, "Content-Type", response->type);
    add_header(message, "Allow", response->allow);
    if (exchange->route == ROUTE_PAGE)
        add_header(message, "Content-Security-Policy",
                   "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
                   "connect-src 'self'; frame-ancestors 'none'");
    snprintf(seconds, sizeof seconds, "%d", response->retry_after);
    if (response->retry_after)
        add_header(message, "Retry-After", seconds);
    return queue(exchange, response->status, message);
}

static ssize_t read_stream(void *arg, uint64_t position, char *to, size_t max)
{
    struct exchange *exchange = arg;
    struct completion *completion = exchange->completion;
    (void)position;
    if (completion->state == COMPLETION_BROKEN)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t n = completion_read(completion, to, max);
    if (n)
        return (ssize_t)n;
    if (completion->state == COMPLETION_DONE)
        return MHD_CONTENT_READER_END_OF_STREAM;
    sleep_now(exchange);
    return 0;
}

static enum MHD_Result send_stream(struct exchange *exchange)
{
    struct MHD_Response *message = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK,
                                                                     read_stream, exchange, NULL);
    if (message) {
        add_header(message, "Content-Type", "text/event-stream; charset=utf-8");
        add_header(message, "Cache-Control", "no-cache");
        add_header(message, "X-Accel-Buffering", "no");
    }
    return queue(exchange, 200, message);
}

/* ---- the log ---- */

/* One line when all is over. What watches the server would fill the log, and is left to `debug`. */
static void log_request(const struct exchange *exchange, enum MHD_RequestTerminationCode why)
{
    static const char *const ends[] = {
        [MHD_REQUEST_TERMINATED_WITH_ERROR] = "connection lost",
        [MHD_REQUEST_TERMINATED_TIMEOUT_REACHED] = "timeout",
        [MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN] = "shutdown",
        [MHD_REQUEST_TERMINATED_READ_ERROR] = "client left",
        [MHD_REQUEST_TERMINATED_CLIENT_ABORT] = "client left",
    };
    const struct completion *c = exchange->completion;
    bool watch = exchange->route == ROUTE_HEALTH || exchange->route == ROUTE_READY ||
                 exchange->route == ROUTE_METRICS;
    bool ok = why == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    bool decoded = c && completion_tokens(c);
    const char *end = ok ? NULL : c && c->broken ? c->broken : ends[why];
    struct log_field fields[] = {
        {"id", exchange->id, 0},
        {"client", exchange->client, 0},
        {"method", exchange->method, 0},
        {"path", exchange->path, 0},
        {"status", NULL, exchange->status ? exchange->status : NAN},
        {"end", end, NAN},
        {"seconds", NULL, round((clock_seconds() - exchange->start) * 1e4) / 1e4},
        {"prompt_tokens", NULL, c && c->n_choices ? (double)c->prompt_tokens : NAN},
        {"tokens", NULL, decoded ? (double)completion_tokens(c) : NAN},
        {"first_token", NULL, decoded ? round(completion_first(c) * 1e4) / 1e4 : NAN},
        {"forwards", NULL, decoded && c->forwards ? (double)c->forwards : NAN},
        {"drafted", NULL, decoded && c->drafted ? (double)c->drafted : NAN},
        {"accepted", NULL, decoded && c->drafted ? (double)c->accepted : NAN},
        {"finish", decoded && c->n_choices == 1 ? c->choices[0].finish_reason : NULL, NAN},
    };
    log_event(watch && exchange->status == 200 ? LOG_DEBUG : LOG_INFO, "request", fields,
              sizeof fields / sizeof fields[0]);
}

/* ---- requests ---- */

static enum MHD_Result read_header(void *headers, enum MHD_ValueKind kind, const char *name,
                                   size_t name_len, const char *value, size_t value_len)
{
    (void)kind;
    headers_add(headers, name, name_len, value, value_len);
    return MHD_YES;
}

static void read_headers(struct exchange *exchange, const char *method, const char *version)
{
    struct MHD_Connection *mhd = exchange->mhd;
    size_t size =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)->header_size;
    if (MHD_VERSION == 0x00097500)
        headers_check_lines(&exchange->headers, version, method + size - 2);
    MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, read_header, &exchange->headers);
    headers_end(&exchange->headers, version);
}

static struct exchange *exchange_new(struct http *http, struct MHD_Connection *mhd)
{
    uint64_t bits = 0;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct exchange *exchange = calloc(1, sizeof *exchange);
    if (!exchange || !info || !info->socket_context) {
        free(exchange);
        return NULL;
    }
    exchange->http = http;
    exchange->mhd = mhd;
    exchange->connection = info->socket_context;
    exchange->connection->exchange = exchange;
    exchange->start = clock_seconds();
    exchange->connection->deadline = exchange->start + http->timeout;
    http->n_exchanges++;
    memcpy(exchange->client, exchange->connection->client, sizeof exchange->client);
    if (getrandom(&bits, sizeof bits, 0) < 0)
        bits = (uintptr_t)exchange;
    snprintf(exchange->id, sizeof exchange->id, "req-%016" PRIx64, bits);
    exchange->response.request_id = exchange->id;
    return exchange;
}

/* The first call. A response queued here closes the connection without reading a body: right for
 * requests whose end cannot be known and for bodies too long to throw away; a client that asked
 * before sending (Expect) has not sent one. Any other refusal waits for the body to pass. After a
 * chunked body the connection is closed too, so that nothing can hide behind it. */
static enum MHD_Result begin(struct exchange *exchange, const char *method, const char *path)
{
    const struct headers *headers = &exchange->headers;
    exchange->close = headers->chunked || headers->fault;
    if (headers->fault) {
        response_error(&exchange->response, 400, NULL, "bad_request", "%s", headers->fault);
        return send_response(exchange, &exchange->response);
    }
    const struct app *app = exchange->http->app;
    bool endless = headers->length > app->max_body + DISCARD_MAX;
    exchange->route = route_admit(app, method, path, headers, &exchange->response);
    if (exchange->response.status && (headers->expects_continue || endless)) {
        exchange->close = true;
        return send_response(exchange, &exchange->response);
    }
    return MHD_YES;
}

static void release_body(struct exchange *exchange)
{
    exchange->http->app->bodies -= exchange->held;
    exchange->held = 0;
    buf_release(&exchange->body);
}

/* What is refused before its end is read on, and forgotten. */
static void stop_taking(struct exchange *exchange)
{
    exchange->route = ROUTE_NONE;
    release_body(exchange);
}

/* Counts what has come of a body. False when all bodies together are too much. */
static bool hold(struct exchange *exchange, size_t bytes)
{
    struct app *app = exchange->http->app;
    size_t more = bytes - exchange->held;
    if (bytes > BODY_SMALL && app->bodies + more > app->max_bodies)
        return false;
    app->bodies += more;
    exchange->held = bytes;
    return true;
}

static enum MHD_Result take_body(struct exchange *exchange, const char *data, size_t len)
{
    const struct app *app = exchange->http->app;
    exchange->received += len;
    if (exchange->received > app->max_body + DISCARD_MAX)
        return MHD_NO;
    if (!route_wants_body(exchange->route))
        return MHD_YES;
    if (exchange->received > app->max_body) {
        stop_taking(exchange);
        route_too_large(app, &exchange->response);
        return MHD_YES;
    }
    if (!hold(exchange, exchange->received)) {
        stop_taking(exchange);
        exchange->response.retry_after = 1;
        response_error(&exchange->response, 503, NULL, "server_busy",
                       "The server is reading as many large requests as it has room for (%zu MiB): "
                       "try again later.",
                       app->max_bodies >> 20);
        return MHD_YES;
    }
    buf_append(&exchange->body, data, len);
    return exchange->body.failed ? MHD_NO : MHD_YES;
}

/* Loop thread, or the one that reads large bodies. */
static void read_body(struct exchange *exchange)
{
    const struct buf *body = &exchange->body;
    if (exchange->completion)
        completion_parse(exchange->completion, body->data, body->len);
    else
        route_respond(exchange->http->app, exchange->route, "", body, &exchange->response);
    if (body->len > BODY_SMALL)
        malloc_trim(0); /* values that are gone, a hundred times the size of what stays */
}

static void body_read(struct exchange *exchange)
{
    release_body(exchange);
    if (exchange->completion && completion_start(exchange->completion, wake, exchange))
        uv_poll_start(&exchange->connection->watch, UV_DISCONNECT, on_hangup);
}

static void exchange_free(struct exchange *exchange)
{
    if (exchange->completion)
        completion_drop(exchange->completion);
    response_release(&exchange->response);
    release_body(exchange);
    exchange->http->n_exchanges--;
    free(exchange);
}

static void on_work(uv_work_t *work)
{
    read_body(work->data);
}

static void on_worked(uv_work_t *work, int status)
{
    struct exchange *exchange = work->data;
    struct http *http = exchange->http;
    (void)status;
    exchange->working = false;
    if (exchange->gone) {
        log_request(exchange, MHD_REQUEST_TERMINATED_CLIENT_ABORT);
        exchange_free(exchange);
    } else {
        body_read(exchange);
        resume(exchange);
    }
    http_pump(http);
}

/* Who gets a share: the holder of a key, or else an address. */
static uint64_t client_of(const struct exchange *exchange)
{
    const struct headers *headers = &exchange->headers;
    const char *key = headers->authorization ? headers->authorization : headers->api_key;
    const char *who = exchange->http->app->keys.n && key ? key : exchange->client;
    return hash_bytes(who, strlen(who));
}

static enum MHD_Result run(struct exchange *exchange, const char *path)
{
    struct app *app = exchange->http->app;
    exchange->connection->deadline = 0;
    enum api_kind kind;
    bool completes = route_completes(exchange->route, &kind);
    if (!route_wants_body(exchange->route)) {
        route_respond(app, exchange->route, path, &exchange->body, &exchange->response);
        return MHD_YES;
    }
    if (completes &&
        !(exchange->completion = completion_new(app, kind, client_of(exchange), exchange->id)))
        return MHD_NO;
    exchange->work.data = exchange;
    exchange->working = exchange->body.len > BODY_SMALL &&
                        !uv_queue_work(exchange->http->loop, &exchange->work, on_work, on_worked);
    if (exchange->working)
        return MHD_YES;
    read_body(exchange);
    body_read(exchange);
    return MHD_YES;
}

/* The request is whole, or the connection has been resumed. */
static enum MHD_Result respond(struct exchange *exchange, const char *path)
{
    if (!exchange->response.status && !exchange->completion && run(exchange, path) == MHD_NO)
        return MHD_NO;
    exchange->connection->deadline = 0;
    if (exchange->working) {
        sleep_now(exchange);
        return MHD_YES;
    }
    if (exchange->response.status)
        return send_response(exchange, &exchange->response);
    if (exchange->completion->response.status >= 400)
        return send_response(exchange, &exchange->completion->response);
    if (exchange->completion->request.stream)
        return send_stream(exchange);
    if (exchange->completion->state == COMPLETION_BROKEN)
        return MHD_NO;
    if (exchange->completion->state == COMPLETION_DONE)
        return send_response(exchange, &exchange->completion->response);
    sleep_now(exchange);
    return MHD_YES;
}

enum MHD_Result exchange_handler(void *arg, struct MHD_Connection *mhd, const char *path,
                                 const char *method, const char *version, const char *data,
                                 size_t *len, void **context)
{
    struct exchange *exchange = *context;
    path = route_path(path);
    if (!exchange) {
        *context = exchange = exchange_new(arg, mhd);
        if (!exchange)
            return MHD_NO;
        snprintf(exchange->method, sizeof exchange->method, "%s", method);
        snprintf(exchange->path, sizeof exchange->path, "%s", path);
        read_headers(exchange, method, version);
        return begin(exchange, method, path);
    }
    if (!*len)
        return respond(exchange, path);
    size_t n = *len;
    *len = 0;
    return take_body(exchange, data, n);
}

void exchange_completed(void *arg, struct MHD_Connection *mhd, void **context,
                        enum MHD_RequestTerminationCode why)
{
    struct http *http = arg;
    struct exchange *exchange = *context;
    (void)mhd;
    if (!exchange)
        return;
    if (!exchange->working) /* else it is read just now, and its client has left */
        log_request(exchange, why);
    uv_poll_stop(&exchange->connection->watch);
    exchange->connection->deadline = clock_seconds() + http->timeout;
    exchange->connection->exchange = NULL;
    *context = NULL;
    if (exchange->working)
        exchange->gone = true; /* on_worked frees it */
    else
        exchange_free(exchange);
}
