/* Completions as JSON: see completion_json.h. Every string goes through json_text, numbers are
 * printed. */
#include "server/completion_json.h"

#include <inttypes.h>
#include <string.h>

#include "base/rng.h"
#include "server/json_text.h"
#include "server/token_list.h"

#define OBFUSCATION_STEP 256 /* padded chunks are a multiple of that many bytes */

static bool is_chat(const struct completion *completion)
{
    return completion->request.kind == API_CHAT;
}

/* ---- parts ---- */

static void begin(const struct completion *completion, struct buf *out)
{
    const char *chat = completion->request.stream ? "chat.completion.chunk" : "chat.completion";
    buf_printf(
        out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":", completion->id,
        is_chat(completion) ? chat : "text_completion", (int64_t)completion->created);
    json_write(out, completion->app->model.id, strlen(completion->app->model.id));
    buf_puts(out, ",\"choices\":[");
}

static void add_text(const struct choice *choice, struct buf *out)
{
    json_write(out, choice->text.data ? choice->text.data : "", choice->text.len);
    out->failed |= choice->text.failed;
}

static void add_prompt_ids(const struct api_prompt *prompt, struct buf *out)
{
    buf_puts(out, ",\"prompt_token_ids\":");
    token_list_write(out, prompt->tokens, prompt->n_tokens);
}

/* The token ids since the last call. */
static void add_ids(struct choice *choice, struct buf *out)
{
    buf_puts(out, ",\"token_ids\":[");
    buf_append(out, choice->ids.data, choice->ids.len);
    buf_puts(out, "]");
    out->failed |= choice->ids.failed;
    choice->ids.len = 0;
}

/* What follows a choice's text, from logprobs on; `reason` is the finish reason or NULL. */
static void add_rest(struct choice *choice, bool logprobs, const char *reason, struct buf *out)
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
        add_ids(choice, out);
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

/* ---- chunks ---- */

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

/* Returns where the chunk's object begins. */
static size_t chunk_begin(struct completion *completion)
{
    buf_puts(&completion->out, "data: ");
    size_t start = completion->out.len;
    begin(completion, &completion->out);
    return start;
}

static void chunk_end(struct completion *completion, size_t start)
{
    struct buf *out = &completion->out;
    if (completion->request.include_usage)
        buf_puts(out, ",\"usage\":null");
    if (completion->request.include_obfuscation)
        add_obfuscation(out, start, completion->request.engine.seed);
    buf_puts(out, "}\n\n");
}

static void text_chunk(struct completion *completion, struct choice *choice)
{
    struct buf *out = &completion->out;
    size_t start = chunk_begin(completion);
    buf_puts(out, "{\"text\":");
    add_text(choice, out);
    buf_printf(out, ",\"index\":%d", choice->index);
    add_rest(choice, true, choice->finish_reason, out);
    if (completion->request.return_token_ids && !choice->opened)
        add_prompt_ids(choice->prompt, out);
    buf_puts(out, "}]");
    chunk_end(completion, start);
}

/* Who speaks, before what is said. */
static void role_chunk(struct completion *completion, const struct choice *choice)
{
    struct buf *out = &completion->out;
    size_t start = chunk_begin(completion);
    buf_printf(out,
               "{\"index\":%d,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
               "\"logprobs\":null,\"finish_reason\":null}]",
               choice->index);
    if (completion->request.return_token_ids)
        add_prompt_ids(choice->prompt, out);
    chunk_end(completion, start);
}

static void content_chunk(struct completion *completion, struct choice *choice)
{
    struct buf *out = &completion->out;
    size_t start = chunk_begin(completion);
    buf_printf(out, "{\"index\":%d,\"delta\":{\"content\":", choice->index);
    add_text(choice, out);
    buf_puts(out, "}");
    add_rest(choice, true, NULL, out);
    buf_puts(out, "}]");
    chunk_end(completion, start);
}

static void finish_chunk(struct completion *completion, struct choice *choice)
{
    struct buf *out = &completion->out;
    size_t start = chunk_begin(completion);
    buf_printf(out, "{\"index\":%d,\"delta\":{}", choice->index);
    add_rest(choice, false, choice->finish_reason, out);
    buf_puts(out, "}]");
    chunk_end(completion, start);
}

void completion_json_chunk(struct completion *completion, struct choice *choice)
{
    bool more = choice->text.len || choice->logprobs.tokens.len || choice->ids.len;
    if (is_chat(completion)) {
        if (!choice->opened)
            role_chunk(completion, choice);
        if (more)
            content_chunk(completion, choice);
        if (choice->finish_reason)
            finish_chunk(completion, choice);
        choice->opened = true;
    } else if (more || choice->finish_reason) {
        text_chunk(completion, choice);
        choice->opened = true;
    }
    choice->text.len = 0;
}

void completion_json_end(struct completion *completion)
{
    struct buf *out = &completion->out;
    if (completion->request.include_usage) {
        chunk_begin(completion);
        buf_puts(out, "]");
        add_usage(completion, out);
        buf_puts(out, "}\n\n");
    }
    buf_puts(out, "data: [DONE]\n\n");
}

void completion_json_error(struct completion *completion, int status, const char *code,
                           const char *message)
{
    buf_puts(&completion->out, "data: ");
    response_error_object(&completion->out, status, NULL, code, message);
    buf_puts(&completion->out, "\n\ndata: [DONE]\n\n");
}

/* ---- whole ---- */

static void add_choice(struct choice *choice, struct buf *out)
{
    const struct completion *completion = choice->completion;
    bool chat = is_chat(completion);
    if (chat)
        buf_printf(out,
                   "{\"index\":%d,\"message\":{\"role\":\"assistant\",\"content\":", choice->index);
    else
        buf_puts(out, "{\"text\":");
    add_text(choice, out);
    if (chat)
        buf_puts(out, ",\"refusal\":null}");
    else
        buf_printf(out, ",\"index\":%d", choice->index);
    add_rest(choice, true, choice->finish_reason, out);
    if (!chat && completion->request.return_token_ids)
        add_prompt_ids(choice->prompt, out);
    buf_puts(out, "}");
}

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

void completion_json_whole(struct completion *completion)
{
    struct buf *out = response_begin(&completion->response, 200, "application/json");
    size_t n = (size_t)completion->request.n, all = completion->request.n_prompts * n;
    begin(completion, out);
    for (size_t i = 0; i < all; i++) {
        struct choice *choice = choice_at(completion, i / n, i % n);
        choice->index = (int)i;
        buf_puts(out, i ? "," : "");
        add_choice(choice, out);
    }
    buf_puts(out, "]");
    add_usage(completion, out);
    if (is_chat(completion) && completion->request.return_token_ids)
        add_prompt_ids(&completion->request.prompts[0], out);
    buf_puts(out, "}\n");
}
