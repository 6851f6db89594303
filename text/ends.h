/* Tokens that end an answer, by name: files list one (eos), models use several. */
#ifndef TEXT_ENDS_H
#define TEXT_ENDS_H

#include <stdint.h>

#include "text/vocab.h"

#define ENDS_MOST 64

/* Writes those that the vocabulary lists, its eos and those known by name; returns how many. */
int ends_find(const struct vocab *vocab, int32_t ends[ENDS_MOST]);

#endif
