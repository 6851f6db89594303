/* A model's own text: conversations that it holds with itself. Given its chat template up to where
 * a user would write, a chat model writes a user's question (Magpie, arXiv 2406.08464), which it
 * then answers. A model without a template writes on from an opening. Texts depend on the options
 * and the model alone, so that a run that was stopped goes on to the same file. */
#ifndef TRAIN_OWN_TEXT_H
#define TRAIN_OWN_TEXT_H

#include <stdbool.h>

#include "engine/engine.h"

struct own_text_options {
    const char *model, *out;
    const char *openings; /* JSON file, a list of strings that questions begin with, or NULL */
    const char *prompts; /* JSON file, a list of strings, the questions themselves, or NULL: then it
                            ends when all are answered */
    bool resume;         /* go on behind what stands in `out` */
    double tokens;       /* to write, what is in the file counted */
    int sequences;       /* written at the same time */
    int threads;
    const char *isa;
    int question, answer; /* tokens of one, at most */
    double spread;        /* temperature of questions */
    double temperature;   /* of answers that are sampled */
    double greedy;        /* part of the answers that are greedy */
    double opened;        /* part of the questions that begin with an opening */
    int seed;
    bool (*stop)(void); /* whether to end now; what is finished is in the file */
};

/* Reports to standard error as it goes. ERR_IO, ERR_INVALID, ERR_MEMORY. */
int own_text_write(const struct own_text_options *options, struct err *err);

#endif
