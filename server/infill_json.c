/* Answers of /infill in llama-server's shape
 * (https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md): see dialect.h. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/dialect.h"
#include "server/events.h"
#include "server/json_text.h"
#include "server/prompt.h"

/* ---- parts ---- */

static void add_tokens(struct choice *choice, struct buf *out)
{
    buf_puts(out, ",\"tokens\":[");
    buf_append(out, choice->ids.data, choice->ids.len);
    buf_puts(out, "]");
    out->failed |= choice->ids.failed;
    choice->ids.len = 0;
}

static void add_counts(const struct choice *choice, struct buf *out)
{
    buf_printf(out, ",\"tokens_predicted\":%zu,\"tokens_evaluated\":%zu", choice->n_tokens,
               choice->prompt->n_tokens);
}

static void add_settings(const struct completion *completion, struct buf *out)
{
    const struct engine_request *r = &completion->request.engine;
    buf_printf(out,
               ",\"generation_settings\":{\"n_ctx\":%d,\"n_predict\":%d,\"seed\":%" PRId64 ","
               "\"temperature\":%.6g,\"top_k\":%d,\"top_p\":%.6g,\"min_p\":%.6g,"
               "\"repeat_penalty\":%.6g,\"presence_penalty\":%.6g,\"frequency_penalty\":%.6g,"
               "\"ignore_eos\":%s,\"stream\":%s}",
               completion->app->info->context, r->max_tokens, (int64_t)r->seed,
               (double)r->temperature, r->top_k, (double)r->top_p, (double)r->min_p,
               (double)r->repetition_penalty, (double)r->presence_penalty,
               (double)r->frequency_penalty, r->ignore_eos ? "true" : "false",
               completion->request.stream ? "true" : "false");
}

/* n tokens in so many seconds. */
static void add_timing(struct buf *out, const char *name, size_t n, double seconds)
{
    double ms = fmax(seconds, 0) * 1e3, count = (double)n;
    buf_printf(out, "\"%s_n\":%zu,\"%s_ms\":%.3f,\"%s_per_token_ms\":%.3f,\"%s_per_second\":%.3f",
               name, n, name, ms, name, n ? ms / count : 0, name, ms > 0 ? count / ms * 1e3 : 0);
}

static void add_timings(const struct choice *choice, struct buf *out)
{
    const struct completion *completion = choice->completion;
    size_t cached = completion->cached_tokens;
    double first = choice->n_tokens ? choice->first : clock_seconds();
    buf_printf(out, ",\"timings\":{\"cache_n\":%zu,", cached);
    add_timing(out, "prompt", choice->prompt->n_tokens - cached, first - completion->start);
    buf_puts(out, ",");
    add_timing(out, "predicted", choice->n_tokens, choice->n_tokens ? choice->last - first : 0);
    buf_printf(out, ",\"draft_n\":%" PRIu64 ",\"draft_n_accepted\":%" PRIu64 "}",
               completion->drafted, completion->accepted);
}

static void add_stop(const struct choice *choice, struct buf *out)
{
    const struct api_request *request = &choice->completion->request;
    const char *word = choice->stop ? request->stops[choice->stop - 1] : "";
    bool limit = !strcmp(choice->finish_reason, "length");
    bool full = choice->prompt->n_tokens + choice->n_tokens >=
                (size_t)choice->completion->app->info->context;
    buf_printf(out, ",\"stop_type\":\"%s\",\"stopping_word\":",
               choice->stop ? "word"
               : limit      ? "limit"
                            : "eos");
    json_write(out, word, choice->stop ? request->stop_lens[choice->stop - 1] : 0);
    buf_printf(out, ",\"truncated\":%s", choice->prompt->cut || (limit && full) ? "true" : "false");
}

/* Everything that is known at the end; of a stream the text has been told before. */
static void add_all(struct completion *completion, struct buf *out)
{
    struct choice *choice = completion->choices;
    struct buf prompt = {0};
    buf_puts(out, "{\"index\":0,\"content\":");
    if (completion->request.stream)
        json_write(out, "", 0);
    else
        answer_write_text(&choice->answer, out);
    add_tokens(choice, out);
    buf_puts(out, ",\"stop\":true,\"model\":");
    json_write(out, completion->app->model.id, strlen(completion->app->model.id));
    add_counts(choice, out);
    buf_printf(out, ",\"tokens_cached\":%zu", completion->cached_tokens);
    add_stop(choice, out);
    add_settings(completion, out);
    prompt_write(choice->prompt, completion->app->info->tokenizer, &prompt);
    buf_puts(out, ",\"prompt\":");
    json_write(out, prompt.data ? prompt.data : "", prompt.len);
    out->failed |= prompt.failed;
    buf_release(&prompt);
    add_timings(choice, out);
    event_metrics(completion, out);
    buf_puts(out, "}");
}

/* ---- response_fields ---- */

/* The member at a path like "timings/prompt_ms", or NULL. */
static json_t *member(json_t *object, const char *path)
{
    while (object && *path) {
        size_t len = strcspn(path, "/");
        object = json_object_getn(object, path, len);
        path += len + (path[len] == '/');
    }
    return object;
}

static char *pick(const struct buf *all, const json_t *fields)
{
    json_t *from = json_loadb(all->data, all->len, JSON_ALLOW_NUL, NULL), *to = json_object();
    for (size_t i = 0; i < json_array_size(fields); i++) {
        const char *path = json_string_value(json_array_get(fields, i));
        json_t *value = member(from, path);
        if (value)
            json_object_set(to, path, value);
    }
    char *text = from ? json_dumps(to, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(from);
    json_decref(to);
    return text;
}

static void add_picked(struct completion *completion, struct buf *out)
{
    struct buf all = {0};
    if (!completion->request.response_fields) {
        add_all(completion, out);
        return;
    }
    add_all(completion, &all);
    char *text = all.failed ? NULL : pick(&all, completion->request.response_fields);
    out->failed |= !text;
    buf_puts(out, text ? text : "");
    free(text);
    buf_release(&all);
}

/* ---- answers ---- */

static void chunk(struct completion *completion, struct choice *choice)
{
    struct buf *out = &completion->out;
    struct answer_piece piece = {.text = ""};
    if (!answer_next(&choice->answer, &piece) && !choice->ids.len)
        return;
    buf_puts(out, "data: {\"index\":0,\"content\":");
    json_write(out, piece.text, piece.len);
    add_tokens(choice, out);
    buf_puts(out, ",\"stop\":false");
    add_counts(choice, out);
    buf_puts(out, "}\n\n");
}

static void end(struct completion *completion)
{
    buf_puts(&completion->out, "data: ");
    add_picked(completion, &completion->out);
    buf_puts(&completion->out, "\n\n");
}

static void error(struct completion *completion, int status, const char *code, const char *message)
{
    buf_puts(&completion->out, "data: ");
    response_error_object(&completion->out, status, NULL, code, message);
    buf_puts(&completion->out, "\n\n");
}

static void whole(struct completion *completion)
{
    struct buf *out = response_begin(&completion->response, 200, "application/json");
    add_picked(completion, out);
    buf_puts(out, "\n");
}

const struct dialect dialect_infill = {
    .id = "infill-", .chunk = chunk, .end = end, .error = error, .whole = whole};
