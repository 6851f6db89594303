/* The tokens of a model as its files list them: what a tokenizer is made from. Filled by whoever
 * reads the file (weights/ for GGUF, tokenizer_json.h for tokenizer.json) and taken over by
 * tokenizer_init. A zeroed struct is empty. One owner, one thread. */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* How text becomes tokens. */
enum vocab_kind {
    VOCAB_BYTES,        /* tokens 0..255 are the bytes */
    VOCAB_BPE,          /* byte-level BPE: pieces by expressions, then merges by rank */
    VOCAB_SENTENCEPIECE /* the whole text, merges by score, bytes as <0xHH> */
};

enum token_kind {
    TOKEN_TEXT,
    TOKEN_CONTROL, /* special: found only where special tokens are looked for; decodes to nothing */
    TOKEN_ADDED,   /* found whole in any text, and decodes to its text (user-defined) */
    TOKEN_BYTE,    /* of SentencePiece: one byte, written <0xHH> */
    TOKEN_UNKNOWN, /* stands for what no token covers */
    TOKEN_UNUSED
};

struct vocab_token {
    size_t text; /* offset into vocab.strings; byte-level BPE: as in the file, bytes mapped to
                    printable characters (GPT-2's table), but CONTROL and ADDED are plain text */
    uint32_t len;
    float score;         /* SentencePiece: higher merges first */
    uint8_t kind;        /* enum token_kind */
    bool lstrip, rstrip; /* CONTROL, ADDED: takes the white space before, behind it along */
    bool single_word;    /* only between characters that belong to no word */
    bool normalized;     /* sought in the normalised text, not in the text as it came */
};

struct vocab_merge {
    size_t text;                  /* offset into vocab.strings: left, then right */
    uint32_t left_len, right_len; /* bytes of each */
};

/* Changes to the text before tokens are sought. */
struct vocab_rules {
    const char *pre;   /* byte-level BPE: the expressions' name as GGUF's tokenizer.ggml.pre has it,
                          a literal of pretokenizer.h; NULL when `expressions` are given instead */
    char *expressions; /* NULL, or expressions of tokenizer.json, each ended by a NUL, a second NUL
                          behind the last; applied in order; owned. Each begins with a letter: i,
                          pieces are what matches and what is between; m, only what matches; g,
                          only what is between */
    bool nfc;          /* normalise to NFC (utf8proc) */
    bool ignore_merges;       /* a piece that is a token as it stands is that token */
    bool add_space_prefix;    /* SentencePiece: a space before the text */
    bool prefix_first_only;   /* but not behind special tokens */
    bool prefix_missing_only; /* but not when the text begins with one */
    bool split_words;   /* SentencePiece: every space begins a piece, nothing merges over it */
    bool byte_fallback; /* SentencePiece: what no token covers becomes bytes */
};

struct vocab {
    enum vocab_kind kind;
    struct buf strings; /* all texts, one after another */
    struct vocab_token *tokens;
    int n_tokens, room_tokens;
    struct vocab_merge *merges;
    int n_merges, room_merges;
    struct vocab_rules rules;
    int bos, eos, unknown; /* -1 for none */
    bool add_bos, add_eos; /* around a text that is a whole prompt */
    int32_t ends[16];      /* tokens that end an answer, eos among them */
    int n_ends;
};

/* SentencePiece with merges goes by their ranks (tokenizer.json), without by scores (GGUF). */

/* Appends a token (its id is the place) or a merge, copying the text. ERR_MEMORY. */
int vocab_add(struct vocab *vocab, const char *text, size_t len, enum token_kind kind, float score,
              struct err *err);
int vocab_add_merge(struct vocab *vocab, const char *left, size_t left_len, const char *right,
                    size_t right_len, struct err *err);
/* A token that ends an answer, unless it is one already. ERR_INVALID when there is no such token,
 * or too many ends; `where` names the file. */
int vocab_add_end(struct vocab *vocab, int token, const char *where, struct err *err);
void vocab_release(struct vocab *vocab);

/* The vocabulary of bytes, into a zeroed one: tokens 0..255, and <|end|>. bos, which is put before
 * every text, and eos: BYTE_TOKEN_END or -1. ERR_MEMORY. */
#define BYTE_TOKEN_END 256
#define BYTE_VOCAB 257
int vocab_bytes(struct vocab *vocab, int bos, int eos, struct err *err);

#endif
