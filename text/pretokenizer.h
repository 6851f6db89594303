/* Cutting text into pieces before merging: regular expressions, applied in order, each to the
 * pieces of the one before. Immutable once made; any thread. */
#ifndef TEXT_PRETOKENIZER_H
#define TEXT_PRETOKENIZER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "text/vocab.h"

#define PRETOKENIZER_STEPS 12

/* A digit as Hugging Face's step Digits sees it: by Rust's tables, which are of Unicode 17. */
#define PRETOKENIZER_DIGIT "[\\p{N}\\x{11DE0}-\\x{11DE9}\\x{16FF4}-\\x{16FF6}]"

/* What GGUF's tokenizer.ggml.pre means. */
struct pretokenizer_known {
    const char *name;
    const char *expressions; /* as vocab_rules.expressions */
    bool nfc;
    bool ignore_merges;
    bool add_bos; /* where the file doesn't say */
};

/* NULL for a name that is not known. */
const struct pretokenizer_known *pretokenizer_find(const char *name, size_t len);
/* ERR_INVALID with the sentence for such a name, which lists those that are. */
int pretokenizer_refuse(const char *name, size_t len, struct err *err);

struct pretokenizer {
    struct pretokenizer_step {
        struct pcre2_real_code_8 *code;
        char keep; /* the letter of vocab_rules.expressions */
    } steps[PRETOKENIZER_STEPS];
    int n;
};

/* ERR_INVALID for expressions that don't compile or are too many; ERR_MEMORY. */
int pretokenizer_init(struct pretokenizer *pretokenizer, const char *expressions, struct err *err);
void pretokenizer_release(struct pretokenizer *pretokenizer);

/* What is done with a piece; other results than 0 end the splitting. */
typedef int piece_function(void *context, const char *piece, size_t len, struct err *err);

/* Calls `function` for the pieces of a text, which is UTF-8, in order. ERR_INVALID when an
 * expression gave up (PCRE2's limits), ERR_MEMORY, or what `function` returned. */
int pretokenizer_split(const struct pretokenizer *pretokenizer, const char *text, size_t len,
                       piece_function *function, void *context, struct err *err);

#endif
