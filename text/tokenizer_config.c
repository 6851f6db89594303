/* tokenizer_config.json: see tokenizer_json.h. */
#include <jansson.h>
#include <string.h>

#include "text/tokenizer_json.h"
#include "text/tokenizer_steps.h"

/* bos_token and eos_token are strings, objects with a field content, or null. */
static int named_token(const struct vocab *vocab, const json_t *root, const char *field,
                       const char *where, int *id, struct err *err)
{
    const json_t *value = json_object_get(root, field);
    const char *text =
        json_is_object(value) ? json_text(value, "content") : json_string_value(value);
    if (!value || json_is_null(value))
        return 0;
    if (!text)
        return err_set(err, ERR_INVALID, "%s: '%s' must be a string or an object with 'content'",
                       where, field);
    size_t len = strlen(text);
    for (int i = vocab->n_tokens - 1; i >= 0; i--) {
        const struct vocab_token *token = &vocab->tokens[i];
        if (token->len == len && token->kind != TOKEN_UNUSED &&
            !memcmp(vocab->strings.data + token->text, text, len)) {
            *id = i;
            return 0;
        }
    }
    return err_set(err, ERR_INVALID, "%s: '%s' is '%.60s', which the vocabulary lacks", where,
                   field, text);
}

/* One template, or a list of named ones: {"name": ..., "template": ...}. */
static int read_template(const json_t *value, struct buf *out, const char *where, struct err *err)
{
    const json_t *one;
    size_t i;
    const char *text = json_string_value(value);
    json_array_foreach(value, i, one)
    {
        const char *name = json_text(one, "name");
        if (name && !strcmp(name, "default"))
            text = json_text(one, "template");
    }
    if (value && !json_is_null(value) && !text)
        return err_set(err, ERR_INVALID,
                       "%s: 'chat_template' must be a string or a list with one named default",
                       where);
    if (text)
        buf_puts(out, text);
    return out->failed ? err_set(err, ERR_MEMORY, "%s: no memory left", where) : 0;
}

int tokenizer_config_parse(struct vocab *vocab, struct buf *chat_template, const char *text,
                           size_t len, const char *where, struct err *err)
{
    json_error_t error;
    json_t *root = json_loadb(text, len, JSON_DECODE_INT_AS_REAL, &error);
    if (!json_is_object(root)) {
        json_decref(root);
        return err_set(err, ERR_INVALID, "%s:%d: %s", where, root ? 1 : error.line,
                       root ? "expected an object" : error.text);
    }
    int rc = named_token(vocab, root, "bos_token", where, &vocab->bos, err);
    if (!rc)
        rc = named_token(vocab, root, "eos_token", where, &vocab->eos, err);
    if (!rc)
        rc = read_template(json_object_get(root, "chat_template"), chat_template, where, err);
    vocab->add_bos = json_flag(root, "add_bos_token", vocab->add_bos) && vocab->bos >= 0;
    vocab->add_eos = json_flag(root, "add_eos_token", vocab->add_eos) && vocab->eos >= 0;
    json_decref(root);
    return rc;
}
