/* What OpenAI's two shapes share: see openai_json.h. */
#include "server/openai_json.h"

#include <inttypes.h>
#include <string.h>

#include "server/json_text.h"
#include "server/obfuscation.h"
#include "server/token_list.h"

/* ---- parts ---- */

static void begin(const struct completion *completion, struct buf *out)
{
    const char *chat = completion->request.stream ? "chat.completion.chunk" : "chat.completion";
    buf_printf(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":",
               completion->id, completion->request.kind == API_CHAT ? chat : "text_completion",
               (int64_t)completion->created);
    json_write(out, completion->app->model.id, strlen(completion->app->model.id));
    buf_puts(out, ",\"choices\":[");
}

void openai_add_prompt_ids(const struct api_prompt *prompt, struct buf *out)
{
    buf_puts(out, ",\"prompt_token_ids\":");
    token_list_write(out, prompt->tokens, prompt->n_tokens);
}

/* What came of a list since the last call. */
static void add_list(const char *name, struct buf *items, struct buf *out)
{
    buf_printf(out, ",\"%s\":[", name);
    buf_append(out, items->data, items->len);
    buf_puts(out, "]");
    out->failed |= items->failed;
    items->len = 0;
}

void openai_add_rest(struct choice *choice, bool logprobs, const char *reason, struct buf *out)
{
    const struct completion *completion = choice->completion;
    buf_puts(out, ",\"logprobs\":");
    if (logprobs && completion->request.logprobs >= 0)
        logprobs_write(&choice->logprobs, out);
    else
        buf_puts(out, "null");
    if (reason)
        buf_printf(out, ",\"finish_reason\":\"%s\"", reason);
    else
        buf_puts(out, ",\"finish_reason\":null");
    if (completion->request.return_token_ids)
        add_list("token_ids", &choice->ids, out);
    if (completion->request.trace)
        add_list("trace", &choice->trace, out);
}

static void add_proof(const struct completion *completion, struct buf *out)
{
    if (!completion->request.proof)
        return;
    buf_puts(out, ",\"proof\":");
    audit_write(completion, out);
}

static void add_usage(const struct completion *completion, struct buf *out)
{
    size_t in = completion->prompt_tokens, made = completion->completion_tokens;
    buf_printf(out,
               ",\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":%zu,\"total_tokens\":%zu,"
               "\"prompt_tokens_details\":{\"cached_tokens\":%zu}}",
               in, made, in + made, completion->cached_tokens);
    out->failed |= completion->metrics.failed;
    if (completion->metrics.len) {
        buf_puts(out, ",\"metrics\":");
        buf_append(out, completion->metrics.data, completion->metrics.len);
    }
}

/* ---- streams ---- */

size_t openai_chunk_begin(struct completion *completion)
{
    buf_puts(&completion->out, "data: ");
    size_t start = completion->out.len;
    begin(completion, &completion->out);
    return start;
}

void openai_chunk_end(struct completion *completion, size_t start)
{
    struct buf *out = &completion->out;
    if (completion->request.include_usage)
        buf_puts(out, ",\"usage\":null");
    if (completion->request.include_obfuscation)
        obfuscation_write(out, start, completion->request.engine.seed);
    buf_puts(out, "}\n\n");
}

void openai_end(struct completion *completion)
{
    struct buf *out = &completion->out;
    if (completion->request.include_usage || completion->request.proof) {
        openai_chunk_begin(completion);
        /* Clients expect a list without choices only where they asked for usage. */
        if (!completion->request.include_usage)
            buf_printf(out, "{\"index\":0,%s,\"logprobs\":null,\"finish_reason\":null}",
                       completion->request.kind == API_CHAT ? "\"delta\":{}" : "\"text\":\"\"");
        buf_puts(out, "]");
        if (completion->request.include_usage)
            add_usage(completion, out);
        add_proof(completion, out);
        buf_puts(out, "}\n\n");
    }
    buf_puts(out, "data: [DONE]\n\n");
}

void openai_error(struct completion *completion, int status, const char *code, const char *message)
{
    buf_puts(&completion->out, "data: ");
    response_error_object(&completion->out, status, NULL, code, message);
    buf_puts(&completion->out, "\n\ndata: [DONE]\n\n");
}

/* ---- whole ---- */

static double mean_logprob(const struct choice *choice)
{
    return choice->n_tokens ? choice->logprob / (double)choice->n_tokens : 0;
}

/* Of the best_of texts for a prompt the one in place `rank`, by the mean log-probability of its
 * tokens as OpenAI's; where all are given, in their order. */
static struct choice *choice_at(struct completion *completion, size_t prompt, size_t rank)
{
    size_t n = (size_t)completion->request.best_of;
    struct choice *first = completion->choices + prompt * n;
    if (completion->request.n == completion->request.best_of)
        return first + rank;
    for (size_t i = 0; i < n; i++) {
        size_t better = 0;
        for (size_t j = 0; j < n; j++) {
            double off = mean_logprob(&first[j]) - mean_logprob(&first[i]);
            better += off > 0 || (off == 0 && j < i);
        }
        if (better == rank)
            return first + i;
    }
    return first; /* not reached: each rank is somebody's */
}

struct buf *openai_whole(struct completion *completion,
                         void (*add)(struct choice *choice, struct buf *out))
{
    struct buf *out = response_begin(&completion->response, 200, "application/json");
    size_t n = (size_t)completion->request.n, all = completion->request.n_prompts * n;
    begin(completion, out);
    for (size_t i = 0; i < all; i++) {
        struct choice *choice = choice_at(completion, i / n, i % n);
        choice->index = (int)i;
        buf_puts(out, i ? "," : "");
        add(choice, out);
    }
    buf_puts(out, "]");
    add_usage(completion, out);
    add_proof(completion, out);
    return out;
}

void openai_whole_end(struct buf *out)
{
    buf_puts(out, "}\n");
}
