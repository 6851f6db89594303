/* Tokens that are found whole in a text before anything else is done with it: control tokens and
 * added ones. Leftmost first, of those the longest, as Hugging Face's tokenizers do. Immutable once
 * made; any thread. */
#ifndef TEXT_SPECIAL_H
#define TEXT_SPECIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/tokenizer.h"

struct special {
    const char *text; /* borrowed */
    uint32_t len;
    int32_t id;
    bool added; /* found where special tokens are not looked for as well */
    bool lstrip, rstrip, single_word;
};

struct special_set {
    struct special *list; /* owned; by text */
    int n;
    int first[257]; /* where the texts with that first byte begin */
};

/* Adds one, before special_sort. ERR_MEMORY. */
int special_add(struct special_set *set, const struct special *special, struct err *err);
/* Of several of one text the last added counts. */
void special_sort(struct special_set *set);
void special_release(struct special_set *set);

/* The token of exactly that text, NULL for none. */
const struct special *special_get(const struct special_set *set, const char *text, size_t len);

/* What of a text may be special: a text's own ranges may be further along in a larger one. */
struct special_scope {
    bool parse;
    const struct text_range *literal;
    size_t n_literal;
    size_t offset; /* of the text in that to which the ranges belong */
};

/* Where the search stands; zeroed at a text's start. */
struct special_cursor {
    size_t from;     /* the search goes on here */
    size_t text_end; /* up to here the text is dealt with */
};

struct special_match {
    size_t begin, end; /* with the white space that it takes along; the text goes on at end */
    int32_t id;
};

/* The next one, false at the end. */
bool special_next(const struct special_set *set, const char *text, size_t len,
                  const struct special_scope *scope, struct special_cursor *cursor,
                  struct special_match *match);

/* Whether any byte of begin..end lies in one of the literal ranges. */
bool special_touches(const struct special_scope *scope, size_t begin, size_t end);

#endif
