/* Plain against speculative decoding: see speedup.h. */
#include "server/speedup.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/dialect.h"
#include "server/field.h"
#include "server/json_text.h"
#include "server/speculation_json.h"

/* ---- what is asked ---- */

int speedup_begin(struct api_request *request, struct response *error)
{
    if (request->kind != API_SPEEDUP)
        return 0;
    request->kind = field_get(request->json, "messages") ? API_CHAT : API_COMPLETION;
    request->rounds = 3;
    int rc = field_int(request->json, "rounds", 1, SPEEDUP_ROUNDS_MAX, &request->rounds, error);
    json_object_del(request->json, "rounds");
    return rc;
}

int speedup_check(struct api_request *request, struct response *error)
{
    if (!request->rounds)
        return 0;
    if (request->n_prompts != 1 || request->best_of != 1 || request->stream || request->echo ||
        request->logprobs >= 0 || request->trace || request->proof)
        return response_error(error, 400, NULL, NULL,
                              "/v1/speedup times one text: leave out 'stream', 'n', 'best_of', "
                              "'echo', 'logprobs', 'trace', 'proof', and lists of prompts.");
    if (!request->engine.speculation)
        return response_error(error, 400, "speculation", NULL,
                              "'speculation' is off: there would be nothing to compare.");
    request->return_token_ids = true;
    request->best_of = request->n = 2 * request->rounds;
    return 0;
}

void speedup_submit(const struct choice *choice, struct engine_request *request)
{
    request->seed = choice->completion->request.engine.seed;
    request->alone = ALONE_ABREAST;
    if (choice->index % 2 == 0)
        request->speculation = 0;
}

void speedup_note(struct choice *choice, const struct engine_event *event)
{
    struct speedup_text *t = &choice->speedup;
    t->seconds = event->decode_seconds;
    t->plain_seconds = event->plain_seconds;
    t->forwards = event->forwards;
    if (!event->speculation)
        return;
    memcpy(t->tried, event->speculation->tried_by, sizeof t->tried);
    memcpy(t->accepted, event->speculation->accepted_by, sizeof t->accepted);
}

/* ---- what is answered ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, int n)
{
    double sorted[SPEEDUP_ROUNDS_MAX];
    memcpy(sorted, values, (size_t)n * sizeof *values);
    qsort(sorted, (size_t)n, sizeof *sorted, by_size);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* JSON knows no infinity: what took no time is 0. */
static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

/* Tokens with which two lists of ids ("1,2,3") begin alike. */
static size_t same_tokens(const struct buf *a, const struct buf *b)
{
    size_t n = 0, i = 0;
    for (; i < a->len && i < b->len && a->data[i] == b->data[i]; i++)
        n += a->data[i] == ',';
    return n;
}

static void add_identity(const struct completion *completion, struct buf *out)
{
    const struct choice *first = completion->choices;
    for (size_t i = 1; i < completion->n_choices; i++) {
        const struct buf *a = &first->ids, *b = &completion->choices[i].ids;
        if (a->len == b->len && (!a->len || !memcmp(a->data, b->data, a->len)))
            continue;
        buf_printf(out,
                   ",\"identical\":false,\"first_difference\":{\"round\":%zu,\"speculative\":%s,"
                   "\"token\":%zu}",
                   i / 2, i % 2 ? "true" : "false", same_tokens(a, b));
        return;
    }
    buf_puts(out, ",\"identical\":true");
}

static void add_drafters(const struct completion *completion, struct buf *out)
{
    const char *comma = "";
    buf_puts(out, ",\"drafters\":[");
    for (int d = 0; d <= ENGINE_DRAFTS_MAX; d++) {
        uint64_t tried = 0, accepted = 0;
        for (size_t i = 1; i < completion->n_choices; i += 2) {
            tried += completion->choices[i].speedup.tried[d];
            accepted += completion->choices[i].speedup.accepted[d];
        }
        if (!tried)
            continue;
        buf_puts(out, comma);
        speculation_json_drafter(out, d, tried, accepted);
        comma = ",";
    }
    buf_puts(out, "]");
}

static void add_way(struct buf *out, const char *name, const struct choice *choice, double seconds)
{
    double tokens = (double)choice->n_tokens;
    buf_printf(out,
               ",\"%s\":{\"seconds\":%.6f,\"tokens_per_second\":%.2f,\"forwards\":%zu,"
               "\"tokens_per_forward\":%.4f}",
               name, seconds, ratio(tokens - 1, seconds), choice->speedup.forwards,
               ratio(tokens, (double)choice->speedup.forwards));
}

static void add_ratios(struct buf *out, const double *list, int n)
{
    double sorted[SPEEDUP_ROUNDS_MAX];
    memcpy(sorted, list, (size_t)n * sizeof *list);
    qsort(sorted, (size_t)n, sizeof *sorted, by_size);
    buf_printf(out, ",\"speedup\":{\"median\":%.4f,\"min\":%.4f,\"max\":%.4f,\"rounds\":[",
               median(list, n), sorted[0], sorted[n - 1]);
    for (int i = 0; i < n; i++)
        buf_printf(out, i ? ",%.4f" : "%.4f", list[i]);
    buf_puts(out, "]}");
}

static void whole(struct completion *completion)
{
    struct buf *out = response_begin(&completion->response, 200, "application/json");
    int n = completion->request.rounds;
    double plain[SPEEDUP_ROUNDS_MAX], fast[SPEEDUP_ROUNDS_MAX], estimate[SPEEDUP_ROUNDS_MAX],
        ratios[SPEEDUP_ROUNDS_MAX];
    for (int i = 0; i < n; i++) {
        const struct choice *pair = completion->choices + 2 * i;
        plain[i] = pair[0].speedup.seconds;
        fast[i] = pair[1].speedup.seconds;
        estimate[i] = pair[1].speedup.plain_seconds;
        ratios[i] = ratio(plain[i], fast[i]);
    }
    buf_printf(out, "{\"id\":\"%s\",\"object\":\"speedup\",\"created\":%" PRId64 ",\"model\":",
               completion->id, (int64_t)completion->created);
    json_write(out, completion->app->model.id, strlen(completion->app->model.id));
    buf_printf(out, ",\"prompt_tokens\":%zu,\"completion_tokens\":%zu", completion->prompt_tokens,
               completion->choices[0].n_tokens);
    add_way(out, "plain", &completion->choices[0], median(plain, n));
    add_way(out, "speculative", &completion->choices[1], median(fast, n));
    add_ratios(out, ratios, n);
    buf_printf(out, ",\"estimated\":{\"plain_seconds\":%.6f,\"speedup\":%.4f,\"error\":%.4f}",
               median(estimate, n), ratio(median(estimate, n), median(fast, n)),
               ratio(median(estimate, n), median(plain, n)) - 1);
    add_drafters(completion, out);
    add_identity(completion, out);
    buf_puts(out, ",\"text\":");
    answer_write_text(&completion->choices[0].answer, out);
    buf_puts(out, "}\n");
}

const struct dialect dialect_speedup = {.id = "speedup-", .whole = whole};
