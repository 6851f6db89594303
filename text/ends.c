/* Names of tokens that end an answer, as llama.cpp gathered them from models. */
#include "text/ends.h"

#include <stdbool.h>
#include <string.h>

static const char *const names[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<end_of_turn>",
    "<turn|>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<eos>",
    "<|end_of_text|>",
    "<end_of_utterance>",
    ("<\xef\xbd\x9c"
     "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"), /* DeepSeek */
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
};

static bool is(const struct vocab *vocab, int32_t id, const char *name)
{
    const struct vocab_token *token = &vocab->tokens[id];
    return token->len == strlen(name) &&
           !memcmp(vocab->strings.data + token->text, name, token->len);
}

static bool is_named(const struct vocab *vocab, int32_t id)
{
    if (vocab->tokens[id].kind != TOKEN_CONTROL && vocab->tokens[id].kind != TOKEN_ADDED)
        return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is(vocab, id, names[i]))
            return true;
    return false;
}

static int place(const struct vocab *vocab, const int32_t *ends, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (is(vocab, ends[i], name))
            return i;
    return -1;
}

static void add(int32_t *ends, int *n, int32_t id)
{
    for (int i = 0; i < *n; i++)
        if (ends[i] == id)
            return;
    if (*n < ENDS_MOST)
        ends[(*n)++] = id;
}

int ends_find(const struct vocab *vocab, int32_t ends[ENDS_MOST])
{
    int n = 0, listed;
    for (int i = 0; i < vocab->n_ends; i++)
        add(ends, &n, vocab->ends[i]);
    if (vocab->eos >= 0)
        add(ends, &n, vocab->eos);
    listed = n;
    for (int i = 0; i < vocab->n_tokens; i++)
        if (is_named(vocab, i))
            add(ends, &n, i);
    /* Where answers have parts, <|end|> ends a part. */
    int end = place(vocab, ends, n, "<|end|>");
    bool parts =
        place(vocab, ends, n, "<|return|>") >= 0 || place(vocab, ends, n, "<|flush|>") >= 0;
    bool calls = place(vocab, ends, n, "<|call|>") >= 0 || place(vocab, ends, n, "<|calls|>") >= 0;
    if (end >= listed && parts && calls)
        ends[end] = ends[--n];
    return n;
}
