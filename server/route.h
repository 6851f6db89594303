/* Which path and method does what, who may come in, and every response but completions. Knows
 * neither sockets nor libmicrohttpd. Called by exchange.c on the loop thread. */
#ifndef SERVER_ROUTE_H
#define SERVER_ROUTE_H

#include <stdbool.h>

#include "server/app.h"
#include "server/headers.h"
#include "server/response.h"

enum route {
    ROUTE_NONE, /* refused: the response says why */
    ROUTE_PAGE,
    ROUTE_HEALTH,
    ROUTE_READY,
    ROUTE_METRICS,
    ROUTE_MODELS,
    ROUTE_MODEL,
    ROUTE_PROPS,
    ROUTE_VERSION,
    ROUTE_COMPLETIONS,
    ROUTE_CHAT,
    ROUTE_RESPONSES,
    ROUTE_MESSAGES,
    ROUTE_COUNT_TOKENS,
    ROUTE_INFILL,
    ROUTE_SPEEDUP,
    ROUTE_TOKENIZE,
    ROUTE_DETOKENIZE,
    ROUTE_APPLY_TEMPLATE,
    ROUTE_PREFLIGHT,
    N_ROUTES
};

/* Decides on a request whose headers have come and whose body has not: path, method, key, content
 * type, length. ROUTE_NONE comes with `response` set. */
enum route route_admit(const struct app *app, const char *method, const char *path,
                       const struct headers *headers, struct response *response);

/* The route at a path, whatever the method: ROUTE_NONE where there is nothing. */
enum route route_of(const char *path);

/* The path that names it in the metrics. */
const char *route_label(enum route route);

/* The path of a request's target, which may be a whole URL (as proxies send it). */
const char *route_path(const char *target);

/* Whether a completion answers the route, of the kind that *kind receives. */
bool route_completes(enum route route, enum api_kind *kind);

/* Whether the route reads the request's body. */
bool route_wants_body(enum route route);

/* Makes the response of every route that is not answered by a completion. */
void route_respond(struct app *app, enum route route, const char *path, const struct buf *body,
                   struct response *response);

/* The 413 of a body that turned out to be too long. */
void route_too_large(const struct app *app, struct response *response);

#endif
