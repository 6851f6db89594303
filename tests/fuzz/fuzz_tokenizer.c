/* libFuzzer on texts: every kind of tokenizer gives any bytes back, and no control token where
 * none may be. The input's first three bytes say how. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

#define KINDS 5
#define CONTROL "<|im_end|>"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void add(struct vocab *vocab, const char *text, enum token_kind kind, float score)
{
    struct err err;
    if (vocab_add(vocab, text, strlen(text), kind, score, &err))
        abort();
}

/* GPT-2's characters for the bytes: see text/byte_level.h. */
static void add_bytes(struct vocab *vocab)
{
    for (int byte = 0, spare = 256; byte < 256; byte++) {
        bool prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
        int code = prints ? byte : spare++;
        char text[3] = {(char)code, 0, 0};
        if (code >= 128) {
            text[0] = (char)(0xc0 | code >> 6);
            text[1] = (char)(0x80 | (code & 63));
        }
        add(vocab, text, TOKEN_TEXT, 0);
    }
}

static void add_bpe(struct vocab *vocab)
{
    static const char *const merges[][2] = {{"h", "e"}, {"l", "l"},   {"a", "a"},  {"aa", "aa"},
                                            {"Ġ", "t"}, {"Ġt", "he"}, {"1", "2"},  {"Ġ", "Ġ"},
                                            {"Ã", "©"}, {"ä", "¸"},   {"ä¸", "Ń"}, {"'", "s"}};
    vocab->kind = VOCAB_BPE;
    add_bytes(vocab);
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++) {
        char both[16];
        struct err err;
        snprintf(both, sizeof both, "%s%s", merges[i][0], merges[i][1]);
        add(vocab, both, TOKEN_TEXT, 0);
        if (vocab_add_merge(vocab, merges[i][0], strlen(merges[i][0]), merges[i][1],
                            strlen(merges[i][1]), &err))
            abort();
    }
}

static void add_sentencepiece(struct vocab *vocab)
{
    static const char *const texts[] = {"▁t", "he", "▁the", "aa", "aaa", "▁▁", "a▁",
                                        "h",  "e",  "a",    "t",  "▁",   "é",  "中"};
    vocab->kind = VOCAB_SENTENCEPIECE;
    vocab->rules.byte_fallback = vocab->rules.add_space_prefix = true;
    for (int i = 0; i < 256; i++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", i);
        add(vocab, text, TOKEN_BYTE, 0);
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        add(vocab, texts[i], TOKEN_TEXT, -(float)i);
}

static struct tokenizer *make(int kind)
{
    static const char *const names[KINDS] = {"", "", "smollm", "tekken", "deepseek-v3"};
    struct vocab vocab = {.kind = VOCAB_BYTES, .bos = -1, .eos = -1, .unknown = -1};
    struct tokenizer *t;
    struct err err;
    vocab.rules.pre = kind > 1 ? names[kind] : NULL;
    if (kind > 1)
        add_bpe(&vocab);
    else if (kind)
        add_sentencepiece(&vocab);
    for (int i = 0; !kind && i < 256; i++)
        add(&vocab, "", TOKEN_TEXT, 0);
    add(&vocab, CONTROL, TOKEN_CONTROL, 0);
    add(&vocab, "<tool>", TOKEN_ADDED, 0);
    if (tokenizer_init(&t, &vocab, &err))
        abort();
    return t;
}

/* What of the text its tokens give back: everything but control tokens. */
static void check(const struct tokenizer *t, const struct tokens *tokens, const char *text,
                  size_t len, int32_t control, bool may)
{
    size_t at = 0, n;
    int32_t before = -1;
    for (size_t i = 0; i < tokens->n; before = tokens->ids[i++]) {
        const char *bytes = tokenizer_bytes(t, before, tokens->ids[i], &n);
        if (tokens->ids[i] == control && !may)
            abort();
        if (tokens->ids[i] == control)
            bytes = tokenizer_written(t, control, &n);
        if (n > len - at || memcmp(text + at, bytes, n))
            abort();
        at += n;
    }
    if (at != len)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct tokenizer *tokenizers[KINDS];
    if (size < 3)
        return 0;
    int kind = bytes[0] % KINDS;
    const char *text = (const char *)bytes + 3;
    size_t len = size - 3;
    if (!tokenizers[kind])
        tokenizers[kind] = make(kind);
    struct tokenizer *t = tokenizers[kind];
    size_t begin = bytes[1] < len ? bytes[1] : len, end = begin + bytes[2];
    struct text_range literal = {begin, end < len ? end : len};
    struct encode_options options = {
        .parse_special = bytes[0] & 128, .literal = &literal, .n_literal = 1};
    struct tokens tokens = {0};
    struct err err;
    int32_t control = tokenizer_special(t, CONTROL, strlen(CONTROL));
    /* SentencePiece writes spaces as U+2581: that character comes back as a space. */
    bool same = kind != 1 || !memmem(text, len, "▁", 3);
    if (tokenizer_encode(t, text, len, &options, &tokens, &err))
        abort();
    if (same)
        check(t, &tokens, text, len, control, options.parse_special);
    free(tokens.ids);
    return 0;
}
