/* What all of the server's parts share: the engine, the settings, the figures, and the list of
 * running completions. main.c owns the one struct app; everything in it belongs to the loop
 * thread. The decode thread never touches it: its only way in is engine_options.notify, which
 * wakes the loop. */
#ifndef SERVER_APP_H
#define SERVER_APP_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "engine/engine.h"
#include "server/api.h"
#include "server/audit.h"
#include "server/capture.h"
#include "server/keys.h"
#include "server/metrics.h"

struct completion;

struct app {
    struct engine *engine;
    const struct engine_info *info;
    struct api_model model;
    struct keys keys;
    struct metrics metrics;
    struct capture capture;
    struct audits audits;
    struct completion *completions; /* until the engine has ended their requests */
    const char *allow_origin;       /* Access-Control-Allow-Origin, "" = none */
    size_t max_body;                /* bytes of a request's body, */
    size_t max_bodies, bodies;      /* and of all that are held, at most and now */
    size_t max_unread;              /* bytes of a stream that its client has not read, */
    size_t paused;                  /* and texts that rest because there are so many */
    double max_seconds;             /* of a request, 0 = any */
    double stall;                   /* s without a heartbeat after which /health says 503 */
    time_t started;
    bool draining;     /* no new completions */
    bool prefix_apart; /* clients share no pages of keys and values */
};

#endif
