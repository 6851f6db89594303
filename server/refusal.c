/* The library's own refusals: see refusal.h. */
#include "server/refusal.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/socket.h>

#include "server/exchange.h"
#include "server/request_log.h"

#define DRAIN_BLOCKS 256 /* of 4 KiB that a refused client may have sent already */

typedef enum MHD_Result queue_fn(struct MHD_Connection *, unsigned, struct MHD_Response *);

enum MHD_Result refusal_queue(struct MHD_Connection *mhd, unsigned status,
                              struct MHD_Response *response)
{
    static queue_fn *library;
    if (!library)
        library = (queue_fn *)dlsym(RTLD_NEXT, "MHD_queue_response");
    return library ? library(mhd, status, response) : MHD_NO;
}

/* ---- what is wrong ---- */

static const char *header(struct MHD_Connection *mhd, const char *name)
{
    return MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, name);
}

/* Of a 400 only the place is known: the body, the headers as a whole, or a line of the head. */
static const char *what_is_malformed(struct MHD_Connection *mhd, const struct exchange *exchange)
{
    const union MHD_ConnectionInfo *head =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    if (exchange)
        return "The chunked body is malformed.";
    if (!head || !head->header_size)
        return "The request line or a header line is malformed.";
    if (!header(mhd, "Host"))
        return "The Host header is missing, which HTTP/1.1 asks for.";
    return "The Content-Length header is not a whole number of bytes.";
}

static void describe(struct MHD_Connection *mhd, const struct exchange *exchange, int status,
                     struct response *to)
{
    if (status == 400)
        response_error(to, status, NULL, "bad_request", "%s", what_is_malformed(mhd, exchange));
    else if (status == 413)
        response_error(to, status, NULL, "body_too_large",
                       "The body's length is a number larger than this server reads.");
    else if (status == 414)
        response_error(to, status, NULL, "url_too_long",
                       "The request line is longer than %d bytes.", CONNECTION_POOL);
    else if (status == 431)
        response_error(to, status, NULL, "headers_too_large",
                       "The request line and the headers do not fit into %d bytes.",
                       CONNECTION_POOL);
    else if (status == 505)
        response_error(to, status, NULL, "http_version", "The HTTP version must be 1.1 or 1.0.");
    else
        response_error(to, status, NULL, NULL, "The request could not be read.");
}

/* ---- the answer ---- */

static const char *reason(int status)
{
    return status == 400   ? "Bad Request"
           : status == 413 ? "Content Too Large"
           : status == 414 ? "URI Too Long"
           : status == 431 ? "Request Header Fields Too Large"
           : status == 505 ? "HTTP Version Not Supported"
                           : "Internal Server Error";
}

static void write_answer(const struct exchange *exchange, const struct response *response,
                         struct buf *out)
{
    const char *origin = exchange->http->app->allow_origin;
    buf_printf(out,
               "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
               "Connection: close\r\nx-request-id: %s\r\nx-should-retry: false\r\n",
               response->status, reason(response->status), response->body.len, exchange->id);
    if (*origin)
        buf_printf(out, "Access-Control-Allow-Origin: %s\r\n", origin);
    buf_puts(out, "\r\n");
    buf_append(out, response->body.data, response->body.len);
    out->failed |= response->body.failed;
}

/* Nothing of an answer has gone out on the connection yet, so that a few hundred bytes find room.
 * What the client has sent meanwhile is read: closing over it would take the answer from him. */
static void send_now(struct MHD_Connection *mhd, int fd, const struct buf *answer)
{
    char block[4096];
    http_send_now(mhd, answer->data, answer->len);
    shutdown(fd, SHUT_WR);
    for (int i = 0; i < DRAIN_BLOCKS && recv(fd, block, sizeof block, MSG_DONTWAIT) > 0; i++)
        ;
}

static void refuse(struct MHD_Connection *mhd, struct connection *connection, int status)
{
    struct exchange unseen, *exchange = connection->exchange; /* NULL: it was still being read */
    struct response response = {0};
    struct buf answer = {0};
    describe(mhd, exchange, status, &response);
    if (!exchange)
        exchange_unseen(exchange = &unseen, connection);
    write_answer(exchange, &response, &answer);
    if (!answer.failed)
        send_now(mhd, connection->fd, &answer);
    metrics_count_response(&connection->http->app->metrics, exchange->asked, status);
    exchange->status = status;
    if (exchange == &unseen)
        request_log(exchange, MHD_REQUEST_TERMINATED_COMPLETED_OK);
    buf_release(&answer);
    response_release(&response);
}

/* In the library's place: MHD_NO has it close the connection. */
enum MHD_Result MHD_queue_response(struct MHD_Connection *mhd, unsigned status,
                                   struct MHD_Response *response)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    (void)response;
    if (info && info->socket_context)
        refuse(mhd, info->socket_context, (int)status);
    return MHD_NO;
}
