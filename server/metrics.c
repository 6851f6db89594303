/* Prometheus text: see metrics.h. */
#include "server/metrics.h"

#include <inttypes.h>

/* Seconds. One table serves tokens (milliseconds) and whole requests (minutes). */
static const double BOUNDS[METRICS_BUCKETS] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05,
                                               0.075, 0.1,   0.15,  0.2,  0.3,  0.5,  1,
                                               2,     5,     10,    30,   60,   300};

void histogram_add(struct histogram *histogram, double seconds, uint64_t weight)
{
    int i = 0;
    while (i < METRICS_BUCKETS && seconds > BOUNDS[i])
        i++;
    histogram->count[i] += weight;
    histogram->sum += seconds * (double)weight;
}

void metrics_count_response(struct metrics *metrics, int status)
{
    if (status >= 0 && status < 600)
        metrics->responses[status]++;
}

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP headway_%s %s\n# TYPE headway_%s %s\n", name, help, name, type);
}

static void counter(struct buf *out, const char *name, const char *help, uint64_t value)
{
    head(out, name, "counter", help);
    buf_printf(out, "headway_%s %" PRIu64 "\n", name, value);
}

static void gauge(struct buf *out, const char *name, const char *help, double value)
{
    head(out, name, "gauge", help);
    buf_printf(out, "headway_%s %.9g\n", name, value);
}

static void histogram_write(struct buf *out, const char *name, const char *help,
                            const struct histogram *histogram)
{
    uint64_t total = 0;
    head(out, name, "histogram", help);
    for (int i = 0; i < METRICS_BUCKETS; i++) {
        total += histogram->count[i];
        buf_printf(out, "headway_%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, BOUNDS[i], total);
    }
    total += histogram->count[METRICS_BUCKETS];
    buf_printf(out, "headway_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, total);
    buf_printf(out, "headway_%s_sum %.9g\n", name, histogram->sum);
    buf_printf(out, "headway_%s_count %" PRIu64 "\n", name, total);
}

static void write_speculation(struct buf *out, const struct engine_info *info,
                              const struct engine_speculation *speculation)
{
    static const char per_position[] = "spec_decode_num_accepted_tokens_per_pos_total";
    counter(out, "spec_decode_num_drafts_total", "Steps that carried drafts.", speculation->steps);
    counter(out, "spec_decode_num_draft_tokens_total", "Tokens drafted.", speculation->drafted);
    counter(out, "spec_decode_num_accepted_tokens_total", "Drafted tokens that were accepted.",
            speculation->accepted);
    head(out, per_position, "counter", "Accepted tokens by their place among the drafts.");
    for (int i = 0; i < info->n_predict - 1 && i < ENGINE_DRAFTS_MAX; i++)
        buf_printf(out, "headway_%s{position=\"%d\"} %" PRIu64 "\n", per_position, i,
                   speculation->accepted_at[i]);
}

static void write_engine(struct buf *out, const struct engine_stats *stats)
{
    counter(out, "requests_total", "Texts asked of the engine.", stats->requests);
    counter(out, "requests_finished_total", "Texts that were completed.", stats->finished);
    counter(out, "requests_cancelled_total", "Texts whose client went away.", stats->cancelled);
    counter(out, "requests_failed_total", "Texts that ended in an error.", stats->errors);
    gauge(out, "num_requests_running", "Texts being decoded.", stats->running);
    gauge(out, "num_requests_waiting", "Texts in the queue.", stats->waiting);
    counter(out, "prompt_tokens_total", "Prompt tokens read.", stats->prompt_tokens);
    counter(out, "generation_tokens_total", "Tokens generated.", stats->generation_tokens);
    counter(out, "forwards_total", "Passes of the trunk.", stats->forwards);
    head(out, "forward_seconds_total", "counter", "Time spent in passes of the trunk.");
    buf_printf(out, "headway_forward_seconds_total %.9g\n", stats->step_seconds_sum);
    gauge(out, "kv_cache_usage_perc", "Fraction of the cache's positions in use, 0 to 1.",
          stats->kv_used);
    gauge(out, "heartbeat_age_seconds", "Time since the decode thread last showed life.",
          stats->heartbeat_age);
}

void metrics_write(const struct metrics *metrics, const struct engine_info *info,
                   const struct engine_stats *stats, struct buf *out)
{
    write_engine(out, stats);
    write_speculation(out, info, &stats->speculation);
    histogram_write(out, "time_to_first_token_seconds", "From the request to its first token.",
                    &metrics->first_token);
    histogram_write(out, "inter_token_latency_seconds", "Time per committed token.",
                    &metrics->inter_token);
    histogram_write(out, "request_time_per_output_token_seconds",
                    "A text's mean time per token after the first.", &metrics->per_token);
    histogram_write(out, "e2e_request_latency_seconds", "From the request to its last token.",
                    &metrics->request);
    head(out, "http_responses_total", "counter", "HTTP answers by status.");
    for (int i = 0; i < 600; i++)
        if (metrics->responses[i])
            buf_printf(out, "headway_http_responses_total{code=\"%d\"} %" PRIu64 "\n", i,
                       metrics->responses[i]);
    counter(out, "client_disconnects_total", "Clients that left before their answer was complete.",
            metrics->disconnects);
    counter(out, "stream_overflows_total", "Streams ended because the client did not read.",
            metrics->overflows);
}
