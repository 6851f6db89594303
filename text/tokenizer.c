/* Tokenizers of every kind: what they share. A text is cut at special tokens, what is between is
 * normalised and encoded by the kind's algorithm. See tokenizer.h. */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/bpe.h"
#include "text/byte_level.h"
#include "text/ends.h"
#include "text/nfc.h"
#include "text/pretokenizer.h"
#include "text/sentencepiece.h"
#include "text/special.h"
#include "text/tokens.h"
#include "text/utf8.h"

#define TEXT_MOST ((size_t)1 << 28) /* bytes of one text: places in it are 32 bits */
#define SPECIAL_MOST 1024           /* bytes of one special token's text */

struct tokenizer {
    struct vocab vocab; /* without merges */
    struct token_bytes bytes;
    struct special_set specials;   /* sought in the text as it comes */
    struct special_set normalized; /* sought in the normalised text */
    bool nfc;
    struct pretokenizer pretokenizer; /* byte-level BPE */
    struct bpe bpe;
    struct sentencepiece sentencepiece;
    int32_t ends[ENDS_MOST];
    int n_ends;
};

/* ---- making ---- */

static const char *text_of(const struct vocab *vocab, int32_t id)
{
    return vocab->strings.data + vocab->tokens[id].text;
}

static int check_id(const struct vocab *vocab, int id, const char *what, struct err *err)
{
    if (id >= -1 && id < vocab->n_tokens)
        return 0;
    return err_set(err, ERR_INVALID, "tokenizer: the %s token is %d, but there are %d tokens", what,
                   id, vocab->n_tokens);
}

static int check(const struct vocab *vocab, struct err *err)
{
    int rc = check_id(vocab, vocab->bos, "bos", err);
    if (!rc)
        rc = check_id(vocab, vocab->eos, "eos", err);
    if (!rc)
        rc = check_id(vocab, vocab->unknown, "unknown", err);
    for (int i = 0; !rc && i < vocab->n_ends; i++)
        rc = check_id(vocab, vocab->ends[i] < 0 ? INT32_MAX : vocab->ends[i], "ending", err);
    if (rc)
        return rc;
    if (vocab->n_tokens < (vocab->kind == VOCAB_BYTES ? 256 : 1))
        return err_set(err, ERR_INVALID, "tokenizer: %d tokens are too few", vocab->n_tokens);
    if ((vocab->add_bos && vocab->bos < 0) || (vocab->add_eos && vocab->eos < 0))
        return err_set(err, ERR_INVALID,
                       "tokenizer: texts are to have a %s token, but none is named",
                       vocab->add_bos && vocab->bos < 0 ? "bos" : "eos");
    return 0;
}

/* Appends what a token decodes to. */
static void put_bytes(const struct vocab *vocab, int32_t id, struct buf *out)
{
    const struct vocab_token *token = &vocab->tokens[id];
    const char *text = text_of(vocab, id);
    size_t n = 0;
    if (vocab->kind == VOCAB_BYTES && id < 256) {
        char byte = (char)id;
        buf_append(out, &byte, 1);
    } else if (token->kind == TOKEN_ADDED) {
        buf_append(out, text, token->len);
    } else if (token->kind == TOKEN_BYTE) {
        char byte = (char)sentencepiece_byte(text, token->len);
        buf_append(out, &byte, 1);
    } else if (token->kind == TOKEN_TEXT && vocab->kind == VOCAB_BPE) {
        buf_reserve(out, token->len);
        if (!out->failed && byte_level_decode(text, token->len, out->data + out->len, &n))
            out->len += n;
        else
            buf_append(out, text, token->len);
    } else if (token->kind == TOKEN_TEXT) {
        for (size_t i = 0; i < token->len; i += n) {
            bool mark = token->len - i >= 3 && !memcmp(text + i, SPACE_MARK, 3);
            n = mark ? 3 : 1;
            buf_append(out, mark ? " " : text + i, 1);
        }
    }
}

static int make_bytes(struct tokenizer *t, struct err *err)
{
    int n = t->vocab.n_tokens;
    t->bytes.begins = mem_alloc(((size_t)n + 1) * sizeof *t->bytes.begins);
    buf_reserve(&t->bytes.bytes, t->vocab.strings.len + 256);
    for (int i = 0; t->bytes.begins && i < n; i++) {
        put_bytes(&t->vocab, i, &t->bytes.bytes);
        t->bytes.begins[i + 1] = (uint32_t)t->bytes.bytes.len;
    }
    if (!t->bytes.begins || t->bytes.bytes.failed)
        return err_set(err, ERR_MEMORY, "tokenizer: no memory left for %d tokens", n);
    return 0;
}

static int make_specials(struct tokenizer *t, struct err *err)
{
    const struct vocab *vocab = &t->vocab;
    for (int i = vocab->kind == VOCAB_BYTES ? 256 : 0; i < vocab->n_tokens; i++) {
        const struct vocab_token *token = &vocab->tokens[i];
        bool added = token->kind == TOKEN_ADDED;
        if (!token->len || !(added || token->kind == TOKEN_CONTROL || token->kind == TOKEN_UNKNOWN))
            continue;
        if (token->len > SPECIAL_MOST)
            return err_set(err, ERR_INVALID,
                           "tokenizer: special token %d has %u bytes, more than %d", i, token->len,
                           SPECIAL_MOST);
        struct special special = {text_of(vocab, i), token->len,        i, added, token->lstrip,
                                  token->rstrip,     token->single_word};
        bool late = token->normalized && vocab->kind == VOCAB_BPE;
        int rc = special_add(late ? &t->normalized : &t->specials, &special, err);
        if (rc)
            return rc;
    }
    special_sort(&t->specials);
    special_sort(&t->normalized);
    return 0;
}

/* Expressions by name or from tokenizer.json, and what a name implies. */
static int make_bpe(struct tokenizer *t, struct err *err)
{
    struct vocab_rules *rules = &t->vocab.rules;
    const char *expressions = rules->expressions;
    if (rules->pre) {
        const struct pretokenizer_known *known = pretokenizer_find(rules->pre, strlen(rules->pre));
        if (!known)
            return pretokenizer_refuse(rules->pre, strlen(rules->pre), err);
        t->nfc |= known->nfc;
        rules->ignore_merges |= known->ignore_merges;
        expressions = known->expressions;
    }
    if (!expressions)
        return err_set(err, ERR_INVALID, "tokenizer: the vocabulary names no pre-tokenizer");
    int rc = pretokenizer_init(&t->pretokenizer, expressions, err);
    return rc ? rc : bpe_init(&t->bpe, &t->vocab, &t->bytes, err);
}

static int make(struct tokenizer *t, struct err *err)
{
    int rc = check(&t->vocab, err);
    buf_reserve(&t->vocab.strings, 1); /* texts have an address even when all are empty */
    if (t->vocab.strings.failed)
        return err_set(err, ERR_MEMORY, "tokenizer: no memory left");
    t->nfc = t->vocab.rules.nfc;
    if (!rc && t->vocab.kind == VOCAB_SENTENCEPIECE) /* also checks byte tokens */
        rc = sentencepiece_init(&t->sentencepiece, &t->vocab, err);
    if (!rc)
        rc = make_bytes(t, err);
    if (!rc && t->vocab.kind == VOCAB_BPE)
        rc = make_bpe(t, err);
    if (!rc)
        rc = make_specials(t, err);
    if (rc)
        return rc;
    t->n_ends = ends_find(&t->vocab, t->ends);
    free(t->vocab.merges);
    t->vocab.merges = NULL;
    t->vocab.n_merges = t->vocab.room_merges = 0;
    return 0;
}

int tokenizer_init(struct tokenizer **tokenizer, struct vocab *vocab, struct err *err)
{
    *tokenizer = calloc(1, sizeof **tokenizer);
    if (!*tokenizer) {
        vocab_release(vocab);
        return err_set(err, ERR_MEMORY, "tokenizer: no memory left");
    }
    (*tokenizer)->vocab = *vocab;
    *vocab = (struct vocab){0};
    int rc = make(*tokenizer, err);
    if (rc) {
        tokenizer_free(*tokenizer);
        *tokenizer = NULL;
    }
    return rc;
}

void tokenizer_free(struct tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    vocab_release(&tokenizer->vocab);
    buf_release(&tokenizer->bytes.bytes);
    free(tokenizer->bytes.begins);
    special_release(&tokenizer->specials);
    special_release(&tokenizer->normalized);
    pretokenizer_release(&tokenizer->pretokenizer);
    bpe_release(&tokenizer->bpe);
    sentencepiece_release(&tokenizer->sentencepiece);
    free(tokenizer);
}

/* ---- encoding ---- */

/* Of one call. */
struct encoding {
    const struct tokenizer *t;
    struct tokens *tokens;
    struct merger merger;
};

static int encode_bytes(struct encoding *e, const char *text, size_t len, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < len; i++)
        rc = tokens_push(e->tokens, (unsigned char)text[i], err);
    return rc;
}

static int encode_piece(void *context, const char *piece, size_t len, struct err *err)
{
    struct encoding *e = context;
    return bpe_encode(&e->t->bpe, &e->merger, piece, len, e->tokens, err);
}

/* What is not UTF-8 is no business of expressions: bytes that stand together are a piece. */
static int encode_bpe(struct encoding *e, const char *text, size_t len, struct err *err)
{
    int rc = 0;
    for (size_t at = 0; !rc && at < len;) {
        size_t valid = utf8_valid(text + at, len - at);
        if (valid)
            rc = pretokenizer_split(&e->t->pretokenizer, text + at, valid, encode_piece, e, err);
        at += valid;
        size_t invalid = utf8_invalid(text + at, len - at);
        if (!rc && invalid)
            rc = encode_piece(e, text + at, invalid, err);
        at += invalid;
    }
    return rc;
}

static int encode_text(struct encoding *e, const char *text, size_t len, bool first,
                       struct err *err)
{
    switch (e->t->vocab.kind) {
    case VOCAB_BYTES:
        return encode_bytes(e, text, len, err);
    case VOCAB_BPE:
        return encode_bpe(e, text, len, err);
    default:
        return sentencepiece_encode(&e->t->sentencepiece, &e->merger, text, len, first, e->tokens,
                                    err);
    }
}

/* The whole text or what special tokens leave of it: finds those of `set` and hands what is between
 * them to the next stage. */
static int encode_between(struct encoding *e, const struct special_set *set, const char *text,
                          size_t len, const struct special_scope *scope, struct err *err);

/* Text without the special tokens that are sought before normalising; `scope` is its own. */
static int encode_normalized(struct encoding *e, const char *text, size_t len,
                             const struct special_scope *scope, struct err *err)
{
    struct buf normal = {0};
    struct special_scope own = *scope;
    if (e->t->nfc && nfc_may_change(text, len)) {
        nfc_append(text, len, &normal);
        if (normal.failed)
            return err_set(err, ERR_MEMORY, "tokenizer: no memory left");
        if (normal.len != len || memcmp(normal.data, text, len)) {
            /* Places are no longer those of the literal ranges. */
            own.parse = own.parse && !special_touches(scope, 0, len);
            own.n_literal = 0;
        }
        text = normal.data;
        len = normal.len;
    }
    int rc = e->t->normalized.n ? encode_between(e, &e->t->normalized, text, len, &own, err)
                                : encode_text(e, text, len, scope->offset == 0, err);
    buf_release(&normal);
    return rc;
}

static int encode_between(struct encoding *e, const struct special_set *set, const char *text,
                          size_t len, const struct special_scope *scope, struct err *err)
{
    bool last = set == &e->t->normalized;
    struct special_cursor cursor = {0};
    struct special_match match;
    size_t done = 0;
    bool more = true;
    int rc = 0;
    while (!rc && more) {
        more = special_next(set, text, len, scope, &cursor, &match);
        if (!more)
            match.begin = len;
        struct special_scope between = *scope;
        between.offset += done;
        if (match.begin > done)
            rc = last ? encode_text(e, text + done, match.begin - done, between.offset == 0, err)
                      : encode_normalized(e, text + done, match.begin - done, &between, err);
        if (!rc && more)
            rc = tokens_push(e->tokens, match.id, err);
        if (more)
            done = match.end;
    }
    return rc;
}

int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t len,
                     const struct encode_options *options, struct tokens *tokens, struct err *err)
{
    struct encoding e = {.t = tokenizer, .tokens = tokens};
    struct special_scope scope = {options->parse_special, options->literal, options->n_literal, 0};
    int rc = 0;
    if (len > TEXT_MOST)
        return err_set(err, ERR_INVALID, "tokenizer: a text of %zu bytes is longer than %zu", len,
                       TEXT_MOST);
    if (options->add_special && tokenizer->vocab.add_bos)
        rc = tokens_push(tokens, tokenizer->vocab.bos, err);
    if (!rc)
        rc = encode_between(&e, &tokenizer->specials, text, len, &scope, err);
    if (!rc && options->add_special && tokenizer->vocab.add_eos)
        rc = tokens_push(tokens, tokenizer->vocab.eos, err);
    merger_release(&e.merger);
    return rc;
}

/* ---- decoding ---- */

static bool is_token(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->vocab.n_tokens;
}

/* SentencePiece has put it there. */
bool tokenizer_strips(const struct tokenizer *t, int32_t before)
{
    const struct vocab_rules *rules = &t->vocab.rules;
    if (t->vocab.kind != VOCAB_SENTENCEPIECE || !rules->add_space_prefix)
        return false;
    if (!is_token(t, before) || before == t->vocab.bos)
        return true;
    enum token_kind kind = t->vocab.tokens[before].kind;
    return !rules->prefix_first_only && (kind == TOKEN_CONTROL || kind == TOKEN_ADDED);
}

const char *tokenizer_bytes(const struct tokenizer *tokenizer, int32_t before, int32_t token,
                            size_t *len)
{
    *len = 0;
    if (!is_token(tokenizer, token))
        return "";
    uint32_t begin = tokenizer->bytes.begins[token], end = tokenizer->bytes.begins[token + 1];
    const char *bytes = tokenizer->bytes.bytes.data + begin;
    if (begin < end && tokenizer->vocab.tokens[token].kind == TOKEN_TEXT && *bytes == ' ' &&
        tokenizer_strips(tokenizer, before)) {
        bytes++;
        begin++;
    }
    *len = end - begin;
    return bytes;
}

const char *tokenizer_written(const struct tokenizer *tokenizer, int32_t token, size_t *len)
{
    *len = 0;
    if (!is_token(tokenizer, token))
        return "";
    enum token_kind kind = tokenizer->vocab.tokens[token].kind;
    bool byte = tokenizer->vocab.kind == VOCAB_BYTES && token < 256;
    if (!byte && (kind == TOKEN_CONTROL || kind == TOKEN_UNKNOWN || kind == TOKEN_UNUSED)) {
        *len = tokenizer->vocab.tokens[token].len;
        return text_of(&tokenizer->vocab, token);
    }
    uint32_t begin = tokenizer->bytes.begins[token];
    *len = tokenizer->bytes.begins[token + 1] - begin;
    return tokenizer->bytes.bytes.data + begin;
}

int32_t tokenizer_special(const struct tokenizer *tokenizer, const char *text, size_t len)
{
    const struct special *special = special_get(&tokenizer->specials, text, len);
    if (!special)
        special = special_get(&tokenizer->normalized, text, len);
    return special ? special->id : -1;
}

/* ---- facts ---- */

int tokenizer_vocab(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab.n_tokens;
}

int tokenizer_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab.bos;
}

int tokenizer_eos(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab.eos;
}

bool tokenizer_adds_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab.add_bos;
}

const int32_t *tokenizer_ends(const struct tokenizer *tokenizer, int *n)
{
    *n = tokenizer->n_ends;
    return tokenizer->ends;
}
