/* The tokens and the chat template of a GGUF file. */
#include <string.h>

#include "text/pretokenizer.h"
#include "weights/vocab_files.h"

int gguf_get_token(const struct gguf *g, const char *key, int *token, struct err *err)
{
    int64_t x = -1;
    bool found;
    int rc = gguf_get_int(g, key, &x, &found, err);
    /* Files write -1, or its 32 unsigned bits, for none. */
    *token = x >= 0 && x < INT32_MAX ? (int)x : -1;
    return rc;
}

/* Some files list the marks between messages as user-defined, which would make them marks in
 * anyone's text: what looks like one is control. */
static enum token_kind kind_of(enum token_kind kind, const char *text, size_t len)
{
    static const char *const marks[] = {"</s>",   "<s>",     "<start_of_turn>", "<end_of_turn>",
                                        "[INST]", "[/INST]", "<eos>",           "<bos>"};
    if (kind != TOKEN_ADDED)
        return kind;
    if (len > 4 && !memcmp(text, "<|", 2) && !memcmp(text + len - 2, "|>", 2))
        return TOKEN_CONTROL;
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (strlen(marks[i]) == len && !memcmp(marks[i], text, len))
            return TOKEN_CONTROL;
    return kind;
}

static int read_tokens(const struct gguf *g, struct vocab *vocab, struct err *err)
{
    /* llama.cpp's numbers, from 0: undefined, normal, unknown, control, user-defined, unused, byte
     */
    static const enum token_kind kinds[] = {TOKEN_TEXT,  TOKEN_TEXT,   TOKEN_UNKNOWN, TOKEN_CONTROL,
                                            TOKEN_ADDED, TOKEN_UNUSED, TOKEN_BYTE};
    struct gguf_items tokens, types = {0}, scores = {0};
    bool has_types, has_scores;
    int rc;
    if ((rc = gguf_get_items(g, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, NULL, err)) ||
        (rc = gguf_get_items(g, "tokenizer.ggml.token_type", GGUF_I32, &types, &has_types, err)) ||
        (rc = gguf_get_items(g, "tokenizer.ggml.scores", GGUF_F32, &scores, &has_scores, err)))
        return rc;
    if ((has_types && types.n != tokens.n) || (has_scores && scores.n != tokens.n))
        return err_set(err, ERR_INVALID, "%s: there are %zu tokens, %zu types and %zu scores",
                       g->path, tokens.n, types.n, scores.n);
    for (size_t i = 0; i < tokens.n && !rc; i++) {
        size_t len;
        double kind = has_types ? gguf_next_number(&types) : 1;
        const char *text = gguf_next_string(&tokens, &len);
        float score = has_scores ? (float)gguf_next_number(&scores) : 0;
        if (!(kind >= 0 && kind < sizeof kinds / sizeof *kinds))
            rc = err_set(err, ERR_INVALID, "%s: token %zu is of type %.0f, which GGUF has not",
                         g->path, i, kind);
        else
            rc = vocab_add(vocab, text, len, kinds[(int)kind], score, err);
    }
    return rc;
}

static int read_merges(const struct gguf *g, struct vocab *vocab, struct err *err)
{
    struct gguf_items merges;
    int rc = gguf_get_items(g, "tokenizer.ggml.merges", GGUF_STRING, &merges, NULL, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < merges.n && !rc; i++) {
        size_t len;
        const char *text = gguf_next_string(&merges, &len);
        /* A space parts left and right; the left one may begin with a space of its own. */
        const char *space = len > 1 ? memchr(text + 1, ' ', len - 1) : NULL;
        if (!space)
            return err_set(err, ERR_INVALID, "%s: merge %zu, '%.*s', has no space in it", g->path,
                           i, len < 60 ? (int)len : 60, text);
        size_t left = (size_t)(space - text);
        rc = vocab_add_merge(vocab, text, left, space + 1, len - left - 1, err);
    }
    return rc;
}

static int read_flag(const struct gguf *g, const char *key, bool otherwise, bool *out,
                     struct err *err)
{
    bool found;
    *out = otherwise;
    return gguf_get_bool(g, key, out, &found, err);
}

/* Files without a name come from before there were names, and mean GPT-2's expressions. */
static int read_pre(const struct gguf *g, struct vocab *vocab, struct err *err)
{
    const char *pre = "default";
    size_t len = strlen(pre);
    bool found;
    int rc = gguf_get_string(g, "tokenizer.ggml.pre", &pre, &len, &found, err);
    if (rc)
        return rc;
    const struct pretokenizer_known *known = pretokenizer_find(pre, len);
    if (!known)
        return err_prefix(err, pretokenizer_refuse(pre, len, err), "%s", g->path);
    vocab->rules.pre = known->name;
    vocab->rules.nfc = known->nfc;
    vocab->rules.ignore_merges = known->ignore_merges;
    vocab->add_bos = known->add_bos;
    return 0;
}

static int add_end(const struct gguf *g, const char *key, struct vocab *vocab, struct err *err)
{
    int token, rc = gguf_get_token(g, key, &token, err);
    return rc || token < 0 ? rc : vocab_add_end(vocab, token, g->path, err);
}

int gguf_vocab(const struct gguf *g, struct vocab *vocab, struct err *err)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    const char *model;
    size_t len;
    int rc = gguf_get_string(g, "tokenizer.ggml.model", &model, &len, NULL, err);
    if (rc)
        return rc;
    bool bpe = len == 4 && !memcmp(model, "gpt2", 4);
    if (!bpe && !(len == 5 && !memcmp(model, "llama", 5)))
        return err_set(
            err, ERR_INVALID,
            "%s: tokenizers of the kind '%.*s' are not supported yet: gpt2 and llama are", g->path,
            len < 60 ? (int)len : 60, model);
    vocab->kind = bpe ? VOCAB_BPE : VOCAB_SENTENCEPIECE;
    vocab->rules.byte_fallback = !bpe;
    if ((rc = read_tokens(g, vocab, err)) || (bpe && (rc = read_merges(g, vocab, err))) ||
        (bpe && (rc = read_pre(g, vocab, err))) ||
        (rc = gguf_get_token(g, "tokenizer.ggml.bos_token_id", &vocab->bos, err)) ||
        (rc = gguf_get_token(g, "tokenizer.ggml.eos_token_id", &vocab->eos, err)) ||
        (rc = gguf_get_token(g, "tokenizer.ggml.unknown_token_id", &vocab->unknown, err)) ||
        (rc = read_flag(g, "tokenizer.ggml.add_bos_token", !bpe || vocab->add_bos, &vocab->add_bos,
                        err)) ||
        (rc = read_flag(g, "tokenizer.ggml.add_eos_token", false, &vocab->add_eos, err)) ||
        (rc = read_flag(g, "tokenizer.ggml.add_space_prefix", !bpe, &vocab->rules.add_space_prefix,
                        err)))
        return rc;
    for (size_t i = 0; i < sizeof ends / sizeof *ends && !rc; i++)
        rc = add_end(g, ends[i], vocab, err);
    return rc;
}

int gguf_template(const struct gguf *g, struct buf *out, struct err *err)
{
    const char *text;
    size_t len;
    bool found;
    int rc = gguf_get_string(g, "tokenizer.chat_template", &text, &len, &found, err);
    if (!rc && found)
        buf_append(out, text, len);
    return rc;
}
