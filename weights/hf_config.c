/* Hugging Face's config.json: see hf_config.h. */
#include "weights/hf_config.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "weights/config.h"
#include "weights/file.h"
#include "weights/json_field.h"

#define CONFIG_BYTES_MAX ((size_t)1 << 20)
#define AS_HEADS 0

/* What transformers' configuration classes give fields that are absent. */
static const struct model {
    const char *type, *architecture;
    int context, n_kv_heads, head_dim; /* AS_HEADS: n_heads; 0: dim / n_heads */
    int sliding_window;                /* 0 for none */
    int bos, eos;                      /* -1 for none */
    bool qkv_bias, qk_norm;
} models[HF_MODELS] = {
    [HF_LLAMA] = {"llama", "LlamaForCausalLM", 2048, AS_HEADS, 0, 0, 1, 2, false, false},
    [HF_MISTRAL] = {"mistral", "MistralForCausalLM", 131072, 8, 0, 4096, 1, 2, false, false},
    [HF_QWEN2] = {"qwen2", "Qwen2ForCausalLM", 32768, 32, 0, 4096, -1, -1, true, false},
    [HF_QWEN3] = {"qwen3", "Qwen3ForCausalLM", 32768, 32, 128, 4096, -1, -1, false, true},
    [HF_MTP_LLAMA] = {"mtp_llama", "MTPLlamaForCausalLM", 2048, AS_HEADS, 0, 0, 1, 2, false, false},
    [HF_MIMO] = {"mimo", "MiMoForCausalLM", 32768, 32, 0, 4096, -1, -1, true, false},
};
#define MODEL_NAMES "llama, mistral, qwen2, qwen3, mtp_llama, mimo"

const char *hf_model_name(enum hf_model model)
{
    return (unsigned)model < HF_MODELS ? models[model].type : "unknown";
}

/* ---- which model ---- */

/* By model_type, or, where that is absent, by architecture. */
static int read_model(const json_t *root, struct hf_config *c, struct err *err)
{
    const char *type = NULL;
    char wanted[120];
    int rc = json_field_string(root, "model_type", &type, err);
    if (rc)
        return rc;
    const json_t *list = json_object_get(root, "architectures");
    const char *architecture = json_string_value(json_array_get(list, 0));
    if (!type && !architecture)
        return err_set(err, ERR_INVALID,
                       "fields 'model_type' and 'architectures' are missing: it is not a model's "
                       "config of transformers");
    for (int i = 0; i < HF_MODELS; i++) {
        if (strcmp(type ? type : architecture, type ? models[i].type : models[i].architecture))
            continue;
        if (architecture &&
            (strcmp(architecture, models[i].architecture) || json_array_size(list) != 1)) {
            snprintf(wanted, sizeof wanted, "[\"%s\"] for a model of type %s",
                     models[i].architecture, models[i].type);
            return json_mistyped("architectures", list, wanted, err);
        }
        c->model = (enum hf_model)i;
        return 0;
    }
    return json_mistyped(type ? "model_type" : "architectures",
                         type ? json_field(root, "model_type") : list,
                         "of a model that is supported: " MODEL_NAMES, err);
}

/* ---- shape ---- */

static int missing(const char *name, struct err *err)
{
    return err_set(err, ERR_INVALID, "field '%s' is missing", name);
}

static int read_shape(const json_t *root, struct hf_config *c, struct err *err)
{
    const struct model *m = &models[c->model];
    const struct {
        const char *name;
        int min, max, *out, otherwise; /* 0: it must be there */
    } fields[] = {
        {"hidden_size", 16, 16384, &c->dim, 0},
        {"num_hidden_layers", 1, 512, &c->n_layers, 0},
        {"num_attention_heads", 1, 256, &c->n_heads, 0},
        {"intermediate_size", 16, 65536, &c->hidden, 0},
        {"vocab_size", 2, 1048576, &c->vocab, 0},
        {"max_position_embeddings", 2, 1048576, &c->context, m->context},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        *fields[i].out = fields[i].otherwise;
        int rc =
            json_field_int(root, fields[i].name, fields[i].min, fields[i].max, fields[i].out, err);
        if (!rc && !*fields[i].out)
            rc = missing(fields[i].name, err);
        if (rc)
            return rc;
    }
    /* null is the number of heads, whatever the default is */
    c->n_kv_heads = m->n_kv_heads && !json_is_null(json_object_get(root, "num_key_value_heads"))
                        ? m->n_kv_heads
                        : c->n_heads;
    int rc = json_field_int(root, "num_key_value_heads", 1, 256, &c->n_kv_heads, err);
    if (!rc && c->n_heads % c->n_kv_heads)
        rc = err_set(err, ERR_INVALID,
                     "field 'num_key_value_heads' is %d, but must divide num_attention_heads (%d)",
                     c->n_kv_heads, c->n_heads);
    return rc;
}

static int read_head_dim(const json_t *root, struct hf_config *c, struct err *err)
{
    c->head_dim = models[c->model].head_dim;
    int rc = json_field_int(root, "head_dim", 2, HEAD_DIM_MAX, &c->head_dim, err);
    if (rc)
        return rc;
    if (!c->head_dim && c->dim % c->n_heads)
        return err_set(err, ERR_INVALID,
                       "field 'hidden_size' is %d, but must be a multiple of num_attention_heads "
                       "(%d), as there is no head_dim",
                       c->dim, c->n_heads);
    if (!c->head_dim)
        c->head_dim = c->dim / c->n_heads;
    if (c->head_dim % 2 || c->head_dim > HEAD_DIM_MAX)
        return err_set(err, ERR_INVALID,
                       "a head has %d values (head_dim, or hidden_size / num_attention_heads), but "
                       "must have an even number of at most %d",
                       c->head_dim, HEAD_DIM_MAX);
    return 0;
}

/* ---- what is not supported ---- */

static int refuse_true(const json_t *root, const char *name, const char *why, struct err *err)
{
    bool on = false;
    int rc = json_field_bool(root, name, &on, err);
    return rc || !on ? rc
                     : err_set(err, ERR_INVALID, "field '%s' is true: %s not supported", name, why);
}

static int refuse_sliding_window(const json_t *root, struct hf_config *c, struct err *err)
{
    bool qwen = c->model == HF_QWEN2 || c->model == HF_QWEN3 || c->model == HF_MIMO;
    bool used = !qwen;
    int window = models[c->model].sliding_window, first = qwen ? 28 : 0;
    if (json_is_null(json_object_get(root, "sliding_window")))
        window = 0;
    int rc = window ? json_field_int(root, "sliding_window", 1, INT32_MAX, &window, err) : 0;
    if (!rc && qwen)
        rc = json_field_bool(root, "use_sliding_window", &used, err);
    if (!rc && qwen)
        rc = json_field_int(root, "max_window_layers", 0, INT32_MAX, &first, err);
    if (!rc && used && window && window < c->context && first < c->n_layers)
        rc = err_set(err, ERR_INVALID,
                     "sliding window of %d is not supported yet; without it the model is good for "
                     "%d positions: set sliding_window to null and max_position_embeddings to %d",
                     window, window, window);
    const json_t *layers = json_object_get(root, "layer_types");
    for (size_t i = 0; i < json_array_size(layers) && !rc; i++) {
        const json_t *type = json_array_get(layers, i);
        if (!json_is_string(type) || strcmp(json_string_value(type), "full_attention"))
            rc = json_mistyped("layer_types", type,
                               "full_attention in every layer: others are not supported yet", err);
    }
    return rc;
}

static int refuse_unsupported(const json_t *root, struct hf_config *c, struct err *err)
{
    const char *act = "silu", *method = "unknown";
    const json_t *quantization;
    int rc = json_field_string(root, "hidden_act", &act, err);
    if (!rc && strcmp(act, "silu"))
        rc = err_set(err, ERR_INVALID, "field 'hidden_act' is '%.40s', but only silu is supported",
                     act);
    if (!rc)
        rc = json_field_object(root, "quantization_config", &quantization, err);
    if (!rc && quantization) {
        rc = json_field_string(quantization, "quant_method", &method, err);
        if (!rc)
            rc = err_set(err, ERR_INVALID,
                         "field 'quantization_config': weights quantised by '%.40s' are not "
                         "supported: use the model as it was before, in bf16, f16 or f32",
                         method);
    }
    /* the others have no such fields: transformers looks at them no more than we do */
    bool llama = c->model == HF_LLAMA || c->model == HF_MTP_LLAMA;
    if (!rc && (llama || c->model == HF_QWEN3))
        rc = refuse_true(root, "attention_bias",
                         "biases in all projections of attention, its output too, are", err);
    if (!rc && llama)
        rc = refuse_true(root, "mlp_bias", "biases in the feed-forward layers are", err);
    return rc ? rc : refuse_sliding_window(root, c, err);
}

/* ---- tokens ---- */

static int add_eos(struct hf_config *c, const json_t *value, struct err *err)
{
    json_int_t id = json_integer_value(value);
    char wanted[80];
    if (!json_is_integer(value) || id < 0 || id >= c->vocab) {
        snprintf(wanted, sizeof wanted, "a token from 0 to %d, or a list of some", c->vocab - 1);
        return json_mistyped("eos_token_id", value, wanted, err);
    }
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] == id)
            return 0;
    if (c->n_eos == HF_EOS_MAX)
        return err_set(err, ERR_INVALID, "field 'eos_token_id' has more than %d tokens",
                       HF_EOS_MAX);
    c->eos[c->n_eos++] = (int)id;
    return 0;
}

static int read_eos(const json_t *root, struct hf_config *c, struct err *err)
{
    const json_t *value = json_field(root, "eos_token_id");
    if (!value)
        return 0;
    if (!json_is_array(value))
        return add_eos(c, value, err);
    int rc = 0;
    for (size_t i = 0; i < json_array_size(value) && !rc; i++)
        rc = add_eos(c, json_array_get(value, i), err);
    return rc;
}

static int read_tokens(const json_t *root, struct hf_config *c, struct err *err)
{
    const struct model *m = &models[c->model];
    c->bos = json_object_get(root, "bos_token_id") || m->bos >= c->vocab ? -1 : m->bos;
    int rc = json_field_int(root, "bos_token_id", 0, c->vocab - 1, &c->bos, err);
    if (rc)
        return rc;
    if (!json_object_get(root, "eos_token_id") && m->eos >= 0 && m->eos < c->vocab)
        c->eos[c->n_eos++] = m->eos;
    return read_eos(root, c, err);
}

/* ---- reading ---- */

static int read_fields(const json_t *root, struct hf_config *c, struct err *err)
{
    int rc = read_model(root, c, err);
    if (!rc)
        rc = read_shape(root, c, err);
    if (!rc)
        rc = read_head_dim(root, c, err);
    if (!rc)
        rc = refuse_unsupported(root, c, err);
    if (!rc)
        rc = hf_rope_read(&c->rope, root, c->context, err);
    if (!rc)
        rc = read_tokens(root, c, err);
    c->norm_eps = 1e-6f;
    c->n_predict = 1;
    if (!rc)
        rc = json_field_real(root, "rms_norm_eps", 0, 0.1, &c->norm_eps, err);
    if (!rc)
        rc = json_field_bool(root, "tie_word_embeddings", &c->tied, err);
    if (!rc && c->model == HF_MTP_LLAMA)
        rc = json_field_int(root, "prediction_heads", 1, HEADS_MAX, &c->n_predict, err);
    int layers = 0;
    if (!rc && c->model == HF_MIMO) /* more would be layers of their own: no such model is known */
        rc = json_field_int(root, "num_nextn_predict_layers", 0, 1, &layers, err);
    c->n_predict += layers;
    c->qkv_bias = models[c->model].qkv_bias;
    c->qk_norm = models[c->model].qk_norm;
    return rc;
}

int hf_config_parse(struct hf_config *config, const char *text, size_t size, const char *where,
                    struct err *err)
{
    json_t *root;
    *config = (struct hf_config){0};
    int rc = json_parse_object(text, size, where, &root, err);
    if (rc)
        return rc;
    rc = read_fields(root, config, err);
    json_decref(root);
    return rc ? err_prefix(err, rc, "%s", where) : 0;
}

int hf_config_add_generation(struct hf_config *config, const char *text, size_t size,
                             const char *where, struct err *err)
{
    json_t *root;
    int rc = json_parse_object(text, size, where, &root, err);
    if (rc)
        return rc;
    if (config->bos < 0)
        rc = json_field_int(root, "bos_token_id", 0, config->vocab - 1, &config->bos, err);
    if (!rc)
        rc = read_eos(root, config, err);
    json_decref(root);
    return rc ? err_prefix(err, rc, "%s", where) : 0;
}

/* FOLDER/NAME; a file that need not be there may be absent. */
static int read_text(const char *folder, const char *name, bool needed, struct buf *text,
                     char **path, struct err *err)
{
    *path = file_join(folder, name);
    if (!*path)
        return err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    if (!needed && access(*path, F_OK))
        return 0;
    return file_read(text, *path, CONFIG_BYTES_MAX, err);
}

int hf_config_read(struct hf_config *config, const char *folder, struct err *err)
{
    struct buf text = {0}, generation = {0};
    char *path = NULL, *generation_path = NULL;
    *config = (struct hf_config){0};
    int rc = read_text(folder, "config.json", true, &text, &path, err);
    if (!rc)
        rc = hf_config_parse(config, text.data ? text.data : "", text.len, path, err);
    if (!rc)
        rc = read_text(folder, "generation_config.json", false, &generation, &generation_path, err);
    if (!rc && generation.len)
        rc =
            hf_config_add_generation(config, generation.data, generation.len, generation_path, err);
    buf_release(&text);
    buf_release(&generation);
    free(path);
    free(generation_path);
    return rc;
}
