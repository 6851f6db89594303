/* Regular expressions of tokenizers are written for Oniguruma (Hugging Face). This rewrites them
 * for PCRE2 so that they match the same: another set of white space, of word characters, scripts
 * without their extensions, characters newer than the library's Unicode. What means something else
 * there and is not rewritten is refused by name. */
#ifndef TEXT_EXPRESSION_H
#define TEXT_EXPRESSION_H

#include "base/buf.h"
#include "base/err.h"

/* Appends the rewritten expression. ERR_INVALID, ERR_MEMORY. */
int expression_rewrite(const char *expression, struct buf *out, struct err *err);

#endif
