/* libmicrohttpd on libuv's loop: its epoll descriptor under a uv_poll, its next time-out under a
 * uv_timer. Owns the listening socket, the connections and their deadlines. What happens on a
 * connection is in exchange.c. main.c opens, drains and closes it; everything runs on the loop
 * thread, so libmicrohttpd (which has no thread of its own here) and its callbacks do too. */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include <microhttpd.h>
#include <uv.h>

#include "base/err.h"
#include "server/app.h"
#include "server/tls.h"

struct exchange;

#define CLIENT_BYTES 64
#define CONNECTION_POOL 32768 /* request line and headers must fit in it */

struct connection {
    struct http *http;
    struct connection *prev, *next; /* in http->connections */
    int fd;
    char client[CLIENT_BYTES]; /* the address that it comes from, as text; "?" */
    struct tls_pair *pair;     /* of its TLS session, NULL = none */
    bool closing;              /* it was shut down to make room */
    double deadline;           /* when a request must have come, s; 0 = one is being served */
    struct exchange *exchange; /* the request being served, or NULL */
    uv_poll_t watch; /* while a completion runs: tells when the client goes away. libmicrohttpd
                        does not look at suspended connections. */
};

struct http {
    struct app *app;
    uv_loop_t *loop;
    struct MHD_Daemon *daemon;
    int listen_fd;
    struct tls tls; /* the certificate, where HTTPS is served; owned. May be read again. */
    int timeout;    /* s a client may take to send a request, or leave a response unread */
    struct connection *connections; /* the newest first, */
    int n_connections, max_connections, max_per_address;
    double warned;      /* when the log last told that there were too many */
    bool freed;         /* a connection ended during MHD_run */
    size_t n_exchanges; /* requests whose headers have come and whose response has not been sent */
    uv_poll_t events;
    uv_timer_t timer, sweep, deadline;
    int drain_seconds; /* that http_drain gives to what runs */
};

/* Binds the address, without listening yet: a wrong port shows before the model is loaded. Port 0
 * takes a free one; *port receives it. Sets http->listen_fd. ERR_IO, ERR_INVALID. */
int http_bind(struct http *http, const char *host, int *port, struct err *err);

/* Begins to listen and to serve on http->loop, with the limits that are set: a connection beyond
 * one of them takes the place of the one that has longest been without a request, of the same
 * address where that has too many, else of the address that has most; or it is closed. ERR_IO. */
int http_open(struct http *http, struct err *err);

/* Lets libmicrohttpd do what it can do now. Call it after resuming connections. Stops the loop when
 * the server is draining and nothing is left to do. */
void http_pump(struct http *http);

/* Sends bytes past libmicrohttpd, where it has nothing of its own to send; what the kernel has no
 * room for is lost. */
void http_send_now(struct MHD_Connection *mhd, const char *data, size_t len);

/* No new connections; the loop stops once what runs is finished, or when it has had drain_seconds:
 * then it ends with a sentence, and connections that don't take that in time are cut. */
void http_drain(struct http *http);

/* After the loop has stopped: no exchange may be open. Run the loop once more for libuv's sake. */
void http_close(struct http *http);

#endif
