/* What a trainer's heads are worth on text that they did not learn from: measured, and printed to
 * standard output and, as a line of JSON, to `log` unless that is NULL. mean: HEADS_MAX of them. */
#ifndef TRAIN_SCORES_H
#define TRAIN_SCORES_H

#include <stdio.h>

#include "train/corpus.h"
#include "train/texts.h"
#include "train/trainer.h"

/* Over windows spread evenly over a text of bytes, in whole batches; 0 windows: all. window: room
 * for context + N tokens. */
void scores_of_corpus(struct trainer *trainer, const struct corpus *text, int windows,
                      int32_t *window, struct head_score *mean);
void scores_print(FILE *log, int step, const struct head_score *mean, int n_predict);

/* Over the texts of heads on a frozen trunk, weighted by what is learned in them. What is printed:
 * how often each draft is right behind drafts that were, and how many tokens a forward of the trunk
 * would commit. */
void scores_of_texts(struct trainer *trainer, const struct texts *texts, struct head_score *mean);
void scores_print_texts(FILE *log, int step, const struct head_score *mean, int n_predict);

#endif
