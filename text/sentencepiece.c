/* SentencePiece: see sentencepiece.h. */
#include "text/sentencepiece.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/merge_list.h"
#include "text/tokens.h"
#include "text/utf8.h"

#define MARK_LEN 3

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

int sentencepiece_byte(const char *text, size_t len)
{
    if (len != 6 || memcmp(text, "<0x", 3) || text[5] != '>' || hex(text[3]) < 0 ||
        hex(text[4]) < 0)
        return -1;
    return hex(text[3]) * 16 + hex(text[4]);
}

static bool is_mark(const char *text, size_t len)
{
    return len >= MARK_LEN && !memcmp(text, SPACE_MARK, MARK_LEN);
}

/* Where the next word begins: a mark that follows something else, or with `every` any mark. */
static size_t word_end(const char *text, size_t len, bool every)
{
    for (size_t i = 1; i < len; i++) {
        if (text[i] != SPACE_MARK[0] || !is_mark(text + i, len - i))
            continue;
        if (every || i < MARK_LEN || !is_mark(text + i - MARK_LEN, MARK_LEN))
            return i;
    }
    return len;
}

static int map_tokens(struct sentencepiece *sp, const struct vocab *vocab, struct err *err)
{
    int rc = text_map_init(&sp->texts, (size_t)vocab->n_tokens, vocab->strings.data, err);
    sp->cut_at_spaces = true;
    memset(sp->byte_ids, 0xff, sizeof sp->byte_ids);
    for (int i = 0; !rc && i < vocab->n_tokens; i++) {
        const struct vocab_token *token = &vocab->tokens[i];
        const char *text = vocab->strings.data + token->text;
        if (token->kind == TOKEN_BYTE) {
            int byte = sentencepiece_byte(text, token->len);
            if (byte < 0)
                return err_set(err, ERR_INVALID,
                               "tokenizer: byte token %d is '%.*s' instead of <0xHH>", i,
                               (int)(token->len < 40 ? token->len : 40), text);
            sp->byte_ids[byte] = i;
        } else if (token->kind == TOKEN_TEXT && token->len) {
            text_map_set(&sp->texts, (uint32_t)token->text, token->len, i);
            sp->cut_at_spaces &= word_end(text, token->len, false) == token->len;
        }
    }
    sp->all_bytes = vocab->rules.byte_fallback;
    for (int i = 0; i < 256; i++)
        sp->all_bytes &= sp->byte_ids[i] >= 0;
    return rc;
}

struct scored {
    float score;
    int32_t id;
};

static int compare_scores(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

/* Tokens of one score have one rank: the leftmost pair then merges. */
static int rank_scores(struct sentencepiece *sp, const struct vocab *vocab, struct err *err)
{
    size_t n = (size_t)vocab->n_tokens;
    struct scored *scores = mem_alloc(n * sizeof *scores);
    sp->ranks = mem_alloc(n * sizeof *sp->ranks);
    if (!scores || !sp->ranks) {
        free(scores);
        return err_set(err, ERR_MEMORY, "tokenizer: no memory left");
    }
    for (size_t i = 0; i < n; i++) {
        float score = vocab->tokens[i].score;
        scores[i] = (struct scored){isnan(score) ? -INFINITY : score, (int32_t)i};
    }
    qsort(scores, n, sizeof *scores, compare_scores);
    uint32_t rank = 0;
    for (size_t i = 0; i < n; i++) {
        rank += i && scores[i].score != scores[i - 1].score;
        sp->ranks[scores[i].id] = rank;
    }
    free(scores);
    return 0;
}

int sentencepiece_init(struct sentencepiece *sp, const struct vocab *vocab, struct err *err)
{
    *sp = (struct sentencepiece){.unknown = vocab->unknown, .how = vocab->rules};
    int rc = map_tokens(sp, vocab, err);
    if (rc)
        return rc;
    if (vocab->n_merges)
        return merge_list_read(&sp->rules.pairs, vocab, &sp->texts, false, err);
    rc = rank_scores(sp, vocab, err);
    sp->rules.texts = &sp->texts;
    sp->rules.ranks = sp->ranks;
    return rc;
}

void sentencepiece_release(struct sentencepiece *sp)
{
    text_map_release(&sp->texts);
    pair_table_release(&sp->rules.pairs);
    free(sp->ranks);
    memset(sp, 0, sizeof *sp);
}

/* The text as SentencePiece sees it. */
static void write_spaces(const struct sentencepiece *sp, const char *text, size_t len, bool first,
                         struct buf *out)
{
    bool begins = text[0] == ' ' || is_mark(text, len);
    buf_reserve(out, len + MARK_LEN);
    if (sp->how.add_space_prefix && (first || !sp->how.prefix_first_only) &&
        !(begins && sp->how.prefix_missing_only))
        buf_append(out, SPACE_MARK, MARK_LEN);
    for (const char *end = text + len, *space; text < end; text = space) {
        space = memchr(text, ' ', (size_t)(end - text));
        if (!space)
            space = end;
        buf_append(out, text, (size_t)(space - text));
        for (; space < end && *space == ' '; space++)
            buf_append(out, SPACE_MARK, MARK_LEN);
    }
}

/* What is no token: bytes, or the unknown token, of which there is one for what stands together. */
static int push_bytes(const struct sentencepiece *sp, const char *bytes, size_t len,
                      struct tokens *tokens, struct err *err)
{
    int rc = 0;
    if (!sp->all_bytes)
        return sp->unknown < 0 || (tokens->n && tokens->ids[tokens->n - 1] == sp->unknown)
                   ? 0
                   : tokens_push(tokens, sp->unknown, err);
    for (size_t i = 0; !rc && i < len; i++)
        rc = tokens_push(tokens, sp->byte_ids[(unsigned char)bytes[i]], err);
    return rc;
}

static int encode_piece(const struct sentencepiece *sp, struct merger *merger, const char *piece,
                        size_t len, struct tokens *tokens, struct err *err)
{
    struct part *parts = merger_parts(merger, len);
    if (!parts)
        return err_set(err, ERR_MEMORY, "tokenizer: no memory left for a piece of %zu bytes", len);
    int n = 0, rc = 0;
    for (size_t i = 0, length; i < len; i += length) {
        int whole = utf8_decode(piece + i, len - i, NULL);
        length = whole > 0 ? (size_t)whole : 1;
        parts[n++] =
            (struct part){.id = text_map_find(&sp->texts, piece + i, length), .begin = (uint32_t)i};
    }
    parts[n] = (struct part){.id = -1, .begin = (uint32_t)len};
    n = merge_parts(&sp->rules, merger, piece, parts, n);
    for (int i = 0; !rc && i < n; i++) {
        const struct part *part = &parts[i];
        rc = part->id >= 0
                 ? tokens_push(tokens, part->id, err)
                 : push_bytes(sp, piece + part->begin, part[1].begin - part->begin, tokens, err);
    }
    return rc;
}

int sentencepiece_encode(const struct sentencepiece *sp, struct merger *merger, const char *text,
                         size_t len, bool first, struct tokens *tokens, struct err *err)
{
    struct buf written = {0};
    int rc = 0;
    if (len)
        write_spaces(sp, text, len, first, &written);
    if (written.failed)
        rc = err_set(err, ERR_MEMORY, "tokenizer: no memory left for a text of %zu bytes", len);
    for (size_t at = 0, end; !rc && at < written.len; at = end) {
        end = written.len;
        if (sp->cut_at_spaces || sp->how.split_words)
            end = at + word_end(written.data + at, written.len - at, sp->how.split_words);
        rc = encode_piece(sp, merger, written.data + at, end - at, tokens, err);
    }
    buf_release(&written);
    return rc;
}
