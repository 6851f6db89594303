/* Chat templates: conversations to the text that a model was trained on, by an interpreter for the
 * part of Jinja that models' templates use. Templates are untrusted: parsing and rendering have
 * limits on size, depth, steps and output. A template is immutable once parsed; any thread. */
#ifndef TEXT_TEMPLATE_H
#define TEXT_TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/tokenizer.h"

struct template;

/* ERR_INVALID names line and what was expected, or what is not supported. ERR_MEMORY. */
int template_parse(struct template **template, const char *source, size_t len, struct err *err);
void template_free(struct template *template); /* NULL is allowed */

/* What a template sees. Borrowed. */
struct template_input {
    const json_t *messages; /* array of objects */
    const json_t *tools;    /* array, or NULL: undefined in the template, unless extra has them (as
                               null: none, which is what transformers passes) */
    const json_t *extra;    /* object whose fields are further variables, or NULL */
    bool add_generation_prompt;
    const char *bos_token, *eos_token; /* written out; NULL: empty */
    time_t now;                        /* of strftime_now */
};

/* The text, and which of its bytes came out of messages, tools or extra: their special tokens are
 * text (encode_options.literal). A zeroed struct is empty. */
struct rendered {
    struct buf text;
    struct text_range *literal; /* rising and apart; owned */
    size_t n_literal;
};

/* ERR_INVALID with what raise_exception said, or which limit or operation failed at which line;
 * ERR_MEMORY. */
int template_render(const struct template *template, const struct template_input *input,
                    struct rendered *rendered, struct err *err);
void rendered_release(struct rendered *rendered);

#endif
