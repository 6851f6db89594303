/* params.json of Meta's releases, the multi-token one among them (Gloeckle et al. 2024), to struct
 * config. The file has no hidden size: it follows from dim by a rule of the release's code, and is
 * held against the tensors, as are the numbers of layers and heads. Untrusted; any thread. */
#ifndef WEIGHTS_META_CONFIG_H
#define WEIGHTS_META_CONFIG_H

#include <stddef.h>

#include "base/err.h"
#include "weights/config.h"
#include "weights/torch_file.h"

struct meta_config {
    int dim;        /* D */
    int n_layers;   /* heads' layers included: the trunk has n_layers - n_predict */
    int n_heads;    /* H */
    int n_kv_heads; /* G */
    int hidden;     /* F, by the rule */
    int vocab;      /* V; -1: as many as tok_embeddings has rows */
    int n_predict;  /* n_future_tokens; 1 without */
    int context;    /* max_seq_len; 4096 without, as the releases were trained with */
    float norm_eps, rope_theta;
};

/* FOLDER/params.json. ERR_IO, ERR_INVALID, ERR_MEMORY. */
int meta_config_read(struct meta_config *meta, const char *folder, struct err *err);
/* The same from text in memory; `where` names it in errors. */
int meta_config_parse(struct meta_config *meta, const char *text, size_t size, const char *where,
                      struct err *err);

/* Fills *config, checked, for a release with these tensors: parallel heads of one layer, no tokens
 * for beginning and end, which are the tokenizer's. ERR_INVALID names the tensor, what the params
 * make of it, and what it is. */
int meta_config_fill(struct config *config, const struct meta_config *meta,
                     const struct torch_file *file, struct err *err);

#endif
