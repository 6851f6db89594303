/* Byte-level BPE: see bpe.h. */
#include "text/bpe.h"

#include <string.h>

#include "text/byte_level.h"
#include "text/merge_list.h"
#include "text/tokens.h"

/* Puts the tokens of one kind into the map that are written in GPT-2's characters. */
static int map_kind(struct bpe *bpe, const struct vocab *vocab, const struct token_bytes *bytes,
                    enum token_kind kind, struct err *err)
{
    struct buf room = {0};
    int rc = 0;
    for (int i = 0; !rc && i < vocab->n_tokens; i++) {
        const struct vocab_token *token = &vocab->tokens[i];
        uint32_t begin = bytes->begins[i], len = bytes->begins[i + 1] - begin;
        size_t n;
        if (token->kind != kind || !len)
            continue;
        room.len = 0;
        buf_reserve(&room, token->len);
        if (room.failed)
            rc = err_set(err, ERR_MEMORY, "tokenizer: no memory left");
        else if (byte_level_decode(vocab->strings.data + token->text, token->len, room.data, &n) &&
                 n == len && !memcmp(room.data, bytes->bytes.data + begin, len))
            text_map_set(&bpe->texts, begin, len, i);
    }
    buf_release(&room);
    return rc;
}

/* Text never becomes control tokens, however it reads. Added tokens may be results of merges as
 * well; they stand back behind plain ones of the same text. */
static int map_texts(struct bpe *bpe, const struct vocab *vocab, const struct token_bytes *bytes,
                     struct err *err)
{
    int rc = text_map_init(&bpe->texts, (size_t)vocab->n_tokens, bytes->bytes.data, err);
    if (!rc)
        rc = map_kind(bpe, vocab, bytes, TOKEN_ADDED, err);
    return rc ? rc : map_kind(bpe, vocab, bytes, TOKEN_TEXT, err);
}

int bpe_init(struct bpe *bpe, const struct vocab *vocab, const struct token_bytes *bytes,
             struct err *err)
{
    /* A control token for a byte that is missing would be one that any text can call for. */
    bool usable = !vocab->rules.pre && vocab->unknown >= 0 &&
                  vocab->tokens[vocab->unknown].kind != TOKEN_CONTROL;
    *bpe = (struct bpe){.ignore_merges = vocab->rules.ignore_merges,
                        .unknown = usable ? vocab->unknown : -1};
    int rc = map_texts(bpe, vocab, bytes, err), found = 0;
    if (rc)
        return rc;
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        bpe->byte_ids[i] = text_map_find(&bpe->texts, &byte, 1);
        found += bpe->byte_ids[i] >= 0;
    }
    if (!found)
        return err_set(err, ERR_INVALID,
                       "tokenizer: none of %d tokens is a single byte as byte-level BPE writes it",
                       vocab->n_tokens);
    return merge_list_read(&bpe->rules.pairs, vocab, &bpe->texts, true, err);
}

void bpe_release(struct bpe *bpe)
{
    text_map_release(&bpe->texts);
    pair_table_release(&bpe->rules.pairs);
    memset(bpe, 0, sizeof *bpe);
}

int bpe_encode(const struct bpe *bpe, struct merger *merger, const char *piece, size_t len,
               struct tokens *tokens, struct err *err)
{
    int32_t whole = bpe->ignore_merges ? text_map_find(&bpe->texts, piece, len) : -1;
    if (whole >= 0)
        return tokens_push(tokens, whole, err);
    struct part *parts = merger_parts(merger, len);
    if (!parts)
        return err_set(err, ERR_MEMORY, "tokenizer: no memory left for a piece of %zu bytes", len);
    int n = 0, rc = 0;
    for (size_t i = 0; i < len; i++) {
        int32_t id = bpe->byte_ids[(unsigned char)piece[i]];
        if (id < 0)
            id = bpe->unknown;
        if (id >= 0)
            parts[n++] = (struct part){.id = id, .begin = (uint32_t)i};
    }
    parts[n] = (struct part){.id = -1, .begin = (uint32_t)len};
    n = merge_parts(&bpe->rules, merger, piece, parts, n);
    for (int i = 0; !rc && i < n; i++)
        rc = tokens_push(tokens, parts[i].id, err);
    return rc;
}
