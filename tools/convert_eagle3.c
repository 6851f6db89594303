/* Recurrent heads of EAGLE-3's structure as others read them: see convert_eagle3.h. */
#include "tools/convert_eagle3.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "model/params.h"
#include "model/trunk_hash.h"
#include "weights/file.h"
#include "weights/safetensors.h"
#include "weights/source_backends.h"

#define LAYER "midlayer."
#define TENSORS_MAX 32

/* A tensor of the file: rows of a matrix, some of them or in another order. */
struct piece {
    struct matrix matrix;
    size_t rows;
    const int32_t *ids; /* the rows, NULL: all */
    int half_split; /* size of heads whose rows are written in the order of half-split rotation */
    float *row;     /* shared */
    char name[64];
};

struct eagle3_out {
    const struct source *heads, *trunk;
    struct params of_heads, of_trunk;
    const int32_t *ids;
    int n_ids; /* of the draft vocabulary; 0: drafts may be any token */
    struct piece pieces[TENSORS_MAX];
    struct tensor_out out[TENSORS_MAX];
    size_t n;
    float *row;
    int64_t *d2t;
    unsigned char *t2d;
};

/* ---- tensors ---- */

/* The row of our order, adjacent pairs, that stands at row r. */
static size_t row_before(size_t r, size_t size)
{
    size_t head = r / size * size, at = r % size, half = size / 2;
    return head + (at < half ? 2 * at : 2 * (at - half) + 1);
}

static void write_piece(void *arg, FILE *stream)
{
    const struct piece *p = arg;
    for (size_t r = 0; r < p->rows; r++) {
        size_t from = p->ids          ? (size_t)p->ids[r]
                      : p->half_split ? row_before(r, (size_t)p->half_split)
                                      : r;
        matrix_row(&p->matrix, from, p->row);
        safetensors_put_bf16(p->row, p->matrix.inputs, stream);
    }
}

static int add(struct eagle3_out *e, const struct source *from, const struct param *param,
               const char *name, const int32_t *ids, int n_ids, struct err *err)
{
    struct piece *p = &e->pieces[e->n];
    struct tensor_out *out = &e->out[e->n++];
    int rc = source_find(from, &param->place, param->n_dims, param->shape, &p->matrix, err);
    snprintf(p->name, sizeof p->name, "%s", name);
    p->row = e->row;
    p->ids = ids;
    p->rows = ids ? (size_t)n_ids : p->matrix.rows;
    p->half_split = role_rotated(param->place.role) ? from->config.head_dim : 0;
    *out = (struct tensor_out){.name = p->name,
                               .dtype = DTYPE_BF16,
                               .n_dims = param->n_dims,
                               .write = write_piece,
                               .write_arg = p};
    out->shape[0] = param->n_dims == 1 ? p->matrix.inputs : p->rows;
    out->shape[1] = param->n_dims == 1 ? 0 : p->matrix.inputs;
    return rc;
}

static int add_all(struct eagle3_out *e, struct err *err)
{
    const struct config *c = &e->heads->config;
    int rc = 0;
    char name[64];
    for (int i = 0; i < e->of_heads.n && !rc; i++) {
        const struct param *p = &e->of_heads.list[i];
        eagle3_name(p->place.role, LAYER, name, sizeof name);
        rc = add(e, e->heads, p, name, NULL, 0, err);
    }
    /* What such heads may share with their trunk. */
    if (!rc && !c->head_norms) {
        eagle3_name(ROLE_HEAD_NORM, LAYER, name, sizeof name);
        rc = add(e, e->trunk, &e->of_trunk.list[e->of_trunk.norm], name, NULL, 0, err);
    }
    if (!rc && !c->draft_output) {
        int output = e->trunk->config.tied ? e->of_trunk.embed : e->of_trunk.output;
        eagle3_name(ROLE_HEAD_OUTPUT, LAYER, name, sizeof name);
        rc = add(e, e->trunk, &e->of_trunk.list[output], name, e->n_ids ? e->ids : NULL, e->n_ids,
                 err);
    }
    return rc;
}

/* Token i of the draft vocabulary is i + d2t[i]; t2d says of each token whether it is in there. */
static int add_ids(struct eagle3_out *e, struct err *err)
{
    size_t vocab = (size_t)e->trunk->config.vocab, n = (size_t)e->n_ids;
    if (!n)
        return 0;
    e->d2t = calloc(n, sizeof *e->d2t);
    e->t2d = calloc(vocab, 1);
    if (!e->d2t || !e->t2d)
        return err_set(err, ERR_MEMORY, "no memory for a draft vocabulary of %zu tokens", n);
    for (size_t i = 0; i < n; i++) {
        e->d2t[i] = e->ids[i] - (int64_t)i;
        e->t2d[e->ids[i]] = 1;
    }
    e->out[e->n++] = (struct tensor_out){
        .name = "d2t", .dtype = DTYPE_I64, .n_dims = 1, .shape = {n}, .data = e->d2t};
    e->out[e->n++] = (struct tensor_out){
        .name = "t2d", .dtype = DTYPE_BOOL, .n_dims = 1, .shape = {vocab}, .data = e->t2d};
    return 0;
}

/* ---- config.json ---- */

static json_t *config_json(const struct eagle3_out *e)
{
    const struct config *c = &e->heads->config, *t = &e->trunk->config;
    json_t *layers = json_array();
    for (int i = 0; i < c->n_aux; i++)
        json_array_append_new(layers, json_integer(c->aux_layers[i]));
    json_t *root = json_pack(
        "{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:s, s:b, s:b, s:b, "
        "s:s, s:{s:o, s:b}}",
        "architectures", "LlamaForCausalLMEagle3", "model_type", "llama", "hidden_size", c->dim,
        "intermediate_size", c->hidden, "num_attention_heads", c->n_heads, "num_key_value_heads",
        c->n_kv_heads, "head_dim", c->head_dim, "num_hidden_layers", 1, "vocab_size", c->vocab,
        "draft_vocab_size", e->n_ids ? e->n_ids : c->vocab, "max_position_embeddings", t->context,
        "rms_norm_eps", (double)t->norm_eps, "rope_theta", (double)t->rope_theta, "hidden_act",
        "silu", "attention_bias", 0, "mlp_bias", 0, "tie_word_embeddings", 0, "torch_dtype",
        "bfloat16", "eagle_config", "eagle_aux_hidden_state_layer_ids", layers,
        "use_aux_hidden_state", 1);
    if (root && t->bos >= 0)
        json_object_set_new(root, "bos_token_id", json_integer(t->bos));
    if (root && t->eos >= 0)
        json_object_set_new(root, "eos_token_id", json_integer(t->eos));
    return root;
}

static int write_config(const struct eagle3_out *e, const char *folder, struct err *err)
{
    struct file_out out = {0};
    char *path = file_join(folder, "config.json");
    json_t *root = config_json(e);
    int rc = path && root ? file_create(&out, path, err)
                          : err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    if (!rc) {
        /* 7 digits: what a float was written as */
        json_dumpf(root, out.stream, JSON_INDENT(2) | JSON_REAL_PRECISION(7));
        fputc('\n', out.stream);
        rc = file_commit(&out, err);
    }
    json_decref(root);
    free(path);
    return rc;
}

/* ---- the whole ---- */

static int check(const struct source *heads, const struct source *trunk, struct err *err)
{
    const struct config *c = &heads->config, *t = &trunk->config;
    uint64_t hash;
    int rc = trunk_hash(trunk, &hash, err);
    if (rc)
        return rc;
    if (!c->trunk || !c->joined_attention || !c->fuse_raw || c->head_layers != 1)
        return err_set(err, ERR_INVALID,
                       "%s has no heads of EAGLE-3's structure, one layer deep: headway-train "
                       "--eagle3 trains some",
                       heads->path);
    if (c->trunk != hash)
        return err_set(err, ERR_INVALID, "the heads of %s were trained for another trunk than %s",
                       heads->path, trunk->path);
    if (t->rope_factors)
        return err_set(err, ERR_INVALID,
                       "%s: factors of its rotation cannot be written for EAGLE-3's heads",
                       trunk->path);
    return 0;
}

static int write_all(struct eagle3_out *e, const char *folder, struct err *err)
{
    size_t widest = 0;
    int rc = params_init(&e->of_heads, &e->heads->config, err);
    if (rc || (rc = params_init(&e->of_trunk, &e->trunk->config, err)) ||
        (rc = source_draft_ids(e->heads, &e->ids, &e->n_ids, err)))
        return rc;
    for (int i = 0; i < e->of_heads.n; i++) {
        const struct param *p = &e->of_heads.list[i];
        size_t width = p->n_dims == 1 ? p->shape[0] : p->shape[1];
        widest = width > widest ? width : widest;
    }
    e->row = malloc(widest * sizeof *e->row);
    char *path = file_join(folder, "model.safetensors");
    if (!e->row || !path)
        rc = err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    if (!rc && !(rc = add_all(e, err)) && !(rc = add_ids(e, err)) && mkdir(folder, 0777) &&
        errno != EEXIST)
        rc = err_set(err, ERR_IO, "%s could not be made: %s", folder, strerror(errno));
    if (!rc && !(rc = safetensors_write(path, e->out, e->n, "{\"format\":\"pt\"}", err)))
        rc = write_config(e, folder, err);
    free(path);
    return rc;
}

int convert_eagle3(const struct source *heads, const struct source *trunk, const char *folder,
                   struct err *err)
{
    struct eagle3_out *e = calloc(1, sizeof *e);
    int rc = e ? check(heads, trunk, err) : err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    if (!rc) {
        e->heads = heads;
        e->trunk = trunk;
        rc = write_all(e, folder, err);
        params_release(&e->of_heads);
        params_release(&e->of_trunk);
    }
    if (e) {
        free(e->row);
        free(e->d2t);
        free(e->t2d);
    }
    free(e);
    return rc;
}
