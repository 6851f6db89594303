/* Anthropic's Messages as JSON: see dialect.h. A part of the answer is a content block. */
#include <string.h>

#include "server/dialect.h"
#include "server/events.h"
#include "server/json_text.h"

/* ---- parts ---- */

static void add_head(const struct completion *completion, struct buf *out)
{
    const char *model = completion->app->model.id;
    buf_printf(out, "\"id\":\"%s\",\"type\":\"message\",\"role\":\"assistant\",\"model\":",
               completion->id);
    json_write(out, model, strlen(model));
}

/* input_tokens are those that were not in the cache. */
static void add_usage(const struct completion *completion, struct buf *out)
{
    buf_printf(out,
               ",\"usage\":{\"input_tokens\":%zu,\"cache_creation_input_tokens\":0,"
               "\"cache_read_input_tokens\":%zu,\"output_tokens\":%zu}",
               completion->prompt_tokens - completion->cached_tokens, completion->cached_tokens,
               completion->completion_tokens);
}

static void add_reason(const struct choice *choice, struct buf *out)
{
    const struct api_request *request = &choice->completion->request;
    const char *finish = choice->finish_reason;
    const char *reason = !strcmp(finish, "length")       ? "max_tokens"
                         : !strcmp(finish, "tool_calls") ? "tool_use"
                         : choice->stop                  ? "stop_sequence"
                                                         : "end_turn";
    buf_printf(out, "\"stop_reason\":\"%s\",\"stop_sequence\":", reason);
    if (choice->stop)
        json_write(out, request->stops[choice->stop - 1], request->stop_lens[choice->stop - 1]);
    else
        buf_puts(out, "null");
}

/* A block up to its text or input, which a stream sends later. */
static void begin_block(const struct answer_part *part, struct buf *out)
{
    if (!part->is_call) {
        buf_puts(out, "{\"type\":\"text\",\"text\":");
        return;
    }
    buf_printf(out, "{\"type\":\"tool_use\",\"id\":\"%s\",\"name\":", part->id);
    json_write(out, part->name.data, part->name.len);
    buf_puts(out, ",\"input\":");
}

/* ---- streams ---- */

static void message_start(struct completion *completion)
{
    struct buf *out = &completion->out;
    size_t start = event_begin(completion, "message_start");
    buf_puts(out, ",\"message\":{");
    add_head(completion, out);
    buf_puts(out, ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null");
    add_usage(completion, out);
    buf_puts(out, "}");
    event_end(completion, start);
}

static void block_start(struct completion *completion, const struct answer_piece *piece)
{
    size_t start = event_begin(completion, "content_block_start");
    buf_printf(&completion->out, ",\"index\":%zu,\"content_block\":", piece->index);
    begin_block(piece->part, &completion->out);
    buf_puts(&completion->out, piece->part->is_call ? "{}}" : "\"\"}");
    event_end(completion, start);
}

static void block_delta(struct completion *completion, const struct answer_piece *piece)
{
    bool call = piece->part->is_call;
    size_t start = event_begin(completion, "content_block_delta");
    buf_printf(&completion->out, ",\"index\":%zu,\"delta\":{\"type\":\"%s\"", piece->index,
               call ? "input_json_delta" : "text_delta");
    event_text(completion, call ? ",\"partial_json\":" : ",\"text\":", piece->text, piece->len);
    buf_puts(&completion->out, "}");
    event_end(completion, start);
}

static void block_stop(struct completion *completion, const struct answer_piece *piece)
{
    size_t start = event_begin(completion, "content_block_stop");
    buf_printf(&completion->out, ",\"index\":%zu", piece->index);
    event_end(completion, start);
}

static void chunk(struct completion *completion, struct choice *choice)
{
    struct answer_piece piece;
    if (!choice->opened)
        message_start(completion);
    choice->opened = true;
    while (answer_next(&choice->answer, &piece)) {
        if (piece.begins)
            block_start(completion, &piece);
        if (piece.len)
            block_delta(completion, &piece);
        if (piece.ends)
            block_stop(completion, &piece);
    }
}

static void end(struct completion *completion)
{
    struct buf *out = &completion->out;
    size_t start = event_begin(completion, "message_delta");
    buf_puts(out, ",\"delta\":{");
    add_reason(&completion->choices[0], out);
    buf_puts(out, "}");
    add_usage(completion, out);
    event_metrics(completion, out);
    event_end(completion, start);
    event_end(completion, event_begin(completion, "message_stop"));
}

static void error(struct completion *completion, int status, const char *code, const char *message)
{
    const struct response *response = &completion->response;
    (void)code;
    buf_puts(&completion->out, "event: error\ndata: ");
    response_error_anthropic(&completion->out, status, message, response->request_id);
    buf_puts(&completion->out, "\n\n");
}

/* ---- whole ---- */

static void whole(struct completion *completion)
{
    struct buf *out = response_begin(&completion->response, 200, "application/json");
    const struct answer *answer = &completion->choices[0].answer;
    buf_puts(out, "{");
    add_head(completion, out);
    buf_puts(out, ",\"content\":[");
    for (size_t i = 0; i < answer->n_parts; i++) {
        const struct answer_part *part = &answer->parts[i];
        buf_puts(out, i ? "," : "");
        begin_block(part, out);
        if (part->is_call) /* a JSON object as it is */
            buf_append(out, part->text.data, part->text.len);
        else
            json_write(out, part->text.data, part->text.len);
        buf_puts(out, "}");
    }
    buf_puts(out, "],");
    add_reason(&completion->choices[0], out);
    add_usage(completion, out);
    event_metrics(completion, out);
    buf_puts(out, "}\n");
}

const struct dialect dialect_messages = {
    .id = "msg_", .chunk = chunk, .end = end, .error = error, .whole = whole};
