/* The merges of a vocabulary file as a table of pairs of tokens. */
#ifndef TEXT_MERGE_LIST_H
#define TEXT_MERGE_LIST_H

#include <stdbool.h>

#include "text/merge.h"
#include "text/vocab.h"

/* Ranks are the merges' places. What is no token, or becomes none, cannot be merged and is left
 * out; where that is most of them, vocabulary and merges don't belong together: ERR_INVALID.
 * `byte_level`: their texts are written in GPT-2's characters, those of `texts` are bytes. */
int merge_list_read(struct pair_table *pairs, const struct vocab *vocab,
                    const struct text_map *texts, bool byte_level, struct err *err);

#endif
