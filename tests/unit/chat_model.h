/* A model for tests of the server's requests: byte-level BPE of few tokens, control tokens and a
 * ChatML template, no weights. Bytes are tokens 0..255, then come "he", "hel", "hell", "hello". */
#ifndef TESTS_UNIT_CHAT_MODEL_H
#define TESTS_UNIT_CHAT_MODEL_H

#include "base/rng.h"
#include "server/api.h"
#include "tests/unit/vocabularies.h"

#define CHATML                                                                                     \
    "{% if tools %}<|im_start|>tools\n{% for t in tools %}{{ t | tojson }}{% endfor "              \
    "%}<|im_end|>\n"                                                                               \
    "{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"                                 \
    "{% if m.name %}{{ m.name }}: {% endif %}{{ m.content }}"                                      \
    "{% for c in m.tool_calls or [] %}[{{ c.function.name }}"                                      \
    "{% for k, v in c.function.arguments.items() %} {{ k }}={{ v }}{% endfor %}]{% endfor %}"      \
    "<|im_end|>\n{% endfor %}{% if fancy %}{{ fancy }}{% endif %}"                                 \
    "{% if messages[0].content == 'refuse me' %}{{ raise_exception('no such talk') }}{% endif %}"  \
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

enum { CHAT_HELLO = 259, CHAT_BOS, CHAT_START, CHAT_END, CHAT_VOCAB };

struct chat_model {
    struct api_model api;
    struct engine_info info;
    struct tokenizer *tokenizer;
    struct template *template;
};

/* Must not be moved. `source` is the template's, NULL for none. */
static inline void chat_model_init(struct chat_model *m, const char *source, bool add_bos)
{
    static const char *const merges[][2] = {
        {"h", "e"}, {"he", "l"}, {"hel", "l"}, {"hell", "o"}, {NULL, NULL}};
    struct vocab vocab;
    struct err err = {0};
    memset(m, 0, sizeof *m);
    byte_level_vocab(&vocab, "gpt-2", merges);
    add_token(&vocab, "<s>", TOKEN_CONTROL, 0);
    add_token(&vocab, "<|im_start|>", TOKEN_CONTROL, 0);
    add_token(&vocab, "<|im_end|>", TOKEN_CONTROL, 0);
    vocab.bos = CHAT_BOS;
    vocab.eos = CHAT_END;
    vocab.add_bos = add_bos;
    m->tokenizer = make(&vocab);
    assert_int_equal(tokenizer_vocab(m->tokenizer), CHAT_VOCAB);
    m->info = (struct engine_info){.max_queue = 256,
                                   .n_predict = 4,
                                   .vocab = CHAT_VOCAB,
                                   .context = 512,
                                   .tokenizer = m->tokenizer};
    if (source)
        assert_ok(template_parse(&m->template, source, strlen(source), &err), err);
    m->api = (struct api_model){.id = "demo", .info = &m->info, .template = m->template};
}

static inline void chat_model_release(struct chat_model *m)
{
    template_free(m->template);
    tokenizer_free(m->tokenizer);
}

static inline int parse_as(struct api_request *request, enum api_kind kind,
                           const struct chat_model *m, const char *body, struct response *error)
{
    memset(error, 0, sizeof *error);
    return api_parse(request, kind, &m->api, body, strlen(body), 99, error);
}

static inline void assert_member(const json_t *error, const char *name, const char *expected)
{
    const json_t *value = json_object_get(error, name);
    assert_non_null(value);
    if (expected && json_is_string(value))
        assert_string_equal(json_string_value(value), expected);
    else
        assert_true(!expected && json_is_null(value));
}

/* The response must be an error of that status, param and code, with all four keys. */
static inline void assert_error(const struct response *response, int status, const char *param,
                                const char *code)
{
    assert_int_equal(response->status, status);
    json_t *root = json_loadb(response->body.data, response->body.len, 0, NULL);
    const json_t *error = json_object_get(root, "error");
    assert_int_equal(json_object_size(error), 4);
    assert_member(error, "param", param);
    assert_member(error, "code", code);
    assert_member(error, "type", "invalid_request_error");
    assert_true(json_string_length(json_object_get(error, "message")) > 10);
    json_decref(root);
}

static inline void assert_refused(const struct chat_model *m, enum api_kind kind, const char *body,
                                  int status, const char *param, const char *code)
{
    struct api_request request;
    struct response response;
    if (!parse_as(&request, kind, m, body, &response))
        fail_msg("accepted: %s", body);
    assert_error(&response, status, param, code);
    response_release(&response);
    api_release(&request);
}

/* One small change to a body: flip, remove, repeat or cut. Returns the new length. */
static inline size_t mutate(char *body, size_t len, uint64_t seed)
{
    static const char bytes[] = "{}[]\",:0123456789-+.eE\\utrfnal\xff\x01 <|>";
    size_t at = len ? rng_below(seed, 1, 0, len) : 0;
    switch (rng_below(seed, 2, 0, 4)) {
    case 0:
        body[at] = bytes[rng_below(seed, 3, 0, sizeof bytes - 1)];
        return len;
    case 1:
        memmove(body + at, body + at + 1, len - at - 1);
        return len - 1;
    case 2:
        memmove(body + at + 1, body + at, len - at);
        return len + 1;
    default:
        return rng_below(seed, 4, 0, 8) ? len : at;
    }
}

#endif
