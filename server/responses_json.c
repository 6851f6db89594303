/* OpenAI's Responses as JSON: see dialect.h. A part of the answer is an item of the output. */
#include <inttypes.h>
#include <string.h>

#include "server/dialect.h"
#include "server/events.h"
#include "server/json_text.h"

/* ---- items ---- */

/* Items have the response's id, and their place. */
static void add_id(const struct completion *completion, const struct answer_part *part,
                   size_t index, struct buf *out)
{
    buf_printf(out, "\"%s_%s_%zu\"", part->is_call ? "fc" : "msg",
               completion->id + strlen(completion->dialect->id), index);
}

static void add_content(const struct answer_part *part, bool text, struct buf *out)
{
    buf_puts(out, "{\"type\":\"output_text\",\"text\":");
    if (text)
        json_write(out, part->text.data, part->text.len);
    else
        buf_puts(out, "\"\"");
    buf_puts(out, ",\"annotations\":[],\"logprobs\":[]}");
}

/* `status` is "in_progress" for one that has just begun: without what it will hold. */
static void add_item(const struct completion *completion, const struct answer_part *part,
                     size_t index, const char *status, struct buf *out)
{
    bool begins = !strcmp(status, "in_progress");
    buf_puts(out, "{\"id\":");
    add_id(completion, part, index, out);
    buf_printf(out, ",\"status\":\"%s\"", status);
    if (!part->is_call) {
        buf_puts(out, ",\"type\":\"message\",\"role\":\"assistant\",\"content\":[");
        if (!begins)
            add_content(part, true, out);
        buf_puts(out, "]}");
        return;
    }
    buf_printf(out, ",\"type\":\"function_call\",\"call_id\":\"%s\",\"name\":", part->id);
    json_write(out, part->name.data, part->name.len);
    buf_puts(out, ",\"arguments\":");
    json_write(out, begins ? "" : part->text.data, begins ? 0 : part->text.len);
    buf_puts(out, "}");
}

/* What was being said when the length ran out is incomplete. */
static const char *status_of(const struct choice *choice, size_t index)
{
    bool cut = choice->finish_reason && !strcmp(choice->finish_reason, "length");
    return cut && index + 1 == choice->answer.n_parts ? "incomplete" : "completed";
}

/* ---- the response ---- */

static void add_usage(const struct completion *completion, struct buf *out)
{
    size_t in = completion->prompt_tokens, made = completion->completion_tokens;
    buf_printf(out,
               ",\"usage\":{\"input_tokens\":%zu,\"input_tokens_details\":{\"cached_tokens\":%zu},"
               "\"output_tokens\":%zu,\"output_tokens_details\":{\"reasoning_tokens\":0},"
               "\"total_tokens\":%zu}",
               in, completion->cached_tokens, made, in + made);
}

/* The members that say how it ended, and what came of it. */
static void add_outcome(struct completion *completion, struct buf *out)
{
    const struct choice *choice = &completion->choices[0];
    bool cut = !strcmp(choice->finish_reason, "length");
    buf_printf(out, ",\"status\":\"%s\",\"error\":null,\"incomplete_details\":%s,\"output\":[",
               cut ? "incomplete" : "completed",
               cut ? "{\"reason\":\"max_output_tokens\"}" : "null");
    for (size_t i = 0; i < choice->answer.n_parts; i++) {
        buf_puts(out, i ? "," : "");
        add_item(completion, &choice->answer.parts[i], i, status_of(choice, i), out);
    }
    buf_puts(out, "]");
    add_usage(completion, out);
    event_metrics(completion, out);
}

/* Up to the members of the outcome. */
static void begin_response(const struct completion *completion, struct buf *out)
{
    const char *model = completion->app->model.id;
    buf_printf(out,
               "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%" PRId64
               ",\"background\":false,\"model\":",
               completion->id, (int64_t)completion->created);
    json_write(out, model, strlen(model));
    buf_append(out, completion->request.shown.data, completion->request.shown.len);
}

/* ---- streams ---- */

static size_t begin(struct completion *completion, const char *type)
{
    size_t start = event_begin(completion, type);
    buf_printf(&completion->out, ",\"sequence_number\":%zu", completion->n_events++);
    return start;
}

/* An event about the whole response. `outcome` NULL: the one that it came to. */
static void response_event(struct completion *completion, const char *type, const char *outcome)
{
    size_t start = begin(completion, type);
    buf_puts(&completion->out, ",\"response\":");
    begin_response(completion, &completion->out);
    if (outcome)
        buf_puts(&completion->out, outcome);
    else
        add_outcome(completion, &completion->out);
    buf_puts(&completion->out, "}");
    event_end(completion, start);
}

static void item_event(struct completion *completion, const struct answer_piece *piece,
                       const char *type, const char *status)
{
    size_t start = begin(completion, type);
    buf_printf(&completion->out, ",\"output_index\":%zu,\"item\":", piece->index);
    add_item(completion, piece->part, piece->index, status, &completion->out);
    event_end(completion, start);
}

/* An event about an item's inside, up to what it says. */
static size_t begin_inside(struct completion *completion, const struct answer_piece *piece,
                           const char *type)
{
    size_t start = begin(completion, type);
    buf_puts(&completion->out, ",\"item_id\":");
    add_id(completion, piece->part, piece->index, &completion->out);
    buf_printf(&completion->out, ",\"output_index\":%zu%s", piece->index,
               piece->part->is_call ? "" : ",\"content_index\":0");
    return start;
}

static void content_event(struct completion *completion, const struct answer_piece *piece,
                          const char *type, bool text)
{
    size_t start = begin_inside(completion, piece, type);
    buf_puts(&completion->out, ",\"part\":");
    add_content(piece->part, text, &completion->out);
    event_end(completion, start);
}

static void text_event(struct completion *completion, const struct answer_piece *piece,
                       const char *type, const char *name, const char *text, size_t len)
{
    size_t start = begin_inside(completion, piece, type);
    event_text(completion, name, text, len);
    if (!piece->part->is_call)
        buf_puts(&completion->out, ",\"logprobs\":[]");
    event_end(completion, start);
}

static void add_piece(struct completion *completion, const struct answer_piece *piece)
{
    const struct answer_part *part = piece->part;
    bool call = part->is_call;
    if (piece->begins)
        item_event(completion, piece, "response.output_item.added", "in_progress");
    if (piece->begins && !call)
        content_event(completion, piece, "response.content_part.added", false);
    if (piece->len)
        text_event(completion, piece,
                   call ? "response.function_call_arguments.delta" : "response.output_text.delta",
                   ",\"delta\":", piece->text, piece->len);
    if (!piece->ends)
        return;
    text_event(completion, piece,
               call ? "response.function_call_arguments.done" : "response.output_text.done",
               call ? ",\"arguments\":" : ",\"text\":", part->text.data, part->text.len);
    if (!call)
        content_event(completion, piece, "response.content_part.done", true);
    item_event(completion, piece, "response.output_item.done",
               status_of(&completion->choices[0], piece->index));
}

static void chunk(struct completion *completion, struct choice *choice)
{
    static const char nothing_yet[] = ",\"status\":\"in_progress\",\"error\":null,"
                                      "\"incomplete_details\":null,\"output\":[],\"usage\":null";
    struct answer_piece piece;
    if (!choice->opened) {
        response_event(completion, "response.created", nothing_yet);
        response_event(completion, "response.in_progress", nothing_yet);
    }
    choice->opened = true;
    while (answer_next(&choice->answer, &piece))
        add_piece(completion, &piece);
}

static void end(struct completion *completion)
{
    bool cut = !strcmp(completion->choices[0].finish_reason, "length");
    response_event(completion, cut ? "response.incomplete" : "response.completed", NULL);
}

static void error(struct completion *completion, int status, const char *code, const char *message)
{
    struct buf outcome = {0};
    (void)status;
    buf_printf(&outcome, ",\"status\":\"failed\",\"error\":{\"code\":\"%s\",\"message\":",
               code ? code : "server_error");
    json_write(&outcome, message, strlen(message));
    buf_puts(&outcome, "},\"incomplete_details\":null,\"output\":[],\"usage\":null");
    if (!outcome.failed)
        response_event(completion, "response.failed", outcome.data);
    buf_release(&outcome);
}

/* ---- whole ---- */

static void whole(struct completion *completion)
{
    struct buf *out = response_begin(&completion->response, 200, "application/json");
    begin_response(completion, out);
    add_outcome(completion, out);
    buf_puts(out, "}\n");
}

const struct dialect dialect_responses = {
    .id = "resp_", .chunk = chunk, .end = end, .error = error, .whole = whole};
