/* Prometheus text: see metrics.h. */
#include "server/metrics.h"

#include <assert.h>
#include <inttypes.h>

#include "server/route.h"

/* Seconds. One table serves tokens (milliseconds) and whole requests (minutes). */
static const double BOUNDS[METRICS_BUCKETS] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05,
                                               0.075, 0.1,   0.15,  0.2,  0.3,  0.5,  1,
                                               2,     5,     10,    30,   60,   300};

/* Of tokens powers of two. */
static double bound(bool tokens, int i)
{
    return tokens ? (double)(UINT64_C(1) << i) : BOUNDS[i];
}

static void add(struct histogram *histogram, bool tokens, double value, uint64_t weight)
{
    int i = 0;
    while (i < METRICS_BUCKETS && value > bound(tokens, i))
        i++;
    histogram->count[i] += weight;
    histogram->sum += value * (double)weight;
}

void histogram_add(struct histogram *histogram, double seconds, uint64_t weight)
{
    add(histogram, false, seconds, weight);
}

void histogram_tokens(struct histogram *histogram, uint64_t tokens)
{
    add(histogram, true, (double)tokens, 1);
}

void metrics_count_response(struct metrics *metrics, int route, int status)
{
    if (status >= 0 && status < 600)
        metrics->responses[route][status]++;
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

static void gauge_exact(struct buf *out, const char *name, const char *help, uint64_t value)
{
    head(out, name, "gauge", help);
    buf_printf(out, "headway_%s %" PRIu64 "\n", name, value);
}

static void histogram_write(struct buf *out, const char *name, const char *help, bool tokens,
                            const struct histogram *histogram)
{
    uint64_t total = 0;
    head(out, name, "histogram", help);
    for (int i = 0; i < METRICS_BUCKETS; i++) {
        total += histogram->count[i];
        buf_printf(out, "headway_%s_bucket{le=\"%.9g\"} %" PRIu64 "\n", name, bound(tokens, i),
                   total);
    }
    total += histogram->count[METRICS_BUCKETS];
    buf_printf(out, "headway_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, total);
    buf_printf(out, "headway_%s_sum %.9g\n", name, histogram->sum);
    buf_printf(out, "headway_%s_count %" PRIu64 "\n", name, total);
}

static void write_speculation(struct buf *out, const struct engine_speculation *speculation)
{
    static const char per_position[] = "spec_decode_num_accepted_tokens_per_pos_total";
    counter(out, "spec_decode_num_drafts_total", "Number of steps with draft tokens.",
            speculation->steps);
    counter(out, "spec_decode_num_draft_tokens_total", "Number of draft tokens.",
            speculation->drafted);
    counter(out, "spec_decode_num_accepted_tokens_total", "Number of accepted draft tokens.",
            speculation->accepted);
    head(out, per_position, "counter", "Number of accepted draft tokens per draft position.");
    for (int i = 0; i < ENGINE_DRAFTS_MAX; i++)
        buf_printf(out, "headway_%s{position=\"%d\"} %" PRIu64 "\n", per_position, i,
                   speculation->accepted_at[i]);
}

static void write_head(struct buf *out, const char *name, int number, uint64_t value)
{
    buf_printf(out, "headway_head_%s{head=\"%d\"} %" PRIu64 "\n", name, number, value);
}

/* Where drafts come from: the heads after the first, and look-up. */
static void write_drafters(struct buf *out, const struct engine_info *info,
                           const struct engine_stats *stats)
{
    int n = info->n_predict - 1 < ENGINE_DRAFTS_MAX ? info->n_predict - 1 : ENGINE_DRAFTS_MAX;
    head(out, "head_tried_total", "counter",
         "Number of the head's draft tokens that were verified.");
    for (int i = 0; i < n; i++)
        write_head(out, "tried_total", i + 1, stats->heads[i].tried);
    head(out, "head_accepted_total", "counter", "Number of the head's draft tokens accepted.");
    for (int i = 0; i < n; i++)
        write_head(out, "accepted_total", i + 1, stats->heads[i].accepted);
    head(out, "head_dead", "gauge", "1 if no draft token of the head is ever accepted, else 0.");
    for (int i = 0; i < n; i++)
        write_head(out, "dead", i + 1, stats->heads[i].dead);
    counter(out, "lookup_tried_total", "Number of looked-up draft tokens that were verified.",
            stats->lookup_tried);
    counter(out, "lookup_accepted_total", "Number of looked-up draft tokens accepted.",
            stats->lookup_accepted);
}

static void write_kv(struct buf *out, const struct engine_stats *stats)
{
    gauge(out, "kv_cache_usage_perc", "KV cache usage: fraction of the pages in use, 0 to 1.",
          stats->kv_used);
    gauge_exact(out, "kv_bytes", "KV cache memory in use, in bytes.", stats->kv_bytes);
    gauge_exact(out, "kv_kept_bytes",
                "KV cache memory kept for prompts that begin alike, in bytes.",
                stats->kv_kept_bytes);
    counter(out, "prefix_cache_queries_total",
            "Number of prompt tokens looked for in the prefix cache.", stats->prefix_queries);
    counter(out, "prefix_cache_hits_total", "Number of prompt tokens found in the prefix cache.",
            stats->prefix_hits);
    gauge_exact(out, "kv_limit_bytes", "KV cache memory allowed, in bytes.", stats->kv_bytes_limit);
    gauge(out, "sequences_preempted", "Number of preempted sequences that wait to be recomputed.",
          stats->preempted);
    counter(out, "preemptions_total", "Number of preemptions of sequences by a full KV cache.",
            stats->preemptions);
}

static void write_engine(struct buf *out, const struct engine_stats *stats)
{
    counter(out, "requests_total", "Number of requests submitted.", stats->requests);
    counter(out, "requests_finished_total", "Number of requests completed.", stats->finished);
    counter(out, "requests_cancelled_total", "Number of requests cancelled.", stats->cancelled);
    counter(out, "requests_failed_total", "Number of requests failed.", stats->errors);
    gauge(out, "num_requests_running", "Number of requests in prefill or decode.", stats->running);
    gauge(out, "num_requests_waiting", "Number of requests waiting in the queue.", stats->waiting);
    counter(out, "prompt_tokens_total", "Number of prompt tokens submitted.", stats->prompt_tokens);
    counter(out, "generation_tokens_total", "Number of tokens generated.",
            stats->generation_tokens);
    counter(out, "forwards_total", "Number of forward passes of the trunk.", stats->forwards);
    head(out, "forward_seconds_total", "counter", "Seconds spent in forward passes of the trunk.");
    buf_printf(out, "headway_forward_seconds_total %.9g\n", stats->step_seconds_sum);
    gauge(out, "heartbeat_age_seconds", "Seconds since the decode thread's last heartbeat.",
          stats->heartbeat_age);
}

static void write_capture(struct buf *out, const struct capture *capture)
{
    gauge_exact(out, "capture_active", "1 while texts are kept (--capture), else 0.",
                capture->writer.file != NULL);
    if (!capture->on)
        return;
    counter(out, "capture_texts_total", "Number of texts kept.", capture->texts);
    counter(out, "capture_tokens_total", "Number of tokens in them.", capture->tokens);
    counter(out, "capture_left_out_total",
            "Number of texts not kept, because the file was full or could not be written.",
            capture->left_out);
    gauge_exact(out, "capture_bytes", "Size of the file of kept texts, in bytes.", capture->bytes);
    gauge_exact(out, "capture_limit_bytes", "Size it may have, in bytes.", capture->limit);
}

static void write_audits(struct buf *out, const struct audits *audits)
{
    counter(out, "exactness_audits_total", "Number of answers decoded again plainly and compared.",
            audits->audited);
    counter(out, "exactness_audited_tokens_total", "Number of tokens in them.", audits->tokens);
    counter(out, "exactness_mismatches_total", "Number of audited answers that differed.",
            audits->mismatches);
    counter(out, "exactness_audits_skipped_total",
            "Number of answers that were to be audited and were not.", audits->skipped);
    gauge_exact(out, "exactness_audits_waiting", "Number of answers that wait for their audit.",
                audits->waiting);
}

/* Passes by the number of sequences in them. */
static void write_batches(struct buf *out, const struct engine_stats *stats)
{
    struct histogram batches = {.sum = (double)stats->batched};
    static_assert(ENGINE_BATCHES < METRICS_BUCKETS, "bounds are powers of two");
    for (int i = 0; i < ENGINE_BATCHES; i++)
        batches.count[i] = stats->batches[i];
    histogram_write(out, "batch_size", "Sequences in a forward pass of the trunk.", true, &batches);
}

static void write_histograms(struct buf *out, const struct metrics *metrics)
{
    histogram_write(out, "time_to_first_token_seconds",
                    "Seconds from the request to its first token.", false, &metrics->first_token);
    histogram_write(out, "inter_token_latency_seconds",
                    "Seconds per committed token after the first.", false, &metrics->inter_token);
    histogram_write(out, "request_time_per_output_token_seconds",
                    "Mean seconds per token of a request after the first.", false,
                    &metrics->per_token);
    histogram_write(out, "e2e_request_latency_seconds",
                    "Seconds from the request to its last token.", false, &metrics->request);
    histogram_write(out, "request_queue_time_seconds",
                    "Seconds that a request waited for its place.", false, &metrics->queue);
    histogram_write(out, "request_prompt_tokens", "Prompt tokens of a request.", true,
                    &metrics->prompt);
    histogram_write(out, "request_generation_tokens", "Tokens generated for a request.", true,
                    &metrics->generation);
}

static void write_responses(struct buf *out, const struct metrics *metrics)
{
    static_assert(N_ROUTES <= METRICS_ROUTES, "metrics.h counts too few routes");
    head(out, "http_responses_total", "counter", "Number of HTTP responses by route and status.");
    for (int route = 0; route < N_ROUTES; route++)
        for (int code = 0; code < 600; code++)
            if (metrics->responses[route][code])
                buf_printf(out,
                           "headway_http_responses_total{route=\"%s\",code=\"%d\"} %" PRIu64 "\n",
                           route_label((enum route)route), code, metrics->responses[route][code]);
}

void metrics_write(const struct metrics *metrics, const struct engine_info *info,
                   const struct engine_stats *stats, const struct capture *capture,
                   const struct audits *audits, struct buf *out)
{
    write_engine(out, stats);
    write_kv(out, stats);
    write_speculation(out, &stats->speculation);
    write_drafters(out, info, stats);
    write_batches(out, stats);
    write_histograms(out, metrics);
    write_responses(out, metrics);
    counter(out, "client_disconnects_total",
            "Number of clients that disconnected before their response was complete.",
            metrics->disconnects);
    counter(out, "stream_overflows_total",
            "Number of streams ended because the client did not read.", metrics->overflows);
    counter(out, "stream_pauses_total",
            "Number of times that decoding paused because the client did not read its stream.",
            metrics->pauses);
    counter(out, "connections_evicted_total",
            "Number of connections without a request closed to make room for others.",
            metrics->evicted);
    counter(out, "connections_refused_total",
            "Number of connections closed at once because there were too many.", metrics->refused);
    write_capture(out, capture);
    write_audits(out, audits);
}
