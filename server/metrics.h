/* The metrics of GET /metrics, in Prometheus' text format: what the server measures itself
 * (latencies, HTTP responses), and the engine's counters. Names and meanings follow vLLM's, with
 * headway_ before them. Loop thread. */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include <stdint.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "server/audit.h"
#include "server/capture.h"

#define METRICS_BUCKETS 20
#define METRICS_ROUTES 24 /* at least as many as enum route has */

struct histogram {
    uint64_t count[METRICS_BUCKETS + 1]; /* the last one: above all bounds */
    double sum;
};

struct metrics {
    struct histogram first_token;            /* s from request to first token (TTFT) */
    struct histogram inter_token;            /* s per committed token after the first (ITL) */
    struct histogram per_token;              /* s, a request's mean of that (TPOT) */
    struct histogram request;                /* s from request to last token */
    struct histogram queue;                  /* s that a text waited for its place */
    struct histogram prompt, generation;     /* tokens of a text */
    uint64_t responses[METRICS_ROUTES][600]; /* by enum route and HTTP status */
    uint64_t disconnects; /* clients that left before their response was complete */
    uint64_t pauses;      /* times that a text rested because the client did not read, */
    uint64_t overflows;   /* and streams that were ended because of that */
    uint64_t evicted;     /* idle connections closed to make room for others, */
    uint64_t refused;     /* and new ones that found none */
};

/* Counts a time `weight` times; a number of tokens once. */
void histogram_add(struct histogram *histogram, double seconds, uint64_t weight);
void histogram_tokens(struct histogram *histogram, uint64_t tokens);

/* route: an enum route. */
void metrics_count_response(struct metrics *metrics, int route, int status);

/* Appends the page. */
void metrics_write(const struct metrics *metrics, const struct engine_info *info,
                   const struct engine_stats *stats, const struct capture *capture,
                   const struct audits *audits, struct buf *out);

#endif
