/* Hugging Face folders as models: config.json, safetensors, tokenizer.json, tokenizer_config.json,
 * chat_template.jinja. Names of tensors: transformers' LlamaForCausalLM and its relatives; those of
 * prediction heads: Fast-LLM's mtp_llama, MiMo's mtp_layers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/hf_config.h"
#include "weights/shards.h"
#include "weights/source_backends.h"
#include "weights/vocab_files.h"

struct hf_folder {
    struct hf_config config;
    struct shards shards;
    float rope_factors[HEAD_DIM_MAX / 2];
};

/* ---- tensors ---- */

static const char *const names[ROLES] = {
    [ROLE_EMBED] = "model.embed_tokens.weight",
    [ROLE_NORM] = "model.norm.weight",
    [ROLE_OUTPUT] = "lm_head.weight",
    [ROLE_ATTN_NORM] = "input_layernorm.weight",
    [ROLE_WQ] = "self_attn.q_proj.weight",
    [ROLE_WK] = "self_attn.k_proj.weight",
    [ROLE_WV] = "self_attn.v_proj.weight",
    [ROLE_WO] = "self_attn.o_proj.weight",
    [ROLE_FFN_NORM] = "post_attention_layernorm.weight",
    [ROLE_W1] = "mlp.gate_proj.weight",
    [ROLE_W3] = "mlp.up_proj.weight",
    [ROLE_W2] = "mlp.down_proj.weight",
    [ROLE_BQ] = "self_attn.q_proj.bias",
    [ROLE_BK] = "self_attn.k_proj.bias",
    [ROLE_BV] = "self_attn.v_proj.bias",
    [ROLE_Q_NORM] = "self_attn.q_norm.weight",
    [ROLE_K_NORM] = "self_attn.k_norm.weight",
};

const char *hf_layer_name(enum role role)
{
    return role_of_layer(role) ? names[role] : NULL;
}

/* Below model.mtp_layers.0 of MiMo, beside a layer as the trunk's. */
static const char *const mimo_names[ROLES] = {
    [ROLE_HEAD_STATE_NORM] = "hidden_layernorm.weight",
    [ROLE_HEAD_TOKEN_NORM] = "token_layernorm.weight",
    [ROLE_HEAD_PROJECT] = "input_proj.weight",
    [ROLE_HEAD_NORM] = "final_layernorm.weight",
};

/* Head 0's layer continues the trunk's; the norms of all heads are listed apart. */
static void tensor_name(const struct source *source, const struct place *place, char *name,
                        size_t size)
{
    const char *last = names[place->role];
    if (place->head >= 0 && source->config.kind == HEAD_RECURRENT)
        snprintf(name, size, "model.mtp_layers.0.%s", last ? last : mimo_names[place->role]);
    else if (place->role == ROLE_HEAD_NORM)
        snprintf(name, size, "model.mtp_norms.%d.weight", place->head);
    else if (!role_of_layer(place->role))
        snprintf(name, size, "%s", last ? last : "?");
    else if (place->head > 0)
        snprintf(name, size, "model.mtp_heads.%d.%s", place->head - 1, last);
    else
        snprintf(name, size, "model.layers.%d.%s",
                 place->head < 0 ? place->layer : source->config.n_layers, last);
}

static int find(const struct source *source, const struct place *place, int n_dims,
                const size_t *shape, struct matrix *m, struct err *err)
{
    const struct hf_folder *model = source->data;
    char name[96];
    if (place->role == ROLE_ROPE_FACTORS) {
        *m = (struct matrix){.name = "rope_scaling",
                             .data = (const unsigned char *)model->rope_factors,
                             .rows = 1,
                             .inputs = shape[0]};
        return 0;
    }
    tensor_name(source, place, name, sizeof name);
    const struct tensor *t = shards_find(&model->shards, name);
    if (!t)
        return err_set(err, ERR_INVALID, "%s: tensor '%s' is missing", model->shards.path, name);
    int rc = matrix_of_tensor(m, t, n_dims, model->shards.path, err);
    if (!rc && role_rotated(place->role))
        m->half_split = source->config.head_dim;
    return rc;
}

/* ---- shape ---- */

static float rope_factor(const struct rope *rope, int pair, int head_dim)
{
    double frequency = pow((double)rope->theta, -2.0 * pair / head_dim);
    double length = 2 * M_PI / frequency, original = rope->original_context;
    double factor = (double)rope->factor, low = (double)rope->low_freq_factor;
    double high = (double)rope->high_freq_factor;
    if (rope->scaling == ROPE_LINEAR || length > original / low)
        return (float)factor;
    if (length < original / high)
        return 1;
    double smooth = (original / length - low) / (high - low);
    return (float)(1 / ((1 - smooth) / factor + smooth));
}

static int fill_config(struct source *source, struct err *err)
{
    struct hf_folder *m = source->data;
    const struct hf_config *from = &m->config;
    bool heads = from->model == HF_MTP_LLAMA, mimo = from->model == HF_MIMO && from->n_predict > 1;
    source->config = (struct config){.dim = from->dim,
                                     .n_layers = from->n_layers - heads,
                                     .n_heads = from->n_heads,
                                     .n_kv_heads = from->n_kv_heads,
                                     .head_dim = from->head_dim,
                                     .hidden = from->hidden,
                                     .vocab = from->vocab,
                                     .context = from->context,
                                     .norm_eps = from->norm_eps,
                                     .rope_theta = from->rope.theta,
                                     .tied = from->tied,
                                     .qkv_bias = from->qkv_bias,
                                     .qk_norm = from->qk_norm,
                                     .rope_factors = from->rope.scaling != ROPE_NONE,
                                     .head_norms = heads || mimo,
                                     .next_is_trunk = !heads,
                                     .first_token_zero = mimo,
                                     .kind = heads  ? HEAD_PARALLEL
                                             : mimo ? HEAD_RECURRENT
                                                    : HEAD_LINEAR,
                                     .n_predict = from->n_predict,
                                     .head_layers = heads || mimo,
                                     .bos = from->bos,
                                     .eos = from->n_eos ? from->eos[0] : -1};
    int rc = config_check(&source->config, err);
    if (rc)
        return err_prefix(err, rc, "%s/config.json", source->path);
    for (int i = 0; source->config.rope_factors && i < source->config.head_dim / 2; i++)
        m->rope_factors[i] = rope_factor(&from->rope, i, source->config.head_dim);
    return 0;
}

/* ---- tokens ---- */

static int vocab(const struct source *source, struct vocab *vocab, struct err *err)
{
    const struct hf_config *c = &((const struct hf_folder *)source->data)->config;
    bool found;
    int rc = vocab_files_read(vocab, source->path, &found, err);
    if (!rc && !found)
        rc = err_set(err, ERR_INVALID,
                     "%s: there is no tokenizer.json: save the tokenizer with transformers' "
                     "save_pretrained",
                     source->path);
    for (int i = 0; i < c->n_eos && !rc; i++)
        rc = vocab_add_end(vocab, c->eos[i], source->path, err);
    if (!rc && vocab->eos < 0 && c->n_eos)
        vocab->eos = c->eos[0];
    return rc;
}

static int chat_template(const struct source *source, struct buf *out, struct err *err)
{
    return template_files_read(out, source->path, err);
}

/* ---- life ---- */

static void rest(const struct source *source)
{
    const struct hf_folder *m = source->data;
    for (size_t i = 0; i < m->shards.n_files; i++)
        mapping_rest(&m->shards.files[i].mapping);
}

static void release(struct source *source)
{
    struct hf_folder *m = source->data;
    if (m)
        shards_release(&m->shards);
    free(m);
}

static const struct source_type type = {find, vocab, chat_template, rest, release, NULL};

int hf_source_open(struct source *source, struct err *err)
{
    struct hf_folder *m = calloc(1, sizeof *m);
    source->type = &type;
    source->data = m;
    if (!m)
        return err_set(err, ERR_MEMORY, "%s: no memory left", source->path);
    int rc = hf_config_read(&m->config, source->path, err);
    if (!rc)
        rc = fill_config(source, err);
    return rc ? rc : shards_open(&m->shards, source->path, err);
}
