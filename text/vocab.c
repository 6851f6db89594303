/* Growing lists of tokens and merges. */
#include "text/vocab.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Texts are addressed by 32 bits once a tokenizer is made of them. */
#define STRINGS_MOST ((size_t)1 << 31)

static int no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, "vocabulary: no memory left");
}

static int keep(struct vocab *vocab, const char *text, size_t len, struct err *err)
{
    if (len > STRINGS_MOST || vocab->strings.len > STRINGS_MOST - len)
        return err_set(err, ERR_INVALID, "vocabulary: texts of more than %zu bytes together",
                       STRINGS_MOST);
    buf_append(&vocab->strings, text, len);
    return vocab->strings.failed ? no_memory(err) : 0;
}

/* Room for one more of n elements of `size` bytes. */
static int grow(void **list, int n, int *room, size_t size, struct err *err)
{
    if (n < *room)
        return 0;
    if (*room > INT_MAX / 2)
        return err_set(err, ERR_INVALID, "vocabulary: more than %d entries", *room);
    int more = *room ? *room * 2 : 256;
    void *grown = realloc(*list, (size_t)more * size);
    if (!grown)
        return no_memory(err);
    *list = grown;
    *room = more;
    return 0;
}

int vocab_add(struct vocab *vocab, const char *text, size_t len, enum token_kind kind, float score,
              struct err *err)
{
    size_t at = vocab->strings.len;
    int rc = grow((void **)&vocab->tokens, vocab->n_tokens, &vocab->room_tokens,
                  sizeof *vocab->tokens, err);
    if (!rc)
        rc = keep(vocab, text, len, err);
    if (!rc)
        vocab->tokens[vocab->n_tokens++] = (struct vocab_token){
            .text = at, .len = (uint32_t)len, .score = score, .kind = (uint8_t)kind};
    return rc;
}

int vocab_add_merge(struct vocab *vocab, const char *left, size_t left_len, const char *right,
                    size_t right_len, struct err *err)
{
    size_t at = vocab->strings.len;
    int rc = grow((void **)&vocab->merges, vocab->n_merges, &vocab->room_merges,
                  sizeof *vocab->merges, err);
    if (!rc)
        rc = keep(vocab, left, left_len, err);
    if (!rc)
        rc = keep(vocab, right, right_len, err);
    if (!rc)
        vocab->merges[vocab->n_merges++] =
            (struct vocab_merge){at, (uint32_t)left_len, (uint32_t)right_len};
    return rc;
}

void vocab_release(struct vocab *vocab)
{
    buf_release(&vocab->strings);
    free(vocab->tokens);
    free(vocab->merges);
    free(vocab->rules.expressions);
    memset(vocab, 0, sizeof *vocab);
}

int vocab_bytes(struct vocab *vocab, int bos, int eos, struct err *err)
{
    int rc = 0;
    for (int i = 0; i < 256 && !rc; i++)
        rc = vocab_add(vocab, &(char){(char)i}, 1, TOKEN_TEXT, 0, err);
    if (!rc)
        rc = vocab_add(vocab, "<|end|>", 7, TOKEN_CONTROL, 0, err);
    vocab->kind = VOCAB_BYTES;
    vocab->bos = bos;
    vocab->eos = eos;
    vocab->unknown = -1;
    vocab->add_bos = bos >= 0;
    if (eos >= 0)
        vocab->ends[vocab->n_ends++] = eos;
    return rc;
}

int vocab_add_end(struct vocab *vocab, int token, const char *where, struct err *err)
{
    const int most = sizeof vocab->ends / sizeof *vocab->ends;
    if (token < 0 || token >= vocab->n_tokens)
        return err_set(err, ERR_INVALID,
                       "%s: token %d is to end a text, but there are only %d tokens", where, token,
                       vocab->n_tokens);
    for (int i = 0; i < vocab->n_ends; i++)
        if (vocab->ends[i] == token)
            return 0;
    if (vocab->n_ends == most)
        return err_set(err, ERR_INVALID, "%s: more than %d tokens are to end a text", where, most);
    vocab->ends[vocab->n_ends++] = token;
    return 0;
}
