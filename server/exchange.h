/* One request and its response on a connection: headers, body, route. Owns struct exchange,
 * suspends and resumes its connection. libmicrohttpd calls in, through http.c. reply.c sends its
 * response, request_log.c and refusal.c tell of it. Loop thread. */
#ifndef SERVER_EXCHANGE_H
#define SERVER_EXCHANGE_H

#include <microhttpd.h>

#include "server/headers.h"
#include "server/http.h"
#include "server/route.h"

#define REQUEST_ID_BYTES (HEADERS_ID_MAX + 1)

struct completion;

struct exchange {
    struct http *http;
    struct connection *connection;
    struct MHD_Connection *mhd;
    enum route route; /* what is done; ROUTE_NONE: it is refused, */
    enum route asked; /* though there is such a place */
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
    bool headless;              /* no memory for its headers */
    bool old;                   /* HTTP/1.0 */
    int status;                 /* of the response, 0: none was sent */
    double start;               /* s */
    char method[16], path[128]; /* for the log, */
    char client[CLIENT_BYTES];  /* as the connection's, which it may outlive */
    char id[REQUEST_ID_BYTES];  /* x-request-id */
};

/* libmicrohttpd's access handler; `http` is the struct http. It calls once with the headers, again
 * for each piece of the body, and again when the request is whole or the connection is resumed. */
enum MHD_Result exchange_handler(void *http, struct MHD_Connection *mhd, const char *path,
                                 const char *method, const char *version, const char *data,
                                 size_t *len, void **context);

/* The response has been sent, or never will be. */
void exchange_completed(void *http, struct MHD_Connection *mhd, void **context,
                        enum MHD_RequestTerminationCode why);

/* Fills one in for a request that libmicrohttpd refused before exchange_handler saw it. */
void exchange_unseen(struct exchange *exchange, struct connection *connection);

/* Its connection sleeps until it is resumed: there is nothing to send. */
void exchange_sleep(struct exchange *exchange);

#endif
