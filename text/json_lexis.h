/* What JSON is made of, as rules of an automaton: spaces, strings, numbers, and values of any kind.
 * A rule is drawn when it is first asked for. Spaces are bounded: none, one, or a line break with
 * an indentation, so that no model writes blanks for ever. Numbers are too: 18 digits before the
 * point, 17 behind it, an exponent of two. One owner, one thread. */
#ifndef TEXT_JSON_LEXIS_H
#define TEXT_JSON_LEXIS_H

#include "text/automaton.h"

enum json_word {
    JSON_SPACE,   /* between tokens */
    JSON_CHAR,    /* one character of a string, escaped or not */
    JSON_TEXT,    /* a string with its quotes */
    JSON_WHOLE,   /* a number without fraction and exponent */
    JSON_DECIMAL, /* any number */
    JSON_ANY,     /* any value */
    JSON_OBJECT_ANY,
    JSON_ARRAY_ANY,
    JSON_WORDS
};

struct json_lexis {
    struct automaton_draft *draft;
    int rule[JSON_WORDS]; /* its number + 1; 0: not drawn yet */
};

/* Draws one of them behind `from` and returns the state behind it. */
int32_t json_lexis_draw(struct json_lexis *lexis, enum json_word word, int32_t from);
/* The same for bytes as they stand, and for an expression of our own (regex.h); json: as in a
 * string. */
int32_t json_lexis_text(struct json_lexis *lexis, const char *text, int32_t from);
int32_t json_lexis_regex(struct json_lexis *lexis, const char *expression, bool json, int32_t from);

#endif
