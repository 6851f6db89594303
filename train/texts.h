/* Texts that heads on a frozen trunk are trained on, from a file of headway-write's. */
#ifndef TRAIN_TEXTS_H
#define TRAIN_TEXTS_H

#include "text/text_file.h"
#include "train/trainer.h"

struct texts {
    struct text_file file;
    struct sample *samples; /* (n) in the order of the file, those that were dropped left out */
    int n;
};

/* ERR_IO, ERR_MEMORY, ERR_INVALID: not such a file, of another vocabulary, or without a text. */
int texts_open(struct texts *texts, const char *path, int vocab, struct err *err);
void texts_release(struct texts *texts);

/* The n tokens that are learned most often, rising; all that are learned when they are fewer. ids
 * has room for n; their number goes to *found. ERR_MEMORY. */
int texts_draft_ids(const struct texts *texts, int n, int32_t *ids, int *found, struct err *err);

#endif
