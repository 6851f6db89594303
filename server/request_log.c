/* The log's line about a request: see request_log.h. */
#include "server/request_log.h"

#include <math.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/completion.h"

/* One line when all is over. What watches the server would fill the log, and is left to `debug`. */
void request_log(const struct exchange *exchange, enum MHD_RequestTerminationCode why)
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
    const char *end = ok               ? NULL
                      : c && c->broken ? c->broken
                      : c && c->paused ? "stream unread"
                                       : ends[why];
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
