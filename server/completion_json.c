/* Completions as JSON: see completion_json.h. Every string goes through json_text, numbers are
 * printed. */
#include "server/completion_json.h"

#include <inttypes.h>
#include <string.h>

#include "base/rng.h"
#include "server/json_text.h"

#define OBFUSCATION_STEP 256 /* padded chunks are a multiple of that many bytes */

static void begin(const struct completion *completion, struct buf *out)
{
    buf_printf(out,
               "{\"id\":\"%s\",\"object\":\"text_completion\",\"created\":%" PRId64 ",\"model\":",
               completion->id, (int64_t)completion->created);
    json_write(out, completion->app->model.id, strlen(completion->app->model.id));
    buf_puts(out, ",\"choices\":[");
}

static void add_choice(const struct completion *completion, struct choice *choice, struct buf *out)
{
    buf_puts(out, "{\"text\":");
    json_write(out, choice->text.data ? choice->text.data : "", choice->text.len);
    buf_printf(out, ",\"index\":%d,\"logprobs\":", choice->index);
    if (completion->request.logprobs >= 0)
        logprobs_write(&choice->logprobs, out);
    else
        buf_puts(out, "null");
    if (choice->finish_reason)
        buf_printf(out, ",\"finish_reason\":\"%s\"}", choice->finish_reason);
    else
        buf_puts(out, ",\"finish_reason\":null}");
    out->failed |= choice->text.failed;
}

static void add_usage(const struct completion *completion, struct buf *out)
{
    size_t in = completion->prompt_tokens, made = completion->completion_tokens;
    buf_printf(out,
               ",\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":%zu,\"total_tokens\":%zu}",
               in, made, in + made);
    if (completion->metrics.len) {
        buf_puts(out, ",\"metrics\":");
        buf_append(out, completion->metrics.data, completion->metrics.len);
    }
}

/* A chunk's size tells how many drafts were accepted and with that much about the text (arXiv
 * 2411.01076). Padding hides it from who can only see encrypted packets. */
static void add_obfuscation(struct buf *out, size_t start, uint64_t seed)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t used = out->len - start + strlen(",\"obfuscation\":\"\"}");
    size_t pad = (OBFUSCATION_STEP - used % OBFUSCATION_STEP) % OBFUSCATION_STEP;
    buf_puts(out, ",\"obfuscation\":\"");
    for (size_t i = 0; i < pad; i++)
        buf_append(out, &letters[rng_below(seed, out->len, i, sizeof letters - 1)], 1);
    buf_puts(out, "\"");
}

void completion_json_chunk(struct completion *completion, struct choice *choice)
{
    struct buf *out = &completion->out;
    buf_puts(out, "data: ");
    size_t start = out->len;
    begin(completion, out);
    add_choice(completion, choice, out);
    buf_puts(out, completion->request.include_usage ? "],\"usage\":null" : "]");
    if (completion->request.include_obfuscation)
        add_obfuscation(out, start, completion->request.engine.seed);
    buf_puts(out, "}\n\n");
    choice->text.len = 0;
}

void completion_json_end(struct completion *completion)
{
    struct buf *out = &completion->out;
    if (completion->request.include_usage) {
        buf_puts(out, "data: ");
        begin(completion, out);
        buf_puts(out, "]");
        add_usage(completion, out);
        buf_puts(out, "}\n\n");
    }
    buf_puts(out, "data: [DONE]\n\n");
}

void completion_json_error(struct completion *completion, const char *message)
{
    buf_puts(&completion->out, "data: ");
    response_error_object(&completion->out, 500, NULL, NULL, message);
    buf_puts(&completion->out, "\n\ndata: [DONE]\n\n");
}

void completion_json_whole(struct completion *completion)
{
    struct buf *out = response_begin(&completion->response, 200, "application/json");
    begin(completion, out);
    for (size_t i = 0; i < completion->n_choices; i++) {
        buf_puts(out, i ? "," : "");
        add_choice(completion, &completion->choices[i], out);
    }
    buf_puts(out, "]");
    add_usage(completion, out);
    buf_puts(out, "}\n");
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

void completion_json_metrics(struct completion *completion, const struct engine_event *event)
{
    const struct engine_speculation *s = event->speculation;
    struct buf *out = &completion->metrics;
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
               ",\"num_draft_tokens\":%" PRIu64 ",\"num_spec_tokens\":%d},\"forwards\":%zu}",
               s->steps, s->accepted, s->drafted, longest, event->forwards);
}
