/* Text without decoding: see text_api.h. */
#include "server/text_api.h"

#include <stdlib.h>

#include "server/body.h"
#include "server/chat.h"
#include "server/field.h"
#include "server/json_text.h"
#include "server/token_list.h"
#include "server/utf8.h"

/* ---- tokens of a text ---- */

/* How the token would be written: a string, or its bytes where they are not UTF-8. */
static void write_piece(struct buf *out, const struct tokenizer *tokenizer, int32_t token)
{
    size_t len;
    const char *bytes = tokenizer_written(tokenizer, token, &len);
    buf_printf(out, "{\"id\":%d,\"piece\":", token);
    if (!json_write_strict(out, bytes, len)) {
        for (size_t i = 0; i < len; i++)
            buf_printf(out, i ? ",%d" : "[%d", (unsigned char)bytes[i]);
        buf_puts(out, "]");
    }
    buf_puts(out, "}");
}

static void write_tokens(const struct tokens *tokens, const struct tokenizer *tokenizer,
                         bool with_pieces, struct buf *out)
{
    buf_puts(out, "{\"tokens\":");
    if (with_pieces) {
        buf_puts(out, "[");
        for (size_t i = 0; i < tokens->n; i++) {
            buf_puts(out, i ? "," : "");
            write_piece(out, tokenizer, tokens->ids[i]);
        }
        buf_puts(out, "]");
    } else {
        token_list_write(out, tokens->ids, tokens->n);
    }
    buf_puts(out, "}\n");
}

static int tokenize(const json_t *root, const struct api_model *model, struct response *response)
{
    const struct tokenizer *tokenizer = model->info->tokenizer;
    struct encode_options options = {.parse_special = true};
    bool with_pieces = false;
    const json_t *content = field_get(root, "content");
    if (!json_is_string(content))
        return response_error(response, 400, "content", NULL, "'content' must be a string.");
    if (field_bool(root, "add_special", &options.add_special, response) ||
        field_bool(root, "parse_special", &options.parse_special, response) ||
        field_bool(root, "with_pieces", &with_pieces, response))
        return ERR_INVALID;
    struct tokens tokens = {0};
    struct err err;
    int rc = tokenizer_encode(tokenizer, json_string_value(content), json_string_length(content),
                              &options, &tokens, &err);
    if (rc)
        response_error(response, rc == ERR_INVALID ? 400 : 500, "content", NULL,
                       "The text cannot be turned into tokens: %s.", err.text);
    else
        write_tokens(&tokens, tokenizer, with_pieces,
                     response_begin(response, 200, "application/json"));
    free(tokens.ids);
    return rc;
}

/* ---- text of tokens ---- */

/* Control tokens are written out, as in a prompt. */
static void write_content(const int32_t *tokens, size_t n, const struct tokenizer *tokenizer,
                          struct buf *out)
{
    struct buf text = {0};
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *bytes = tokenizer_bytes(tokenizer, i ? tokens[i - 1] : -1, tokens[i], &len);
        if (!len)
            bytes = tokenizer_written(tokenizer, tokens[i], &len);
        buf_append(&text, bytes, len);
    }
    buf_puts(out, "{\"content\":");
    json_write(out, text.data ? text.data : "", text.len);
    buf_puts(out, "}\n");
    out->failed |= text.failed;
    buf_release(&text);
}

static int detokenize(const json_t *root, const struct api_model *model, struct response *response)
{
    const json_t *list = field_get(root, "tokens");
    int32_t *tokens = NULL;
    size_t n;
    if (!json_is_array(list))
        return response_error(response, 400, "tokens", NULL, "'tokens' must be a list of ids.");
    int rc = token_list_parse(list, model->info->vocab, "tokens", &tokens, &n, response);
    if (!rc)
        write_content(tokens, n, model->info->tokenizer,
                      response_begin(response, 200, "application/json"));
    free(tokens);
    return rc;
}

/* ---- prompts of messages ---- */

static int apply_template(const json_t *root, const struct api_model *model,
                          struct response *response)
{
    struct rendered rendered;
    int rc = chat_render(root, model, &rendered, response);
    if (!rc) {
        struct buf *out = response_begin(response, 200, "application/json");
        buf_puts(out, "{\"prompt\":");
        json_write(out, rendered.text.data ? rendered.text.data : "", rendered.text.len);
        buf_puts(out, "}\n");
    }
    rendered_release(&rendered);
    return rc;
}

/* ---- bodies ---- */

static void with_body(int (*make)(const json_t *, const struct api_model *, struct response *),
                      const struct api_model *model, const char *body, size_t len,
                      struct response *response)
{
    json_t *root;
    if (!body_parse(&root, model->id, body, len, response))
        make(root, model, response);
    json_decref(root);
}

void text_api_tokenize(const struct api_model *model, const char *body, size_t len,
                       struct response *response)
{
    with_body(tokenize, model, body, len, response);
}

void text_api_detokenize(const struct api_model *model, const char *body, size_t len,
                         struct response *response)
{
    with_body(detokenize, model, body, len, response);
}

void text_api_apply_template(const struct api_model *model, const char *body, size_t len,
                             struct response *response)
{
    with_body(apply_template, model, body, len, response);
}

void text_api_count_tokens(const struct api_model *model, const char *body, size_t len,
                           struct response *response)
{
    struct api_request request;
    if (!api_parse(&request, API_COUNT, model, body, len, 0, response))
        buf_printf(response_begin(response, 200, "application/json"), "{\"input_tokens\":%zu}\n",
                   request.prompts[0].n_tokens);
    api_release(&request);
}
