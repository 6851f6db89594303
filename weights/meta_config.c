/* Meta's params.json: see meta_config.h. */
#include "weights/meta_config.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/file.h"
#include "weights/json_field.h"

#define PARAMS_BYTES_MAX ((size_t)1 << 20)

/* ---- params.json ---- */

/* Two thirds of 4 dim, times the multiplier if there is one, rounded up to a multiple. */
static int read_hidden(const json_t *root, struct meta_config *m, struct err *err)
{
    float unused = 0;
    int multiple = 256;
    int rc = json_field_int(root, "multiple_of", 1, 65536, &multiple, err);
    if (!rc)
        rc = json_field_real(root, "ffn_dim_multiplier", 0, 64, &unused, err);
    if (rc)
        return rc;
    int hidden = 2 * 4 * m->dim / 3;
    const json_t *multiplier = json_field(root, "ffn_dim_multiplier");
    if (multiplier) /* cut off as the release's Python does it, in double */
        hidden = (int)(json_number_value(multiplier) * hidden);
    hidden = (hidden + multiple - 1) / multiple * multiple;
    if (hidden < 16 || hidden > 65536)
        return err_set(err, ERR_INVALID,
                       "fields 'dim', 'multiple_of' and 'ffn_dim_multiplier' make a hidden size of "
                       "%d, but that must lie between 16 and 65536",
                       hidden);
    m->hidden = hidden;
    return 0;
}

/* What later releases have and this reader does not. */
static int refuse_unsupported(const json_t *root, struct err *err)
{
    static const char *const names[] = {"moe", "moe_args", "lora_args", "quantization_args",
                                        "vision_chunk_size"};
    bool scaled = false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (json_field(root, names[i]))
            return err_set(err, ERR_INVALID, "field '%s' is there, which is not supported",
                           names[i]);
    int rc = json_field_bool(root, "use_scaled_rope", &scaled, err);
    if (!rc && scaled)
        rc = err_set(err, ERR_INVALID,
                     "field 'use_scaled_rope' is true, which is not supported in this layout: use "
                     "the model's Hugging Face folder");
    return rc;
}

static int read_fields(const json_t *root, struct meta_config *m, struct err *err)
{
    const struct {
        const char *name;
        int min, max, *out;
    } fields[] = {
        {"dim", 16, 16384, &m->dim},
        {"n_layers", 1, 512, &m->n_layers},
        {"n_heads", 1, 256, &m->n_heads},
        {"n_kv_heads", -1, 256, &m->n_kv_heads},
        {"vocab_size", -1, 1048576, &m->vocab},
        {"n_future_tokens", 1, HEADS_MAX, &m->n_predict},
        {"max_seq_len", 2, 1048576, &m->context},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        int rc =
            json_field_int(root, fields[i].name, fields[i].min, fields[i].max, fields[i].out, err);
        if (!rc && i < 3 && !*fields[i].out)
            rc = err_set(err, ERR_INVALID, "field '%s' is missing", fields[i].name);
        if (rc)
            return rc;
    }
    if (m->n_kv_heads <= 0)
        m->n_kv_heads = m->n_heads;
    if (m->n_predict > m->n_layers)
        return err_set(err, ERR_INVALID,
                       "field 'n_future_tokens' is %d, but must be at most n_layers (%d), which "
                       "counts the heads' layers too",
                       m->n_predict, m->n_layers);
    int rc = json_field_real(root, "norm_eps", 0, 0.1, &m->norm_eps, err);
    if (!rc)
        rc = json_field_real(root, "rope_theta", 0, 1e12, &m->rope_theta, err);
    if (!rc)
        rc = refuse_unsupported(root, err);
    return rc ? rc : read_hidden(root, m, err);
}

int meta_config_parse(struct meta_config *meta, const char *text, size_t size, const char *where,
                      struct err *err)
{
    json_t *root;
    *meta = (struct meta_config){
        .vocab = -1, .n_predict = 1, .context = 4096, .norm_eps = 1e-5f, .rope_theta = 10000};
    int rc = json_parse_object(text, size, where, &root, err);
    if (rc)
        return rc;
    rc = read_fields(root, meta, err);
    json_decref(root);
    return rc ? err_prefix(err, rc, "%s", where) : 0;
}

int meta_config_read(struct meta_config *meta, const char *folder, struct err *err)
{
    struct buf text = {0};
    char *path = file_join(folder, "params.json");
    if (!path)
        return err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    int rc = file_read(&text, path, PARAMS_BYTES_MAX, err);
    if (!rc)
        rc = meta_config_parse(meta, text.data ? text.data : "", text.len, path, err);
    buf_release(&text);
    free(path);
    return rc;
}

/* ---- against the tensors ---- */

/* Tensor NAME must be a matrix; rows -1 takes what there is. */
static int check_matrix(const struct torch_file *file, const char *name, int *rows, int columns,
                        struct err *err)
{
    const struct tensor *t = torch_file_find(file, name);
    if (!t)
        return err_set(err, ERR_INVALID, "%s: tensor '%s' is missing", file->path, name);
    if (t->n_dims != 2)
        return err_set(err, ERR_INVALID, "%s: tensor '%s' has %d dimensions, but must have 2",
                       file->path, name, t->n_dims);
    if (*rows < 0 && t->shape[0] <= 1048576)
        *rows = (int)t->shape[0];
    if (t->shape[0] != (size_t)*rows || t->shape[1] != (size_t)columns)
        return err_set(err, ERR_INVALID,
                       "%s: tensor '%s' has shape [%zu, %zu], but by params.json it must have "
                       "[%d, %d]",
                       file->path, name, t->shape[0], t->shape[1], *rows, columns);
    return 0;
}

/* `name`.0 to `name`.(n-1) and no more. */
static int check_count(const struct torch_file *file, const char *name, int n, const char *why,
                       struct err *err)
{
    static const char norm[] = "attention_norm.weight";
    char last[100];
    for (int i = 0; i <= n; i++) {
        snprintf(last, sizeof last, "%s.%d.%s", name, i, norm);
        if (i < n && !torch_file_find(file, last))
            return err_set(err, ERR_INVALID,
                           "%s: tensor '%s' is missing; by params.json there must be %d %s (%s)",
                           file->path, last, n, name, why);
        if (i == n && torch_file_find(file, last))
            return err_set(err, ERR_INVALID,
                           "%s: tensor '%s' is there, but by params.json there must be only %d %s "
                           "(%s)",
                           file->path, last, n, name, why);
    }
    return 0;
}

int meta_config_fill(struct config *config, const struct meta_config *meta,
                     const struct torch_file *file, struct err *err)
{
    int vocab = meta->vocab, hidden = meta->hidden, n = meta->n_predict;
    int kv = meta->dim / meta->n_heads * meta->n_kv_heads;
    int rc = check_matrix(file, "tok_embeddings.weight", &vocab, meta->dim, err);
    if (!rc)
        rc = check_matrix(file, "output.weight", &vocab, meta->dim, err);
    if (!rc)
        rc = check_matrix(file, "layers.0.feed_forward.w1.weight", &hidden, meta->dim, err);
    if (!rc)
        rc = check_matrix(file, "layers.0.attention.wk.weight", &kv, meta->dim, err);
    if (!rc)
        rc = check_count(file, "layers", meta->n_layers - n + 1, "n_layers - n_future_tokens + 1",
                         err);
    if (!rc)
        rc = check_count(file, "extra_heads", n - 1, "n_future_tokens - 1", err);
    if (rc)
        return rc;
    *config = (struct config){.dim = meta->dim,
                              .n_layers = meta->n_layers - n,
                              .n_heads = meta->n_heads,
                              .n_kv_heads = meta->n_kv_heads,
                              .hidden = hidden,
                              .vocab = vocab,
                              .context = meta->context,
                              .norm_eps = meta->norm_eps,
                              .rope_theta = meta->rope_theta,
                              .kind = HEAD_PARALLEL,
                              .n_predict = n,
                              .head_layers = 1,
                              .bos = -1,
                              .eos = -1};
    rc = config_check(config, err);
    return rc ? err_prefix(err, rc, "%s: params.json", file->path) : 0;
}
