/* A template's source to lexemes: text between tags, and what stands in them. White space is taken
 * off around tags here (trim_blocks, lstrip_blocks, "-" and "+"), as Jinja's lexer does it;
 * comments and raw blocks end here too. Called by the parser only. */
#ifndef TEXT_TEMPLATE_LEX_H
#define TEXT_TEMPLATE_LEX_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/template_pool.h"

enum lexeme_kind {
    LEX_END, /* of the template; the last lexeme, always there */
    LEX_DATA,
    LEX_PRINT_BEGIN,
    LEX_PRINT_END,
    LEX_TAG_BEGIN,
    LEX_TAG_END,
    LEX_NAME,
    LEX_STRING,
    LEX_INT,
    LEX_FLOAT,
    LEX_ADD,
    LEX_SUB,
    LEX_MUL,
    LEX_DIV,
    LEX_FLOORDIV,
    LEX_MOD,
    LEX_POW,
    LEX_TILDE,
    LEX_EQ,
    LEX_NE,
    LEX_LT,
    LEX_LE,
    LEX_GT,
    LEX_GE,
    LEX_ASSIGN,
    LEX_DOT,
    LEX_COMMA,
    LEX_COLON,
    LEX_SEMICOLON,
    LEX_PIPE,
    LEX_LPAREN,
    LEX_RPAREN,
    LEX_LBRACKET,
    LEX_RBRACKET,
    LEX_LBRACE,
    LEX_RBRACE,
    LEX_IN, /* never lexed: the parser's names for two operators that are words */
    LEX_NOT_IN,
};

struct lexeme {
    enum lexeme_kind kind;
    int line;
    const char *text; /* NAME, DATA; STRING with its escapes resolved; in the pool or the source */
    size_t len;
    int64_t integer;
    double real;
};

/* The lexemes of a source that must outlive them. ERR_INVALID names the line; ERR_MEMORY. */
int lex_template(struct pool *pool, const char *source, size_t len, struct lexeme **lexemes,
                 struct err *err);

/* How a lexeme is written, for messages. */
const char *lex_written(enum lexeme_kind kind);

#endif
