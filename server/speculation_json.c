/* How a completion was speculated, as JSON: see speculation_json.h. */
#include "server/speculation_json.h"

#include <inttypes.h>

void speculation_json_drafter(struct buf *out, int head, uint64_t tried, uint64_t accepted)
{
    if (head)
        buf_printf(out, "{\"drafter\":\"head %d\"", head);
    else
        buf_puts(out, "{\"drafter\":\"look-up\"");
    buf_printf(out, ",\"tried\":%" PRIu64 ",\"accepted\":%" PRIu64 ",\"rate\":%.4f}", tried,
               accepted, tried ? (double)accepted / (double)tried : 0);
}

static void add_row(struct buf *out, const uint64_t *row, int last)
{
    buf_puts(out, "[");
    for (int j = 0; j <= last; j++)
        buf_printf(out, "%s%" PRIu64, j ? "," : "", row[j]);
    buf_puts(out, "]");
}

/* Steps by the number of drafts they accepted, over all draft lengths; returns the longest one. */
static int sum_histogram(const struct engine_speculation *speculation, uint64_t *sum)
{
    int longest = 0;
    for (int k = 0; k < ENGINE_DRAFTS_MAX; k++)
        for (int j = 0; j <= k + 1; j++) {
            sum[j] += speculation->histogram[k][j];
            if (speculation->histogram[k][j])
                longest = k + 1;
        }
    return longest;
}

static void add_by_length(struct buf *out, const struct engine_speculation *speculation)
{
    const char *comma = "";
    for (int k = 0; k < ENGINE_DRAFTS_MAX; k++) {
        uint64_t row[ENGINE_DRAFTS_MAX + 1], steps = 0;
        for (int j = 0; j <= k + 1; j++)
            steps += row[j] = speculation->histogram[k][j];
        if (!steps)
            continue;
        buf_printf(out, "%s\"%d\":", comma, k + 1);
        add_row(out, row, k + 1);
        comma = ",";
    }
}

static void add_decode(struct buf *out, const struct engine_event *event)
{
    double tokens = (double)event->completion_tokens;
    buf_printf(out, ",\"decode\":{\"tokens_per_forward\":%.4f,\"seconds\":%.6f",
               event->forwards ? tokens / (double)event->forwards : 1.0, event->decode_seconds);
    if (event->decode_seconds > 0)
        buf_printf(out, ",\"estimated_plain_seconds\":%.6f,\"estimated_speedup\":%.4f",
                   event->plain_seconds, event->plain_seconds / event->decode_seconds);
    buf_puts(out, "}");
}

void speculation_json_write(struct buf *out, const struct engine_event *event)
{
    const struct engine_speculation *s = event->speculation;
    uint64_t sum[ENGINE_DRAFTS_MAX + 1] = {0};
    int longest = sum_histogram(s, sum);
    buf_printf(out,
               "{\"speculative_decoding\":{\"mean_acceptance_length\":%.9g,"
               "\"draft_acceptance_rate\":%.9g,\"acceptance_histogram\":",
               s->steps ? 1 + (double)s->accepted / (double)s->steps : 1.0,
               s->drafted ? (double)s->accepted / (double)s->drafted : 0.0);
    add_row(out, sum, longest);
    buf_puts(out, ",\"acceptance_histogram_by_draft_length\":{");
    add_by_length(out, s);
    buf_printf(out,
               "},\"num_spec_steps\":%" PRIu64 ",\"num_accepted_draft_tokens\":%" PRIu64
               ",\"num_draft_tokens\":%" PRIu64 ",\"num_spec_tokens\":%d},\"forwards\":%zu",
               s->steps, s->accepted, s->drafted, longest, event->forwards);
    add_decode(out, event);
    buf_puts(out, "}");
}
