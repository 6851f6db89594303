/* Small vocabularies written by hand. */
#ifndef TESTS_UNIT_VOCABULARIES_H
#define TESTS_UNIT_VOCABULARIES_H

#include "tests/unit/unit.h"
#include "text/tokenizer.h"

/* GPT-2's character for a byte, as UTF-8. */
static inline int byte_character(int byte, char out[4])
{
    int code = byte, n = 0;
    bool prints =
        (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
    for (int i = 0; !prints && i < byte; i++)
        n += !((i >= 33 && i <= 126) || (i >= 161 && i <= 172) || (i >= 174 && i <= 255));
    if (!prints)
        code = 256 + n;
    if (code < 128) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xc0 | code >> 6);
    out[1] = (char)(0x80 | (code & 63));
    return 2;
}

static inline void add_token(struct vocab *vocab, const char *text, enum token_kind kind,
                             float score)
{
    struct err err = {0};
    assert_ok(vocab_add(vocab, text, strlen(text), kind, score, &err), err);
}

static inline void add_merge(struct vocab *vocab, const char *left, const char *right)
{
    struct err err = {0};
    assert_ok(vocab_add_merge(vocab, left, strlen(left), right, strlen(right), &err), err);
}

/* Tokens 0..255 are the bytes; then come those of `merges`, pairs ended by NULL. */
static inline void byte_level_vocab(struct vocab *vocab, const char *pre,
                                    const char *const (*merges)[2])
{
    *vocab = (struct vocab){.kind = VOCAB_BPE, .bos = -1, .eos = -1, .unknown = -1};
    vocab->rules.pre = pre;
    for (int i = 0; i < 256; i++) {
        char text[5] = "";
        byte_character(i, text);
        add_token(vocab, text, TOKEN_TEXT, 0);
    }
    for (; merges && (*merges)[0]; merges++) {
        char both[64];
        snprintf(both, sizeof both, "%s%s", (*merges)[0], (*merges)[1]);
        add_token(vocab, both, TOKEN_TEXT, 0);
        add_merge(vocab, (*merges)[0], (*merges)[1]);
    }
}

static inline struct tokenizer *make(struct vocab *vocab)
{
    struct err err = {0};
    struct tokenizer *tokenizer;
    assert_ok(tokenizer_init(&tokenizer, vocab, &err), err);
    assert_null(vocab->tokens);
    return tokenizer;
}

/* tokenizer_init must refuse it, saying so. */
static inline void refuse(struct vocab *vocab, const char *says)
{
    struct err err = {0};
    struct tokenizer *tokenizer;
    assert_int_equal(tokenizer_init(&tokenizer, vocab, &err), ERR_INVALID);
    assert_null(tokenizer);
    assert_null(vocab->tokens);
    assert_says(err, says);
}

static inline struct tokens encode(const struct tokenizer *tokenizer, const char *text, size_t len,
                                   const struct encode_options *options)
{
    struct err err = {0};
    struct tokens tokens = {0};
    assert_ok(tokenizer_encode(tokenizer, text, len, options, &tokens, &err), err);
    return tokens;
}

/* The text, with "|" between its tokens as tokenizer_written has them, must be `expected`. */
static inline void assert_encodes(const struct tokenizer *tokenizer, const char *text,
                                  const struct encode_options *options, const char *expected)
{
    struct tokens tokens = encode(tokenizer, text, strlen(text), options);
    struct buf joined = {0};
    for (size_t i = 0; i < tokens.n; i++) {
        size_t len;
        const char *written = tokenizer_written(tokenizer, tokens.ids[i], &len);
        buf_puts(&joined, i ? "|" : "");
        buf_append(&joined, written, len);
    }
    assert_string_equal(joined.data ? joined.data : "", expected);
    buf_release(&joined);
    free(tokens.ids);
}

/* Encoding and decoding gives the text back. */
static inline void assert_comes_back(const struct tokenizer *tokenizer, const char *text,
                                     size_t len, const struct encode_options *options)
{
    struct tokens tokens = encode(tokenizer, text, len, options);
    struct buf joined = {0};
    int32_t before = -1;
    for (size_t i = 0; i < tokens.n; before = tokens.ids[i++]) {
        size_t n;
        const char *bytes = tokenizer_bytes(tokenizer, before, tokens.ids[i], &n);
        buf_append(&joined, bytes, n);
    }
    assert_int_equal(joined.len, len);
    if (len)
        assert_memory_equal(joined.data, text, len);
    buf_release(&joined);
    free(tokens.ids);
}

#endif
