/* Encodes texts from standard input for tests/parity/compare_tokenizers.py, which compares with
 * Hugging Face's tokenizers:
 *
 *   tokenize_main json FILE    a tokenizer.json
 *   tokenize_main list FILE    what a GGUF file has, as compare_tokenizers.py writes it
 *   tokenize_main model PATH   a model
 *
 * In:  32-bit flags (1 parse special tokens, 2 add bos and eos), 32-bit length, bytes; and so on.
 * Out: 32-bit count, 32-bit ids. The seconds that encoding took go to standard error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"
#include "weights/source.h"

static void stop(const char *what)
{
    fprintf(stderr, "tokenize_main: %s\n", what);
    exit(1);
}

static char *read_file(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END))
        stop(path);
    *len = (size_t)ftell(f);
    rewind(f);
    char *text = malloc(*len + 1);
    if (!text || fread(text, 1, *len, f) != *len)
        stop(path);
    fclose(f);
    return text;
}

static uint32_t read_u32(FILE *f)
{
    uint32_t value;
    if (fread(&value, sizeof value, 1, f) != 1)
        stop("input ends early");
    return value;
}

/* A length and that many bytes. */
static char *read_text(FILE *f, uint32_t *len)
{
    *len = read_u32(f);
    char *text = malloc(*len + 1);
    if (!text || fread(text, 1, *len, f) != *len)
        stop("input ends early");
    text[*len] = 0;
    return text;
}

static float read_float(FILE *f)
{
    uint32_t bits = read_u32(f);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* GGUF's tokenizer.ggml.token_type. */
static enum token_kind kind_of(uint32_t type)
{
    static const enum token_kind kinds[] = {TOKEN_TEXT,  TOKEN_TEXT,   TOKEN_UNKNOWN, TOKEN_CONTROL,
                                            TOKEN_ADDED, TOKEN_UNUSED, TOKEN_BYTE};
    return type < sizeof kinds / sizeof *kinds ? kinds[type] : TOKEN_TEXT;
}

/* kind, pre, bos, eos, unknown, add_bos, add_eos, add_space_prefix, tokens, merges. */
static void read_list(struct vocab *vocab, const char *path)
{
    struct err err = {0};
    uint32_t len, other;
    FILE *f = fopen(path, "rb");
    if (!f)
        stop(path);
    vocab->kind = read_u32(f);
    char *pre = read_text(f, &len);
    const struct pretokenizer_known *known = pretokenizer_find(pre, len);
    if (vocab->kind == VOCAB_BPE && !known)
        stop("unknown pre-tokenizer");
    vocab->rules.pre = known ? known->name : NULL;
    free(pre);
    vocab->bos = (int)read_u32(f);
    vocab->eos = (int)read_u32(f);
    vocab->unknown = (int)read_u32(f);
    vocab->add_bos = read_u32(f);
    vocab->add_eos = read_u32(f);
    vocab->rules.add_space_prefix = read_u32(f);
    vocab->rules.byte_fallback = true;
    uint32_t n_tokens = read_u32(f), n_merges = read_u32(f);
    for (uint32_t i = 0; i < n_tokens; i++) {
        char *text = read_text(f, &len);
        uint32_t type = read_u32(f);
        float score = read_float(f);
        if (vocab_add(vocab, text, len, kind_of(type), score, &err))
            stop(err.text);
        free(text);
    }
    for (uint32_t i = 0; i < n_merges; i++) {
        char *left = read_text(f, &len), *right = read_text(f, &other);
        if (vocab_add_merge(vocab, left, len, right, other, &err))
            stop(err.text);
        free(left);
        free(right);
    }
    fclose(f);
}

static void read_model(struct vocab *vocab, const char *path)
{
    struct source source;
    struct err err = {0};
    if (source_open(&source, path, &err) || source_vocab(&source, vocab, &err))
        stop(err.text);
    source_release(&source);
}

int main(int argc, char **argv)
{
    struct vocab vocab = {0};
    struct err err = {0};
    struct tokenizer *tokenizer;
    double seconds = 0, start = clock_seconds();
    uint32_t flags;
    if (argc != 3)
        stop("usage: tokenize_main json|list|model PATH");
    if (!strcmp(argv[1], "json")) {
        size_t len;
        char *text = read_file(argv[2], &len);
        if (tokenizer_json_parse(&vocab, text, len, argv[2], &err))
            stop(err.text);
        free(text);
    } else if (!strcmp(argv[1], "model")) {
        read_model(&vocab, argv[2]);
    } else {
        read_list(&vocab, argv[2]);
    }
    double parsed = clock_seconds();
    if (tokenizer_init(&tokenizer, &vocab, &err))
        stop(err.text);
    fprintf(stderr, "read %.3f s, made %.3f s\n", parsed - start, clock_seconds() - parsed);
    while (fread(&flags, sizeof flags, 1, stdin) == 1) {
        struct encode_options options = {.parse_special = flags & 1, .add_special = flags & 2};
        struct tokens tokens = {0};
        uint32_t len;
        char *text = read_text(stdin, &len);
        start = clock_seconds();
        if (tokenizer_encode(tokenizer, text, len, &options, &tokens, &err))
            stop(err.text);
        seconds += clock_seconds() - start;
        uint32_t n = (uint32_t)tokens.n;
        fwrite(&n, sizeof n, 1, stdout);
        fwrite(tokens.ids, sizeof *tokens.ids, tokens.n, stdout);
        free(tokens.ids);
        free(text);
    }
    fprintf(stderr, "encoded in %.3f s\n", seconds);
    tokenizer_free(tokenizer);
    return 0;
}
