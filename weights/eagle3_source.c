/* EAGLE-3's heads as they are published (SafeAILab, vLLM's speculators), read as recurrent ones: fc
 * joins the inputs of some of the trunk's layers, the layer's queries, keys and values read the
 * token's embedding and the state side by side, and drafts have an unembedding of their own over a
 * part of the vocabulary. Only to be converted: what they were trained for is not written in them.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/file.h"
#include "weights/json_field.h"
#include "weights/shards.h"
#include "weights/source_backends.h"

#define CONFIG_BYTES_MAX ((size_t)1 << 20)
#define DRAFTS 4 /* as many as SGLang and vLLM make in a chain by default, and one */

struct eagle3 {
    struct shards shards;
    const char *layer; /* what the names of its layer begin with */
    int32_t *ids;      /* (config.draft_output) rising */
};

/* ---- tensors ---- */

/* Beside a layer with transformers' names. */
static const char *const names[ROLES] = {
    [ROLE_HEAD_STATE_NORM] = "hidden_norm.weight",
    [ROLE_HEAD_FUSE] = "fc.weight",
    [ROLE_HEAD_NORM] = "norm.weight",
    [ROLE_HEAD_OUTPUT] = "lm_head.weight",
};

void eagle3_name(enum role role, const char *layer, char *name, size_t size)
{
    const char *in_layer = hf_layer_name(role), *last = in_layer ? in_layer : names[role];
    bool of_layer = in_layer || role == ROLE_HEAD_STATE_NORM;
    snprintf(name, size, "%s%s", of_layer ? layer : "", last ? last : "?");
}

static int find(const struct source *source, const struct place *place, int n_dims,
                const size_t *shape, struct matrix *m, struct err *err)
{
    const struct eagle3 *e = source->data;
    char name[96];
    (void)shape;
    eagle3_name(place->role, e->layer, name, sizeof name);
    const struct tensor *t = shards_find(&e->shards, name);
    if (!t)
        return err_set(err, ERR_INVALID, "%s: tensor '%s' is missing", e->shards.path, name);
    int rc = matrix_of_tensor(m, t, n_dims, e->shards.path, err);
    if (!rc && role_rotated(place->role))
        m->half_split = source->config.head_dim;
    return rc;
}

/* Token i of the draft vocabulary is i + d2t[i]; without d2t drafts may be any token. */
static int read_ids(struct source *source, struct err *err)
{
    struct eagle3 *e = source->data;
    struct config *c = &source->config;
    const struct tensor *t = shards_find(&e->shards, "d2t"),
                        *output = shards_find(&e->shards, "lm_head.weight");
    if (!output || output->n_dims != 2 || output->shape[0] < 1 ||
        output->shape[0] > (size_t)c->vocab)
        return err_set(err, ERR_INVALID,
                       "%s: 'lm_head.weight' is missing or no matrix of 1 to %d rows",
                       e->shards.path, c->vocab);
    size_t n = output->shape[0];
    if (t ? t->dtype != DTYPE_I64 || t->n_dims != 1 || t->shape[0] != n : n != (size_t)c->vocab)
        return err_set(err, ERR_INVALID, "%s: 'd2t' must be one row of %zu numbers of type I64",
                       e->shards.path, n);
    e->ids = malloc(n * sizeof *e->ids);
    if (!e->ids)
        return err_set(err, ERR_MEMORY, "%s: no memory left", source->path);
    for (size_t i = 0; i < n; i++) {
        int64_t offset = 0;
        if (t)
            memcpy(&offset, (const char *)t->data + i * sizeof offset, sizeof offset);
        int64_t least = i ? e->ids[i - 1] + 1 : 0;
        if (offset < least - (int64_t)i || offset >= c->vocab - (int64_t)i)
            return err_set(
                err, ERR_INVALID,
                "%s: 'd2t' makes token %jd of number %zu, but tokens must rise from 0 to "
                "%d",
                e->shards.path, (intmax_t)(offset > c->vocab ? c->vocab : offset), i, c->vocab - 1);
        e->ids[i] = (int32_t)(i + (size_t)offset);
    }
    c->draft_output = (int)n;
    return 0;
}

static int draft_ids(const struct source *source, const int32_t **ids, int *n, struct err *err)
{
    (void)err;
    *ids = ((const struct eagle3 *)source->data)->ids;
    *n = source->config.draft_output;
    return 0;
}

/* ---- shape ---- */

static int same(const char *name, double found, double wanted, struct err *err)
{
    return fabs(found - wanted) <= 1e-6 * wanted
               ? 0
               : err_set(err, ERR_INVALID,
                         "field '%s' is %g, the trunk's is %g: heads of other shapes than their "
                         "trunk's are not supported",
                         name, found, wanted);
}

/* Of the shapes only the feed-forward's width may be another than the trunk's. */
static int read_shape(const json_t *root, const struct config *trunk, struct config *c,
                      struct err *err)
{
    const struct {
        const char *name;
        int wanted;
    } fields[] = {
        {"hidden_size", trunk->dim},
        {"num_attention_heads", trunk->n_heads},
        {"num_key_value_heads", trunk->n_kv_heads},
        {"head_dim", trunk->head_dim},
        {"vocab_size", trunk->vocab},
        {"num_hidden_layers", 1},
    };
    float eps = trunk->norm_eps, theta = trunk->rope_theta;
    int rc = 0;
    for (size_t i = 0; i < sizeof fields / sizeof *fields && !rc; i++) {
        int value = fields[i].wanted;
        rc = json_field_int(root, fields[i].name, 1, 1 << 24, &value, err);
        if (!rc)
            rc = same(fields[i].name, value, fields[i].wanted, err);
    }
    if (!rc)
        rc = json_field_int(root, "intermediate_size", 1, 1 << 24, &c->hidden, err);
    if (!rc && !(rc = json_field_real(root, "rms_norm_eps", 0, 0.1, &eps, err)))
        rc = same("rms_norm_eps", (double)eps, (double)trunk->norm_eps, err);
    if (!rc && !(rc = json_field_real(root, "rope_theta", 0, 1e9, &theta, err)))
        rc = same("rope_theta", (double)theta, (double)trunk->rope_theta, err);
    return rc;
}

/* Those of the file, else the authors' choice. */
static int read_aux(const json_t *root, int layers, struct config *c, struct err *err)
{
    static const char field[] = "eagle_aux_hidden_state_layer_ids";
    const json_t *list = json_field(root, field), *inner = json_field(root, "eagle_config");
    const int usual[] = {2, layers / 2, layers - 3};
    if (!list)
        list = json_field(inner, field);
    c->n_aux = list ? (int)json_array_size(list) : 3;
    if (c->n_aux < 1 || c->n_aux > AUX_LAYERS_MAX)
        return json_mistyped(field, list, "a list of 1 to 4 layers", err);
    for (int i = 0; i < c->n_aux; i++) {
        json_int_t layer = list ? json_integer_value(json_array_get(list, (size_t)i)) : usual[i];
        c->aux_layers[i] = layer > 0 && layer < 512 ? (int)layer : -1;
    }
    for (int i = 0; i < c->n_aux; i++)
        if (c->aux_layers[i] < (i ? c->aux_layers[i - 1] + 1 : 1) || c->aux_layers[i] >= layers)
            return list ? json_mistyped(field, list, "a rising list of layers of the trunk", err)
                        : err_set(err, ERR_INVALID,
                                  "a trunk of %d layers is too shallow for layers 2, L/2 and L-3: "
                                  "field '%s' must say which the heads read",
                                  layers, field);
    return 0;
}

static int read_config(struct source *source, const struct config *trunk, uint64_t hash,
                       struct err *err)
{
    struct config *c = &source->config;
    char *path = file_join(source->path, "config.json");
    json_t *root = NULL;
    const json_t *shape;
    int rc = path ? json_read_object(path, CONFIG_BYTES_MAX, &root, err)
                  : err_set(err, ERR_MEMORY, "%s: no memory left", source->path);
    *c = *trunk;
    c->n_layers = 0;
    c->tied = c->qkv_bias = c->qk_norm = c->rope_factors = false;
    c->next_is_trunk = c->head_norms = c->joined_attention = c->fuse_raw = true;
    c->trunk = hash;
    c->kind = HEAD_RECURRENT;
    c->n_predict = 1 + DRAFTS;
    c->head_layers = 1;
    if (!rc && !(rc = json_field_object(root, "transformer_layer_config", &shape, err)))
        rc = read_shape(shape ? shape : root, trunk, c, err);
    if (!rc)
        rc = read_aux(root, trunk->n_layers, c, err);
    if (rc && path)
        err_prefix(err, rc, "%s", path);
    json_decref(root);
    free(path);
    return rc;
}

/* ---- life ---- */

static int vocab(const struct source *source, struct vocab *vocab, struct err *err)
{
    (void)vocab;
    return err_set(err, ERR_INVALID, "%s: heads have no tokens of their own", source->path);
}

static int chat_template(const struct source *source, struct buf *out, struct err *err)
{
    (void)source, (void)out, (void)err;
    return 0;
}

static void rest(const struct source *source)
{
    (void)source;
}

static void release(struct source *source)
{
    struct eagle3 *e = source->data;
    if (e) {
        shards_release(&e->shards);
        free(e->ids);
    }
    free(e);
}

static const struct source_type type = {find, vocab, chat_template, rest, release, draft_ids};

int source_open_eagle3(struct source *source, const char *path, const struct config *trunk,
                       uint64_t hash, struct err *err)
{
    struct eagle3 *e = calloc(1, sizeof *e);
    *source = (struct source){.type = &type, .path = strdup(path), .heads = true, .data = e};
    int rc = e && source->path ? read_config(source, trunk, hash, err)
                               : err_set(err, ERR_MEMORY, "%s: no memory left", path);
    if (!rc && !(rc = shards_open(&e->shards, path, err))) {
        e->layer =
            shards_find(&e->shards, "midlayer.hidden_norm.weight") ? "midlayer." : "layers.0.";
        rc = read_ids(source, err);
    }
    if (!rc && (rc = config_check(&source->config, err)))
        err_prefix(err, rc, "%s/config.json", path);
    if (rc)
        source_release(source);
    return rc;
}
