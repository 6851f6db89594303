/* The steps of a tokenizer.json around its model: normalizer, pre_tokenizer, decoder and
 * post_processor. Used by tokenizer_json.c only. */
#ifndef TEXT_TOKENIZER_STEPS_H
#define TEXT_TOKENIZER_STEPS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/vocab.h"

struct tokenizer_steps {
    const char *where; /* the file's name */
    struct err *err;
    bool nfc;
    bool prepend;            /* a space mark before each text */
    bool replace;            /* spaces by marks */
    const json_t *metaspace; /* both, by a pre-tokenizer; borrowed */
    bool byte_level;
    bool split_at_space;    /* which finds none once they are replaced */
    struct buf expressions; /* as vocab_rules has them, without the last NUL */
};

/* Reads what the file's root says before a vocabulary is read. ERR_INVALID, ERR_MEMORY. */
int tokenizer_steps_read(struct tokenizer_steps *steps, const json_t *root);
/* Decides kind and rules of the vocabulary; takes the expressions over. */
int tokenizer_steps_apply(struct tokenizer_steps *steps, struct vocab *vocab);
/* bos and eos by post_processor, once the tokens are known. */
int tokenizer_steps_ends(struct tokenizer_steps *steps, const json_t *root, struct vocab *vocab);
void tokenizer_steps_release(struct tokenizer_steps *steps);

/* The string in a field, NULL when there is none. */
const char *json_text(const json_t *object, const char *field);
bool json_flag(const json_t *object, const char *field, bool otherwise);

#endif
