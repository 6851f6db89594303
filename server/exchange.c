/* One request and its response: see exchange.h. */
#include "server/exchange.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/hash.h"
#include "server/completion.h"
#include "server/reply.h"
#include "server/request_log.h"

/* A refused request's body is read to its end, so that the client gets to see why; when it is
 * longer than what is allowed by this much, the connection is closed under it. */
#define DISCARD_MAX (16u << 20)
/* Bodies up to this size are read at once, in less than 5 ms whatever they hold; longer ones by a
 * thread, one after another, while the loop goes on. They are also what must find room beside the
 * other bodies. */
#define BODY_SMALL 16384

/* ---- suspending: a connection sleeps while its completion has nothing to send ---- */

void exchange_sleep(struct exchange *exchange)
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

/* The client has closed its side: it may have gone, or wait for the answer to what was all it had
 * to say. To one who has gone a packet more is answered with a reset: a comment in a stream, before
 * any other answer the interim one that every HTTP/1.1 client must bear. HTTP/1.0 has none, so
 * there it counts as gone. */
static bool probe(struct exchange *exchange)
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    bool stream = exchange->completion->request.stream;
    if (exchange->completion->state == COMPLETION_DONE)
        return true; /* the answer is on its way: that shows it too */
    if (!stream && exchange->old)
        return false;
    if (stream)
        completion_probe(exchange->completion);
    else
        http_send_now(exchange->mhd, interim, sizeof interim - 1);
    return true;
}

static void on_hangup(uv_poll_t *watch, int status, int what)
{
    struct connection *connection = watch->data;
    if (!status && what & UV_DISCONNECT && probe(connection->exchange)) {
        uv_poll_start(watch, UV_PRIORITIZED, on_hangup); /* of errors it tells all the same */
        wake(connection->exchange);
        http_pump(connection->http);
        return;
    }
    uv_poll_stop(watch);
    completion_cancel(connection->exchange->completion);
    shutdown(connection->fd, SHUT_RDWR);
    wake(connection->exchange);
    http_pump(connection->http);
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
    exchange->old = strcmp(version, "HTTP/1.1") != 0;
    if (exchange->headers.request_id)
        snprintf(exchange->id, sizeof exchange->id, "%s", exchange->headers.request_id);
}

static void init(struct exchange *exchange, struct connection *connection)
{
    uint64_t bits = 0;
    exchange->http = connection->http;
    exchange->connection = connection;
    exchange->start = clock_seconds();
    memcpy(exchange->client, connection->client, sizeof exchange->client);
    if (getrandom(&bits, sizeof bits, 0) < 0)
        bits = (uintptr_t)exchange;
    snprintf(exchange->id, sizeof exchange->id, "req-%016" PRIx64, bits);
}

void exchange_unseen(struct exchange *exchange, struct connection *connection)
{
    memset(exchange, 0, sizeof *exchange);
    init(exchange, connection);
}

static struct exchange *exchange_new(struct http *http, struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct exchange *exchange = calloc(1, sizeof *exchange);
    if (!exchange || !info || !info->socket_context) {
        free(exchange);
        return NULL;
    }
    init(exchange, info->socket_context);
    exchange->mhd = mhd;
    exchange->connection->exchange = exchange;
    exchange->connection->deadline = exchange->start + http->timeout;
    http->n_exchanges++;
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
        return reply_send(exchange, &exchange->response);
    }
    const struct app *app = exchange->http->app;
    exchange->asked = route_of(path);
    bool endless = headers->length > app->max_body + DISCARD_MAX;
    exchange->route = route_admit(app, method, path, headers, &exchange->response);
    if (exchange->response.status && (headers->expects_continue || endless)) {
        exchange->close = true;
        return reply_send(exchange, &exchange->response);
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
        request_log(exchange, MHD_REQUEST_TERMINATED_CLIENT_ABORT);
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
        exchange_sleep(exchange);
        return MHD_YES;
    }
    if (exchange->response.status)
        return reply_send(exchange, &exchange->response);
    if (exchange->completion->response.status >= 400)
        return reply_send(exchange, &exchange->completion->response);
    if (exchange->completion->request.stream)
        return reply_stream(exchange);
    if (exchange->completion->state == COMPLETION_BROKEN)
        return MHD_NO;
    if (exchange->completion->state == COMPLETION_DONE)
        return reply_send(exchange, &exchange->completion->response);
    exchange_sleep(exchange);
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
        request_log(exchange, why);
    uv_poll_stop(&exchange->connection->watch);
    exchange->connection->deadline = clock_seconds() + http->timeout;
    exchange->connection->exchange = NULL;
    *context = NULL;
    if (exchange->working)
        exchange->gone = true; /* on_worked frees it */
    else
        exchange_free(exchange);
}
