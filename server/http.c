/* libmicrohttpd under libuv: see http.h. */
#include "server/http.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/completion.h"
#include "server/exchange.h"

#define BACKLOG 256
/* Bytes of a response that the kernel holds for a client that does not read. */
#define SEND_BUFFER 65536
#define SWEEP_MS 1000
#define ROOM 32 /* connections beyond the limit, while others are closed for them */
#define WARN_SECONDS 10
#define CUT_MS 1000 /* from the sentence to the end */

/* ---- listening ---- */

static int bind_one(const struct addrinfo *address)
{
    int one = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (!bind(fd, address->ai_addr, address->ai_addrlen))
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static int port_of(int fd)
{
    char service[16] = "0";
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    if (!getsockname(fd, (struct sockaddr *)&address, &len))
        getnameinfo((struct sockaddr *)&address, len, NULL, 0, service, sizeof service,
                    NI_NUMERICSERV);
    return atoi(service);
}

int http_bind(struct http *http, const char *host, int *port, struct err *err)
{
    char service[16];
    struct addrinfo *list,
        hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    snprintf(service, sizeof service, "%d", *port);
    int rc = getaddrinfo(host, service, &hints, &list);
    if (rc)
        return err_set(err, ERR_INVALID, "--host %s is no address of this machine: %s", host,
                       gai_strerror(rc));
    http->listen_fd = -1;
    for (struct addrinfo *a = list; a && http->listen_fd < 0; a = a->ai_next)
        http->listen_fd = bind_one(a);
    int why = errno;
    freeaddrinfo(list);
    if (http->listen_fd < 0)
        return err_set(err, ERR_IO, "cannot listen on %s port %d: %s", host, *port, strerror(why));
    *port = port_of(http->listen_fd);
    return 0;
}

/* ---- connections ---- */

static void on_watch_closed(uv_handle_t *watch)
{
    free(watch->data);
}

static void set_client(struct connection *connection, struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (!info || !info->client_addr ||
        getnameinfo(info->client_addr, sizeof(struct sockaddr_in6), connection->client,
                    sizeof connection->client, NULL, 0, NI_NUMERICHOST))
        strcpy(connection->client, "?");
}

static int count_client(const struct http *http, const char *client)
{
    int n = 0;
    for (const struct connection *c = http->connections; c; c = c->next)
        n += !c->closing && !strcmp(c->client, client);
    return n;
}

/* The connection that has waited longest without a request: of that address or, where it is NULL,
 * of the address that has most of them. NULL: there is none. */
static struct connection *longest_idle(const struct http *http, const char *client)
{
    struct connection *found = NULL;
    const char *counted = NULL; /* whose address n is of: a crowd's stand together */
    int most = 0, n = 1;
    for (struct connection *c = http->connections; c; c = c->next) {
        if (c->closing || c->exchange || (client && strcmp(c->client, client)))
            continue;
        if (!client && !(counted && !strcmp(counted, c->client)))
            n = count_client(http, counted = c->client);
        if (n >= most) { /* the list begins with the newest */
            most = n;
            found = c;
        }
    }
    return found;
}

static void close_for_room(struct connection *c)
{
    c->closing = true;
    c->deadline = 0;
    shutdown(c->fd, SHUT_RDWR);
}

/* Keeps to the limits when one more has come. */
static void make_room(struct http *http, struct connection *newest)
{
    bool crowd = count_client(http, newest->client) > http->max_per_address;
    if (!crowd && http->n_connections <= http->max_connections)
        return;
    newest->closing = true; /* it has only just come: not it, if there is another */
    struct connection *victim = longest_idle(http, crowd ? newest->client : NULL);
    newest->closing = false;
    close_for_room(victim ? victim : newest);
    if (victim)
        http->app->metrics.evicted++;
    else
        http->app->metrics.refused++;
    if (clock_seconds() < http->warned + WARN_SECONDS)
        return;
    http->warned = clock_seconds();
    log_warn("%d connections, %d of them from %s: %s", http->n_connections,
             count_client(http, newest->client), newest->client,
             victim ? "one without a request was closed for another"
                    : "one more was closed at once");
}

/* libmicrohttpd gives each session the certificate that it was started with. */
static bool begin_tls(struct connection *connection, struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *tls =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    if (!connection->http->tls.pair)
        return true;
    if (tls && tls->tls_session)
        connection->pair = tls_hold(&connection->http->tls, tls->tls_session);
    return connection->pair;
}

static void connection_begin(struct http *http, struct MHD_Connection *mhd, void **context)
{
    int size = SEND_BUFFER;
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return; /* exchange_handler closes connections without context */
    connection->http = http;
    connection->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    connection->deadline = clock_seconds() + http->timeout;
    setsockopt(connection->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    if (!begin_tls(connection, mhd) ||
        uv_poll_init(http->loop, &connection->watch, connection->fd)) {
        tls_let_go(connection->pair);
        free(connection);
        return;
    }
    connection->watch.data = connection;
    connection->next = http->connections;
    if (http->connections)
        http->connections->prev = connection;
    http->connections = connection;
    http->n_connections++;
    *context = connection;
    set_client(connection, mhd);
    make_room(http, connection);
}

/* libmicrohttpd closes the descriptor after this; uv_close forgets it at once, though the handle's
 * memory must live until the loop has turned. */
static void connection_end(struct http *http, struct connection *connection)
{
    if (connection->prev)
        connection->prev->next = connection->next;
    else
        http->connections = connection->next;
    if (connection->next)
        connection->next->prev = connection->prev;
    tls_let_go(connection->pair);
    uv_close((uv_handle_t *)&connection->watch, on_watch_closed);
    http->n_connections--;
    http->freed = true;
}

static void on_connection(void *arg, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        connection_begin(arg, mhd, context);
    else if (*context)
        connection_end(arg, *context);
}

/* libmicrohttpd's own time-out starts anew with each byte, so a client that sends one now and then
 * would hold its connection for ever. */
static void on_sweep(uv_timer_t *timer)
{
    struct http *http = timer->data;
    double now = clock_seconds();
    for (struct connection *c = http->connections; c; c = c->next)
        if (c->deadline && now > c->deadline) {
            c->deadline = 0;
            shutdown(c->fd, SHUT_RDWR);
        }
    completions_expire(http->app);
    audits_pump(http->app);
    http_pump(http);
}

/* ---- the loop ---- */

static void on_timer(uv_timer_t *timer)
{
    http_pump(timer->data);
}

static void on_events(uv_poll_t *events, int status, int what)
{
    (void)status, (void)what;
    http_pump(events->data);
}

void http_pump(struct http *http)
{
    MHD_UNSIGNED_LONG_LONG ms;
    do { /* at the connection limit, a freed place is only filled by the next run */
        http->freed = false;
        MHD_run(http->daemon);
    } while (http->freed);
    if (MHD_get_timeout(http->daemon, &ms) == MHD_YES)
        uv_timer_start(&http->timer, on_timer, ms, 0);
    else
        uv_timer_stop(&http->timer);
    if (http->app->draining && !http->n_exchanges && !http->app->completions)
        uv_stop(http->loop);
}

void http_send_now(struct MHD_Connection *mhd, const char *data, size_t len)
{
    const union MHD_ConnectionInfo *tls =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    if (tls && tls->tls_session)
        gnutls_record_send(tls->tls_session, data, len);
    else
        send(MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd, data, len,
             MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Paths stay as they were sent: "/health%00x" and "/v1%2fmodels" are no routes. */
static size_t leave_escaped(void *arg, struct MHD_Connection *mhd, char *text)
{
    (void)arg, (void)mhd;
    return strlen(text);
}

static int start_daemon(struct http *http, struct err *err)
{
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, http->tls.cert},
                                   {MHD_OPTION_HTTPS_MEM_KEY, 0, http->tls.key},
                                   {MHD_OPTION_HTTPS_PRIORITIES, 0, TLS_PRIORITIES},
                                   {MHD_OPTION_END, 0, NULL}};
    bool safe = http->tls.cert != NULL;
    http->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | (safe ? MHD_USE_TLS : 0), 0, NULL, NULL,
        exchange_handler, http, MHD_OPTION_LISTEN_SOCKET, http->listen_fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)(http->max_connections + ROOM),
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)http->timeout, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_POOL, MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_NOTIFY_COMPLETED,
        exchange_completed, http, MHD_OPTION_ARRAY, safe ? tls : tls + 3, MHD_OPTION_END);
    if (!http->daemon)
        return err_set(err, ERR_IO, "libmicrohttpd could not be started: %s", strerror(errno));
    return 0;
}

int http_open(struct http *http, struct err *err)
{
    if (listen(http->listen_fd, BACKLOG))
        return err_set(err, ERR_IO, "cannot listen: %s", strerror(errno));
    int rc = start_daemon(http, err);
    if (rc)
        return rc;
    int fd = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    http->events.data = http->timer.data = http->sweep.data = http->deadline.data = http;
    uv_poll_init(http->loop, &http->events, fd);
    uv_timer_init(http->loop, &http->timer);
    uv_timer_init(http->loop, &http->sweep);
    uv_timer_init(http->loop, &http->deadline);
    uv_poll_start(&http->events, UV_READABLE, on_events);
    uv_timer_start(&http->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    http_pump(http); /* only its first run puts the listening socket under epoll */
    return 0;
}

static void on_cut(uv_timer_t *timer)
{
    struct http *http = timer->data;
    for (struct connection *c = http->connections; c; c = c->next)
        shutdown(c->fd, SHUT_RDWR);
    http_pump(http);
}

static void on_deadline(uv_timer_t *timer)
{
    struct http *http = timer->data;
    log_warn("%zu requests are ended: they had %d seconds", http->n_exchanges, http->drain_seconds);
    completions_end(http->app);
    uv_timer_start(timer, on_cut, CUT_MS, CUT_MS);
    http_pump(http);
}

void http_drain(struct http *http)
{
    audits_drop(http->app);
    uv_timer_start(&http->deadline, on_deadline, (uint64_t)http->drain_seconds * 1000, 0);
    http_pump(http); /* accepts the connections that wait already */
    http->app->draining = true;
    MHD_socket fd = MHD_quiesce_daemon(http->daemon);
    if (fd != MHD_INVALID_SOCKET)
        close(fd);
    http_pump(http);
}

static void stop_daemon(struct http *http)
{
    uv_close((uv_handle_t *)&http->events, NULL);
    uv_close((uv_handle_t *)&http->timer, NULL);
    uv_close((uv_handle_t *)&http->sweep, NULL);
    uv_close((uv_handle_t *)&http->deadline, NULL);
    MHD_stop_daemon(http->daemon);
    http->daemon = NULL;
}

void http_close(struct http *http)
{
    if (http->daemon)
        stop_daemon(http);
    tls_release(&http->tls);
}
