/* Log-probabilities as JSON: see logprobs.h. */
#include "server/logprobs.h"

#include <math.h>
#include <stdbool.h>

#include "server/json_text.h"
#include "text/tokenizer.h"

/* A token as a JSON string. Bytes that are not UTF-8 alone are written as OpenAI does:
 * "bytes:\xe2\x82"; tokens without bytes by their role or number. */
static void token_text(struct buf *out, const struct engine *engine, int32_t token)
{
    size_t len;
    const char *bytes = tokenizer_written(engine_info(engine)->tokenizer, token, &len);
    if (!len)
        buf_printf(out, "\"token_id:%d\"", token);
    else if (!json_write_strict(out, bytes, len)) {
        buf_puts(out, "\"bytes:");
        for (size_t i = 0; i < len; i++)
            buf_printf(out, "\\\\x%02x", (unsigned char)bytes[i]);
        buf_puts(out, "\"");
    }
}

/* JSON has no infinity: like other servers, -9999 stands for "never". */
static void number(struct buf *out, float logprob)
{
    if (isnan(logprob))
        buf_puts(out, "null");
    else
        buf_printf(out, "%.9g", logprob < -9999 ? -9999.0 : (double)logprob);
}

/* The best alternatives, and the token itself when it is not among them. */
static void add_top(struct buf *out, const struct engine *engine, const struct engine_token *token)
{
    bool has_own = false;
    if (isnan(token->logprob)) {
        buf_puts(out, "null");
        return;
    }
    buf_puts(out, "{");
    for (int i = 0; i < token->n_top; i++) {
        has_own |= token->top[i].token == token->token;
        buf_puts(out, i ? "," : "");
        token_text(out, engine, token->top[i].token);
        buf_puts(out, ":");
        number(out, token->top[i].logprob);
    }
    if (!has_own) {
        buf_puts(out, token->n_top ? "," : "");
        token_text(out, engine, token->token);
        buf_puts(out, ":");
        number(out, token->logprob);
    }
    buf_puts(out, "}");
}

void logprobs_add(struct logprobs *logprobs, const struct engine *engine,
                  const struct engine_token *token)
{
    size_t len;
    const char *comma = logprobs->tokens.len ? "," : "";
    buf_puts(&logprobs->tokens, comma);
    token_text(&logprobs->tokens, engine, token->token);
    buf_puts(&logprobs->values, comma);
    number(&logprobs->values, token->logprob);
    buf_puts(&logprobs->tops, comma);
    add_top(&logprobs->tops, engine, token);
    buf_printf(&logprobs->offsets, "%s%zu", comma, logprobs->position.characters);
    const char *bytes = tokenizer_bytes(engine_info(engine)->tokenizer, -1, token->token, &len);
    utf8_add(&logprobs->position, bytes, len, NULL);
}

void logprobs_write(struct logprobs *logprobs, struct buf *out)
{
    struct {
        const char *key;
        struct buf *list;
    } parts[] = {{"{\"tokens\":[", &logprobs->tokens},
                 {"],\"token_logprobs\":[", &logprobs->values},
                 {"],\"top_logprobs\":[", &logprobs->tops},
                 {"],\"text_offset\":[", &logprobs->offsets}};
    for (int i = 0; i < 4; i++) {
        buf_puts(out, parts[i].key);
        buf_append(out, parts[i].list->data, parts[i].list->len);
        out->failed |= parts[i].list->failed;
        parts[i].list->len = 0;
    }
    buf_puts(out, "]}");
}

void logprobs_release(struct logprobs *logprobs)
{
    buf_release(&logprobs->tokens);
    buf_release(&logprobs->values);
    buf_release(&logprobs->tops);
    buf_release(&logprobs->offsets);
}
