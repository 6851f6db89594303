/* OpenAI's chat completions as JSON: see dialect.h. */
#include <string.h>

#include "server/dialect.h"
#include "server/json_text.h"
#include "server/openai_json.h"

/* ---- chunks ---- */

/* Who speaks, before what is said. */
static void role_chunk(struct completion *completion, const struct choice *choice)
{
    struct buf *out = &completion->out;
    size_t start = openai_chunk_begin(completion);
    buf_printf(out,
               "{\"index\":%d,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
               "\"logprobs\":null,\"finish_reason\":null}]",
               choice->index);
    if (completion->request.return_token_ids)
        openai_add_prompt_ids(choice->prompt, out);
    openai_chunk_end(completion, start);
}

static void content_chunk(struct completion *completion, struct choice *choice, const char *text,
                          size_t len)
{
    struct buf *out = &completion->out;
    size_t start = openai_chunk_begin(completion);
    buf_printf(out, "{\"index\":%d,\"delta\":{\"content\":", choice->index);
    json_write(out, text, len);
    buf_puts(out, "}");
    openai_add_rest(choice, true, NULL, out);
    buf_puts(out, "}]");
    openai_chunk_end(completion, start);
}

/* The call's name, then its arguments: clients put together what has the same index. */
static void call_chunk(struct completion *completion, const struct choice *choice, size_t call,
                       const struct answer_part *part, bool arguments)
{
    struct buf *out = &completion->out;
    size_t start = openai_chunk_begin(completion);
    buf_printf(out, "{\"index\":%d,\"delta\":{\"tool_calls\":[{\"index\":%zu,", choice->index,
               call);
    if (arguments) {
        buf_puts(out, "\"function\":{\"arguments\":");
        json_write(out, part->text.data, part->text.len);
    } else {
        buf_printf(out, "\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":", part->id);
        json_write(out, part->name.data, part->name.len);
        buf_puts(out, ",\"arguments\":\"\"");
    }
    buf_puts(out, "}}]},\"logprobs\":null,\"finish_reason\":null}]");
    openai_chunk_end(completion, start);
}

static void finish_chunk(struct completion *completion, struct choice *choice)
{
    struct buf *out = &completion->out;
    size_t start = openai_chunk_begin(completion);
    buf_printf(out, "{\"index\":%d,\"delta\":{}", choice->index);
    openai_add_rest(choice, false, choice->finish_reason, out);
    buf_puts(out, "}]");
    openai_chunk_end(completion, start);
}

static void chunk(struct completion *completion, struct choice *choice)
{
    struct answer_piece piece;
    if (!choice->opened)
        role_chunk(completion, choice);
    choice->opened = true;
    while (answer_next(&choice->answer, &piece)) {
        if (piece.part->is_call) {
            call_chunk(completion, choice, choice->n_calls, piece.part, false);
            call_chunk(completion, choice, choice->n_calls++, piece.part, true);
        } else if (piece.len) {
            content_chunk(completion, choice, piece.text, piece.len);
        }
    }
    if (choice->logprobs.tokens.len || choice->ids.len)
        content_chunk(completion, choice, "", 0);
    if (choice->finish_reason)
        finish_chunk(completion, choice);
}

/* ---- whole ---- */

static void add_calls(const struct answer *answer, struct buf *out)
{
    const char *comma = "";
    buf_puts(out, ",\"tool_calls\":[");
    for (size_t i = 0; i < answer->n_parts; i++) {
        const struct answer_part *part = &answer->parts[i];
        if (!part->is_call)
            continue;
        buf_printf(out, "%s{\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":", comma,
                   part->id);
        json_write(out, part->name.data, part->name.len);
        buf_puts(out, ",\"arguments\":");
        json_write(out, part->text.data, part->text.len);
        buf_puts(out, "}}");
        comma = ",";
    }
    buf_puts(out, "]");
}

/* An answer that only calls has no content. */
static void add_choice(struct choice *choice, struct buf *out)
{
    const struct answer *answer = &choice->answer;
    buf_printf(out,
               "{\"index\":%d,\"message\":{\"role\":\"assistant\",\"content\":", choice->index);
    if (answer->n_calls && answer->n_calls == answer->n_parts)
        buf_puts(out, "null");
    else
        answer_write_text(answer, out);
    buf_puts(out, ",\"refusal\":null");
    if (answer->n_calls)
        add_calls(answer, out);
    buf_puts(out, "}");
    openai_add_rest(choice, true, choice->finish_reason, out);
    buf_puts(out, "}");
}

static void whole(struct completion *completion)
{
    struct buf *out = openai_whole(completion, add_choice);
    if (completion->request.return_token_ids)
        openai_add_prompt_ids(&completion->request.prompts[0], out);
    openai_whole_end(out);
}

const struct dialect dialect_chat = {
    .id = "chatcmpl-", .chunk = chunk, .end = openai_end, .error = openai_error, .whole = whole};
