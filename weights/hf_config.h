/* config.json of Hugging Face's transformers: the shape of a model by the architectures that are
 * supported, in the general form that covers them. It stands apart from struct config, which says
 * what this program can run. Defaults are those of transformers' classes for each model_type; what
 * would change the result and is not supported is refused by name. An untrusted file: each field
 * is held to a type and a range, so that later code may multiply shapes. Any thread. */
#ifndef WEIGHTS_HF_CONFIG_H
#define WEIGHTS_HF_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "weights/hf_rope.h"

enum hf_model { HF_LLAMA, HF_MISTRAL, HF_QWEN2, HF_QWEN3, HF_MTP_LLAMA, HF_MIMO, HF_MODELS };

#define HF_EOS_MAX 16

struct hf_config {
    enum hf_model model;
    int dim;        /* D */
    int n_layers;   /* as the file says: of HF_MTP_LLAMA the last is head 1 */
    int n_heads;    /* H */
    int n_kv_heads; /* G, divides H */
    int head_dim;   /* K, even; not always D / H */
    int hidden;     /* F */
    int vocab;      /* V */
    int context;    /* max_position_embeddings */
    float norm_eps;
    struct rope rope;
    bool tied;                  /* lm_head is the embedding */
    bool qkv_bias;              /* q_proj, k_proj and v_proj have biases, o_proj has none */
    bool qk_norm;               /* q_norm and k_norm (K) on each head before it is rotated */
    int n_predict;              /* prediction_heads of HF_MTP_LLAMA; 1 or 2 of HF_MIMO; else 1 */
    int bos;                    /* -1 for none */
    int eos[HF_EOS_MAX], n_eos; /* each ends a text; generation_config.json's too */
};

/* Reads FOLDER/config.json, and FOLDER/generation_config.json if it is there. ERR_IO, ERR_INVALID,
 * ERR_MEMORY. */
int hf_config_read(struct hf_config *config, const char *folder, struct err *err);

/* The same from text in memory; `where` names it in errors. */
int hf_config_parse(struct hf_config *config, const char *text, size_t size, const char *where,
                    struct err *err);
/* Adds the ends of text in a generation_config.json; takes its bos_token_id if config has none. */
int hf_config_add_generation(struct hf_config *config, const char *text, size_t size,
                             const char *where, struct err *err);

const char *hf_model_name(enum hf_model model); /* "llama", as model_type says */

#endif
