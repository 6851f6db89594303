/* OpenAI's text completions as JSON: see dialect.h. */
#include "server/dialect.h"
#include "server/json_text.h"
#include "server/openai_json.h"

/* All of the answer is one part of text. */
static void chunk(struct completion *completion, struct choice *choice)
{
    struct buf *out = &completion->out;
    struct answer_piece piece = {.text = ""};
    bool more = choice->logprobs.tokens.len || choice->ids.len || choice->finish_reason;
    if (!answer_next(&choice->answer, &piece) && !more)
        return;
    size_t start = openai_chunk_begin(completion);
    buf_puts(out, "{\"text\":");
    json_write(out, piece.text, piece.len);
    buf_printf(out, ",\"index\":%d", choice->index);
    openai_add_rest(choice, true, choice->finish_reason, out);
    if (completion->request.return_token_ids && !choice->opened)
        openai_add_prompt_ids(choice->prompt, out);
    buf_puts(out, "}]");
    openai_chunk_end(completion, start);
    choice->opened = true;
}

static void add_choice(struct choice *choice, struct buf *out)
{
    buf_puts(out, "{\"text\":");
    answer_write_text(&choice->answer, out);
    buf_printf(out, ",\"index\":%d", choice->index);
    openai_add_rest(choice, true, choice->finish_reason, out);
    if (choice->completion->request.return_token_ids)
        openai_add_prompt_ids(choice->prompt, out);
    buf_puts(out, "}");
}

static void whole(struct completion *completion)
{
    openai_whole_end(openai_whole(completion, add_choice));
}

const struct dialect dialect_completions = {
    .id = "cmpl-", .chunk = chunk, .end = openai_end, .error = openai_error, .whole = whole};
