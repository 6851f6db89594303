/* Responses on their way: see reply.h. */
#include "server/reply.h"

#include <string.h>

#include "server/completion.h"
#include "server/refusal.h"

#define STREAM_BLOCK 16384

/* An answer without one of its headers is another answer: it is not sent. */
static void add_header(struct exchange *exchange, struct MHD_Response *message, const char *name,
                       const char *value)
{
    if (value && *value && MHD_add_response_header(message, name, value) == MHD_NO)
        exchange->headless = true;
}

static void add_cors(struct exchange *exchange, struct MHD_Response *message)
{
    const char *origin = exchange->http->app->allow_origin;
    if (!*origin)
        return;
    add_header(exchange, message, "Access-Control-Allow-Origin", origin);
    add_header(exchange, message, "Access-Control-Expose-Headers", "x-request-id, retry-after");
    if (exchange->route != ROUTE_PREFLIGHT)
        return;
    add_header(exchange, message, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    add_header(exchange, message, "Access-Control-Max-Age", "86400");
    /* The clients' own X-Stainless-* are many: allow what was asked for. */
    add_header(exchange, message, "Access-Control-Allow-Headers",
               exchange->headers.asked_headers
                   ? exchange->headers.asked_headers
                   : "Authorization, Content-Type, OpenAI-Organization, OpenAI-Project");
    add_header(exchange, message, "Vary", "Access-Control-Request-Headers");
}

static enum MHD_Result queue(struct exchange *exchange, int status, struct MHD_Response *message)
{
    if (!message)
        return MHD_NO;
    add_header(exchange, message, "x-request-id", exchange->id);
    if (exchange->response.anthropic)
        add_header(exchange, message, "request-id", exchange->id);
    if (status >= 400 && !response_may_retry(status))
        add_header(exchange, message, "x-should-retry", "false");
    if (exchange->close || exchange->http->app->draining)
        add_header(exchange, message, "Connection", "close");
    add_cors(exchange, message);
    metrics_count_response(&exchange->http->app->metrics, exchange->asked, status);
    exchange->status = status;
    enum MHD_Result result =
        exchange->headless ? MHD_NO : refusal_queue(exchange->mhd, (unsigned)status, message);
    MHD_destroy_response(message);
    return result;
}

/* Browsers keep the page's files and ask each time whether they are still the same. */
static void add_page_headers(struct exchange *exchange, struct MHD_Response *message,
                             const char *etag)
{
    add_header(exchange, message, "Content-Security-Policy",
               "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
               "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    add_header(exchange, message, "X-Content-Type-Options", "nosniff");
    add_header(exchange, message, "Referrer-Policy", "no-referrer");
    add_header(exchange, message, "Cache-Control", "no-cache");
    add_header(exchange, message, "ETag", etag);
}

enum MHD_Result reply_send(struct exchange *exchange, struct response *response)
{
    char seconds[16];
    const char *known = exchange->headers.if_none_match;
    if (response->body.failed)
        return MHD_NO;
    if (*response->etag && known && strstr(known, response->etag)) {
        response->status = 304;
        response->body.len = 0;
    }
    struct MHD_Response *message = MHD_create_response_from_buffer(
        response->body.len, response->body.data ? response->body.data : "",
        response->body.data ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (!message)
        return MHD_NO;
    memset(&response->body, 0, sizeof response->body); /* message owns it now */
    add_header(exchange, message, "Content-Type", response->type);
    add_header(exchange, message, "Allow", response->allow);
    if (exchange->route == ROUTE_PAGE)
        add_page_headers(exchange, message, response->etag);
    snprintf(seconds, sizeof seconds, "%d", response->retry_after);
    if (response->retry_after)
        add_header(exchange, message, "Retry-After", seconds);
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
    exchange_sleep(exchange);
    return 0;
}

enum MHD_Result reply_stream(struct exchange *exchange)
{
    struct MHD_Response *message = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK,
                                                                     read_stream, exchange, NULL);
    if (message) {
        add_header(exchange, message, "Content-Type", "text/event-stream; charset=utf-8");
        add_header(exchange, message, "Cache-Control", "no-cache");
        add_header(exchange, message, "X-Accel-Buffering", "no");
    }
    return queue(exchange, 200, message);
}
