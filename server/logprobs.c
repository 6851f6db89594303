/* Log-probabilities as JSON: see logprobs.h. */
#include "server/logprobs.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "server/json_text.h"
#include "text/utf8.h"

void logprobs_init(struct logprobs *logprobs, const struct tokenizer *tokenizer, bool chat,
                   int32_t before)
{
    memset(logprobs, 0, sizeof *logprobs);
    logprobs->tokenizer = tokenizer;
    logprobs->chat = chat;
    logprobs->before = before;
}

/* What a token adds to the text; for one that adds nothing how it is written. */
static const char *bytes_of(const struct logprobs *logprobs, int32_t token, size_t *len)
{
    const char *bytes = tokenizer_bytes(logprobs->tokenizer, logprobs->before, token, len);
    return *len ? bytes : tokenizer_written(logprobs->tokenizer, token, len);
}

/* What it adds to this text: of an echoed prompt control tokens are written. */
static const char *bytes_in_text(const struct logprobs *logprobs, int32_t token, bool echoed,
                                 size_t *len)
{
    return echoed ? bytes_of(logprobs, token, len)
                  : tokenizer_bytes(logprobs->tokenizer, logprobs->before, token, len);
}

/* A token as a JSON string; one without bytes by its number. Bytes that are not UTF-8 alone are
 * written as OpenAI does: in completions all of them, "bytes:\xe2\x82", in chats those that are no
 * characters, " \xe2\x82". */
static void token_text(struct buf *out, const struct logprobs *logprobs, int32_t token)
{
    size_t len;
    const char *bytes = bytes_of(logprobs, token, &len);
    struct buf text = {0};
    if (!len) {
        buf_printf(out, "\"token_id:%d\"", token);
        return;
    }
    if (json_write_strict(out, bytes, len))
        return;
    buf_puts(&text, logprobs->chat ? "" : "bytes:");
    for (size_t i = 0; i < len;) {
        size_t valid = logprobs->chat ? utf8_valid(bytes + i, len - i) : 0;
        buf_append(&text, bytes + i, valid);
        i += valid;
        if (i < len)
            buf_printf(&text, "\\x%02x", (unsigned char)bytes[i++]);
    }
    out->failed |= text.failed;
    if (!text.failed)
        json_write(out, text.data, text.len);
    buf_release(&text);
}

/* JSON has no infinity: like other servers, -9999 stands for "never". */
static void number(struct buf *out, float logprob)
{
    if (isnan(logprob))
        buf_puts(out, "null");
    else
        buf_printf(out, "%.9g", logprob < -9999 ? -9999.0 : (double)logprob);
}

/* ---- completions ---- */

/* The best alternatives, and the token itself when it is not among them. */
static void add_top(struct logprobs *logprobs, const struct engine_token *token)
{
    struct buf *out = &logprobs->tops;
    bool has_own = false;
    if (isnan(token->logprob)) {
        buf_puts(out, "null");
        return;
    }
    buf_puts(out, "{");
    for (int i = 0; i < token->n_top; i++) {
        has_own |= token->top[i].token == token->token;
        buf_puts(out, i ? "," : "");
        token_text(out, logprobs, token->top[i].token);
        buf_puts(out, ":");
        number(out, token->top[i].logprob);
    }
    if (!has_own) {
        buf_puts(out, token->n_top ? "," : "");
        token_text(out, logprobs, token->token);
        buf_puts(out, ":");
        number(out, token->logprob);
    }
    buf_puts(out, "}");
}

static void add_columns(struct logprobs *logprobs, const struct engine_token *token, bool echoed)
{
    size_t len;
    const char *comma = logprobs->tokens.len ? "," : "";
    buf_puts(&logprobs->tokens, comma);
    token_text(&logprobs->tokens, logprobs, token->token);
    buf_puts(&logprobs->values, comma);
    number(&logprobs->values, token->logprob);
    buf_puts(&logprobs->tops, comma);
    add_top(logprobs, token);
    const char *bytes = bytes_in_text(logprobs, token->token, echoed, &len);
    buf_printf(&logprobs->offsets, "%s%zu", comma, utf8_place(&logprobs->position, bytes, len));
}

/* ---- chats ---- */

static void add_object(struct logprobs *logprobs, int32_t token, float logprob)
{
    struct buf *out = &logprobs->tokens;
    size_t len;
    const char *bytes = tokenizer_bytes(logprobs->tokenizer, logprobs->before, token, &len);
    buf_puts(out, "{\"token\":");
    token_text(out, logprobs, token);
    buf_puts(out, ",\"logprob\":");
    number(out, logprob);
    buf_puts(out, len ? ",\"bytes\":[" : ",\"bytes\":null");
    for (size_t i = 0; i < len; i++)
        buf_printf(out, "%s%d", i ? "," : "", (unsigned char)bytes[i]);
    buf_puts(out, len ? "]" : "");
}

static void add_content(struct logprobs *logprobs, const struct engine_token *token)
{
    struct buf *out = &logprobs->tokens;
    buf_puts(out, out->len ? "," : "");
    add_object(logprobs, token->token, token->logprob);
    buf_puts(out, ",\"top_logprobs\":[");
    for (int i = 0; i < token->n_top; i++) {
        buf_puts(out, i ? "," : "");
        add_object(logprobs, token->top[i].token, token->top[i].logprob);
        buf_puts(out, "}");
    }
    buf_puts(out, "]}");
}

/* ---- both ---- */

/* The character of the text with which a token, added next, would begin. */
static size_t place(const struct logprobs *logprobs, const struct engine_token *token)
{
    size_t len;
    const char *bytes = bytes_in_text(logprobs, token->token, false, &len);
    return utf8_place(&logprobs->position, bytes, len);
}

void logprobs_add(struct logprobs *logprobs, const struct engine_token *token, bool echoed)
{
    size_t len;
    if (logprobs->chat)
        add_content(logprobs, token);
    else
        add_columns(logprobs, token, echoed);
    const char *bytes = bytes_in_text(logprobs, token->token, echoed, &len);
    utf8_add(&logprobs->position, bytes, len, NULL);
    logprobs->before = token->token;
}

static size_t characters(const char *text, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

void logprobs_take(struct logprobs *logprobs, const struct engine_event *event, size_t skip,
                   bool cut)
{
    struct buf *unshown = &logprobs->unshown;
    for (size_t i = skip; i < event->n_prompt; i++)
        logprobs_add(logprobs, &event->prompt[i], true);
    if (event->n_prompt) {
        utf8_end(&logprobs->position, NULL);
        logprobs->shown = logprobs->position.characters;
    }
    logprobs->shown += characters(event->text, event->text_len);
    buf_append(unshown, event->tokens, event->n_tokens * sizeof *event->tokens);
    const struct engine_token *tokens = (const struct engine_token *)(const void *)unshown->data;
    size_t n = 0, have = unshown->len / sizeof *tokens;
    bool all = event->finish && !cut;
    while (n < have && (all || place(logprobs, &tokens[n]) < logprobs->shown))
        logprobs_add(logprobs, &tokens[n++], false);
    buf_consume(unshown, event->finish ? unshown->len : n * sizeof *tokens);
    logprobs->tokens.failed |= unshown->failed;
}

static void write_list(struct buf *list, const char *key, struct buf *out)
{
    buf_puts(out, key);
    buf_append(out, list->data, list->len);
    out->failed |= list->failed;
    list->len = 0;
}

void logprobs_write(struct logprobs *logprobs, struct buf *out)
{
    if (logprobs->chat) {
        write_list(&logprobs->tokens, "{\"content\":[", out);
        buf_puts(out, "],\"refusal\":null}");
        return;
    }
    write_list(&logprobs->tokens, "{\"tokens\":[", out);
    write_list(&logprobs->values, "],\"token_logprobs\":[", out);
    write_list(&logprobs->tops, "],\"top_logprobs\":[", out);
    write_list(&logprobs->offsets, "],\"text_offset\":[", out);
    buf_puts(out, "]}");
}

void logprobs_release(struct logprobs *logprobs)
{
    buf_release(&logprobs->tokens);
    buf_release(&logprobs->values);
    buf_release(&logprobs->tops);
    buf_release(&logprobs->offsets);
    buf_release(&logprobs->unshown);
}
