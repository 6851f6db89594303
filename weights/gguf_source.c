/* GGUF files as models: the architectures llama, qwen2 and qwen3. Names of keys and tensors:
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and llama.cpp's llama-arch.cpp. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/gguf.h"
#include "weights/source_backends.h"
#include "weights/vocab_files.h"

/* In an architecture's files queries and keys are rotated in halves, or, permuted, in adjacent
 * pairs. */
static const struct arch {
    const char *name;
    bool half_split;
} arches[] = {{"llama", false}, {"qwen2", true}, {"qwen3", true}};

struct gguf_model {
    struct gguf gguf;
    const struct arch *arch;
    float rope_scaling; /* what all frequencies of rotation are divided by */
    float rope_factors[HEAD_DIM_MAX / 2];
};

/* ---- tensors ---- */

static const char *const names[ROLES] = {
    [ROLE_EMBED] = "token_embd.weight",
    [ROLE_NORM] = "output_norm.weight",
    [ROLE_OUTPUT] = "output.weight",
    [ROLE_ROPE_FACTORS] = "rope_freqs.weight",
    [ROLE_ATTN_NORM] = "blk.%d.attn_norm.weight",
    [ROLE_WQ] = "blk.%d.attn_q.weight",
    [ROLE_WK] = "blk.%d.attn_k.weight",
    [ROLE_WV] = "blk.%d.attn_v.weight",
    [ROLE_WO] = "blk.%d.attn_output.weight",
    [ROLE_FFN_NORM] = "blk.%d.ffn_norm.weight",
    [ROLE_W1] = "blk.%d.ffn_gate.weight",
    [ROLE_W3] = "blk.%d.ffn_up.weight",
    [ROLE_W2] = "blk.%d.ffn_down.weight",
    [ROLE_BQ] = "blk.%d.attn_q.bias",
    [ROLE_BK] = "blk.%d.attn_k.bias",
    [ROLE_BV] = "blk.%d.attn_v.bias",
    [ROLE_Q_NORM] = "blk.%d.attn_q_norm.weight",
    [ROLE_K_NORM] = "blk.%d.attn_k_norm.weight",
    /* of a prediction head, which is a layer behind the trunk's */
    [ROLE_HEAD_STATE_NORM] = "blk.%d.nextn.hnorm.weight",
    [ROLE_HEAD_TOKEN_NORM] = "blk.%d.nextn.enorm.weight",
    [ROLE_HEAD_PROJECT] = "blk.%d.nextn.eh_proj.weight",
    [ROLE_HEAD_NORM] = "blk.%d.nextn.shared_head_norm.weight",
};

/* names[role] with the layer's number in it. */
static void layer_name(enum role role, int layer, char *name, size_t size)
{
    if (!strncmp(names[role], "blk.", 4))
        snprintf(name, size, "blk.%d%s", layer, names[role] + strlen("blk.%d"));
    else
        snprintf(name, size, "%s", names[role]);
}

static const struct gguf_tensor *tensor(const struct gguf *g, enum role role, int layer, char *name,
                                        size_t size)
{
    layer_name(role, layer, name, size);
    return gguf_tensor(g, name);
}

static bool has_role(const struct config *c, enum role role)
{
    if (role == ROLE_BQ || role == ROLE_BK || role == ROLE_BV)
        return c->qkv_bias;
    if (role == ROLE_Q_NORM || role == ROLE_K_NORM)
        return c->qk_norm;
    if (role == ROLE_HEAD_NORM)
        return c->head_norms;
    return names[role] != NULL;
}

static bool is_read(const struct gguf_tensor *t, const struct config *c)
{
    char name[80];
    int layer = 0;
    sscanf(t->name, "blk.%d.", &layer);
    bool trunk = layer >= 0 && layer < c->n_layers;
    bool head = layer == c->n_layers && c->kind == HEAD_RECURRENT;
    for (int role = 0; role < ROLES; role++) {
        bool of_layer = role_of_layer((enum role)role), of_head = role >= ROLE_HEAD_LINEAR;
        if (!has_role(c, (enum role)role) || (of_layer && !trunk && !head) || (of_head && !head))
            continue;
        layer_name((enum role)role, layer, name, sizeof name);
        if (!strcmp(name, t->name))
            return true;
    }
    return false;
}

/* A tensor that nobody reads would be a part of the model that is missing from what it computes. */
static int refuse_unread(const struct gguf_model *m, const struct config *c, struct err *err)
{
    for (size_t i = 0; i < m->gguf.n_tensors; i++)
        if (!is_read(&m->gguf.tensors[i], c))
            return err_set(err, ERR_INVALID,
                           "%s: tensor '%s' belongs to no part of a %s model of %d layers that is "
                           "supported",
                           m->gguf.path, m->gguf.tensors[i].name, m->arch->name, c->n_layers);
    return 0;
}

static int find(const struct source *source, const struct place *place, int n_dims,
                const size_t *shape, struct matrix *m, struct err *err)
{
    const struct gguf_model *model = source->data;
    char name[80];
    place_name(place, name, sizeof name);
    if (place->role == ROLE_ROPE_FACTORS && model->rope_scaling != 1) {
        *m = (struct matrix){.name = "rope.scaling.factor",
                             .data = (const unsigned char *)model->rope_factors,
                             .rows = 1,
                             .inputs = shape[0]};
        return 0;
    }
    int layer = place->head < 0 ? place->layer : source->config.n_layers;
    const struct gguf_tensor *t =
        names[place->role] ? tensor(&model->gguf, place->role, layer, name, sizeof name) : NULL;
    if (!t)
        return err_set(err, ERR_INVALID, "%s: tensor '%s' is missing", source->path, name);
    int type = block_type_of_ggml(t->ggml_type);
    if (type < 0)
        return err_set(err, ERR_INVALID,
                       "%s: tensor '%s' is of type %s (%u), which is not supported yet",
                       source->path, t->name, block_ggml_name(t->ggml_type), t->ggml_type);
    if (t->n_dims != n_dims)
        return err_set(err, ERR_INVALID, "%s: tensor '%s' has %d dimensions, but must have %d",
                       source->path, t->name, t->n_dims, n_dims);
    *m = (struct matrix){.name = t->name,
                         .type = (enum weight_type)type,
                         .data = t->data,
                         .rows = n_dims == 2 ? t->shape[1] : 1,
                         .inputs = t->shape[0]};
    if (model->arch->half_split && role_rotated(place->role))
        m->half_split = source->config.head_dim;
    return 0;
}

/* ---- shape ---- */

/* "llama.block_count" for "block_count". */
static const char *key_of(const struct gguf_model *m, const char *name, char *key, size_t size)
{
    snprintf(key, size, "%s.%s", m->arch->name, name);
    return key;
}

static int get_int(const struct gguf_model *m, const char *name, int *out, bool needed,
                   struct err *err)
{
    char key[96];
    int64_t x = *out;
    bool found;
    int rc =
        gguf_get_int(&m->gguf, key_of(m, name, key, sizeof key), &x, needed ? NULL : &found, err);
    if (!rc && (x < INT32_MIN || x > INT32_MAX))
        rc = err_set(err, ERR_INVALID, "%s: '%s' is %jd, which is too large", m->gguf.path, key,
                     (intmax_t)x);
    *out = (int)x;
    return rc;
}

static int get_real(const struct gguf_model *m, const char *name, float *out, bool needed,
                    struct err *err)
{
    char key[96];
    double x = (double)*out;
    bool found;
    int rc =
        gguf_get_real(&m->gguf, key_of(m, name, key, sizeof key), &x, needed ? NULL : &found, err);
    *out = (float)x;
    return rc;
}

static int choose_arch(struct gguf_model *m, struct err *err)
{
    const char *name;
    size_t len;
    int rc = gguf_get_string(&m->gguf, "general.architecture", &name, &len, NULL, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof arches / sizeof *arches; i++)
        if (strlen(arches[i].name) == len && !memcmp(arches[i].name, name, len)) {
            m->arch = &arches[i];
            return 0;
        }
    return err_set(err, ERR_INVALID,
                   "%s: the architecture '%.*s' is not supported yet: llama, qwen2 and qwen3 are",
                   m->gguf.path, len < 60 ? (int)len : 60, name);
}

/* What the architectures may have and this program has not. */
static int refuse_unsupported(const struct gguf_model *m, int context, struct err *err)
{
    static const char *const counts[] = {"expert_count", "attention.sliding_window"};
    static const char *const words[] = {"%d experts", "a sliding window of %d"};
    char what[64];
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        int n = 0, rc = get_int(m, counts[i], &n, false, err);
        if (rc)
            return rc;
        if (n <= 0 || (i == 1 && n >= context))
            continue;
        snprintf(what, sizeof what, words[i], n);
        return err_set(err, ERR_INVALID, "%s: %s is not supported yet", m->gguf.path, what);
    }
    return 0;
}

/* As llama.cpp: without a type, scaling is linear; without a factor, or with 0, there is none.
 * Every frequency is divided by it. */
static int read_rope_scaling(struct gguf_model *m, struct err *err)
{
    char key[96];
    const char *type = "linear";
    size_t len = strlen(type);
    bool found;
    int rc = gguf_get_string(&m->gguf, key_of(m, "rope.scaling.type", key, sizeof key), &type, &len,
                             &found, err);
    bool none = len == 4 && !memcmp(type, "none", 4);
    if (!rc && !none && !(len == 6 && !memcmp(type, "linear", 6)))
        rc = err_set(err, ERR_INVALID, "%s: '%s' is '%.*s', which is not supported yet",
                     m->gguf.path, key, len < 60 ? (int)len : 60, type);
    m->rope_scaling = 0;
    if (!rc)
        rc = get_real(m, "rope.scale_linear", &m->rope_scaling, false, err);
    if (!rc)
        rc = get_real(m, "rope.scaling.factor", &m->rope_scaling, false, err);
    if (none || m->rope_scaling == 0)
        m->rope_scaling = 1;
    if (!rc && !(m->rope_scaling > 0 && m->rope_scaling <= 1e6f))
        rc = err_set(err, ERR_INVALID, "%s: '%s' is %g, but must be above 0 and at most 1e6",
                     m->gguf.path, key_of(m, "rope.scaling.factor", key, sizeof key),
                     (double)m->rope_scaling);
    if (!rc && m->rope_scaling != 1 && gguf_tensor(&m->gguf, names[ROLE_ROPE_FACTORS]))
        rc = err_set(err, ERR_INVALID, "%s: '%s' beside tensor '%s' is not supported yet",
                     m->gguf.path, key_of(m, "rope.scaling.factor", key, sizeof key),
                     names[ROLE_ROPE_FACTORS]);
    for (int i = 0; i < HEAD_DIM_MAX / 2; i++)
        m->rope_factors[i] = m->rope_scaling;
    return rc;
}

static int read_heads(const struct gguf_model *m, struct config *c, struct err *err)
{
    int value_length, rope, rc;
    c->n_kv_heads = 0;
    if ((rc = get_int(m, "attention.head_count", &c->n_heads, true, err)) ||
        (rc = get_int(m, "attention.head_count_kv", &c->n_kv_heads, false, err)) ||
        (rc = get_int(m, "attention.key_length", &c->head_dim, false, err)))
        return rc;
    if (!c->n_kv_heads)
        c->n_kv_heads = c->n_heads;
    if (!c->head_dim && c->n_heads > 0)
        c->head_dim = c->dim / c->n_heads;
    value_length = rope = c->head_dim;
    if ((rc = get_int(m, "attention.value_length", &value_length, false, err)) ||
        (rc = get_int(m, "rope.dimension_count", &rope, false, err)))
        return rc;
    if (value_length != c->head_dim || rope != c->head_dim)
        return err_set(
            err, ERR_INVALID,
            "%s: keys of %d, values of %d and %d rotated dimensions differ, which is not "
            "supported yet",
            m->gguf.path, c->head_dim, value_length, rope);
    return 0;
}

/* The embedding says how many tokens there are. */
static int read_vocab_size(const struct gguf_model *m, struct config *c, struct err *err)
{
    const struct gguf_tensor *embed = gguf_tensor(&m->gguf, names[ROLE_EMBED]);
    if (!embed || embed->n_dims != 2 || embed->shape[1] > INT32_MAX)
        return err_set(err, ERR_INVALID, "%s: tensor '%s' is missing or no matrix", m->gguf.path,
                       names[ROLE_EMBED]);
    c->vocab = (int)embed->shape[1];
    return 0;
}

/* Layers behind the trunk's that predict further tokens, each reading the one before. */
static int read_nextn(const struct gguf_model *m, struct config *c, struct err *err)
{
    int layers = 0, rc = get_int(m, "nextn_predict_layers", &layers, false, err);
    if (rc || !layers)
        return rc;
    if (layers != 1 || c->n_layers < 2)
        return err_set(err, ERR_INVALID,
                       "%s: %d next-token layers of %d are not supported yet: one behind others is",
                       m->gguf.path, layers, c->n_layers);
    c->n_layers--;
    c->kind = HEAD_RECURRENT;
    c->n_predict = 2;
    c->head_layers = 1;
    c->token_first = true;
    char name[80];
    c->head_norms = tensor(&m->gguf, ROLE_HEAD_NORM, c->n_layers, name, sizeof name) != NULL;
    return 0;
}

static int read_config(struct gguf_model *m, struct config *c, struct err *err)
{
    char name[80];
    int rc;
    *c = (struct config){.kind = HEAD_LINEAR, .n_predict = 1, .next_is_trunk = true};
    c->rope_theta = 10000;
    if ((rc = choose_arch(m, err)) || (rc = get_int(m, "block_count", &c->n_layers, true, err)) ||
        (rc = get_int(m, "context_length", &c->context, true, err)) ||
        (rc = get_int(m, "embedding_length", &c->dim, true, err)) ||
        (rc = get_int(m, "feed_forward_length", &c->hidden, true, err)) ||
        (rc = read_heads(m, c, err)) || (rc = read_vocab_size(m, c, err)) ||
        (rc = get_real(m, "attention.layer_norm_rms_epsilon", &c->norm_eps, true, err)) ||
        (rc = get_real(m, "rope.freq_base", &c->rope_theta, false, err)) ||
        (rc = refuse_unsupported(m, c->context, err)) || (rc = read_rope_scaling(m, err)) ||
        (rc = gguf_get_token(&m->gguf, "tokenizer.ggml.bos_token_id", &c->bos, err)) ||
        (rc = gguf_get_token(&m->gguf, "tokenizer.ggml.eos_token_id", &c->eos, err)))
        return rc;
    c->tied = !gguf_tensor(&m->gguf, names[ROLE_OUTPUT]);
    c->rope_factors = m->rope_scaling != 1 || gguf_tensor(&m->gguf, names[ROLE_ROPE_FACTORS]);
    c->qkv_bias = tensor(&m->gguf, ROLE_BQ, 0, name, sizeof name) != NULL;
    c->qk_norm = tensor(&m->gguf, ROLE_Q_NORM, 0, name, sizeof name) != NULL;
    if ((rc = read_nextn(m, c, err)))
        return rc;
    rc = config_check(c, err);
    return rc ? err_prefix(err, rc, "%s", m->gguf.path) : refuse_unread(m, c, err);
}

static int vocab(const struct source *source, struct vocab *vocab, struct err *err)
{
    return gguf_vocab(&((const struct gguf_model *)source->data)->gguf, vocab, err);
}

static int chat_template(const struct source *source, struct buf *out, struct err *err)
{
    return gguf_template(&((const struct gguf_model *)source->data)->gguf, out, err);
}

/* ---- life ---- */

static void rest(const struct source *source)
{
    mapping_rest(&((const struct gguf_model *)source->data)->gguf.mapping);
}

static void release(struct source *source)
{
    struct gguf_model *m = source->data;
    if (m)
        gguf_release(&m->gguf);
    free(m);
}

static const struct source_type type = {find, vocab, chat_template, rest, release, NULL};

static struct gguf_model *begin(struct source *source, struct err *err)
{
    struct gguf_model *m = calloc(1, sizeof *m);
    source->type = &type;
    source->data = m;
    if (!m)
        err_set(err, ERR_MEMORY, "%s: no memory left", source->path);
    return m;
}

int gguf_source_open(struct source *source, struct err *err)
{
    struct gguf_model *m = begin(source, err);
    int rc = m ? gguf_open(&m->gguf, source->path, err) : ERR_MEMORY;
    return rc ? rc : read_config(m, &source->config, err);
}

int gguf_source_parse(struct source *source, const void *bytes, size_t size, const char *where,
                      struct err *err)
{
    *source = (struct source){.path = strdup(where)};
    struct gguf_model *m = begin(source, err);
    int rc = m ? gguf_parse(&m->gguf, bytes, size, where, err) : ERR_MEMORY;
    if (!rc)
        rc = read_config(m, &source->config, err);
    if (rc)
        source_release(source);
    return rc;
}

const struct gguf *source_gguf(const struct source *source)
{
    return source->type == &type ? &((const struct gguf_model *)source->data)->gguf : NULL;
}
