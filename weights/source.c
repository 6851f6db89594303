/* Choosing a back end, and what all of them share: see source.h. */
#include "weights/source.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "weights/file.h"
#include "weights/source_backends.h"

void place_name(const struct place *place, char *name, size_t size)
{
    static const char *const names[ROLES] = {
        [ROLE_EMBED] = "tok_embeddings.weight",
        [ROLE_NORM] = "norm.weight",
        [ROLE_OUTPUT] = "output.weight",
        [ROLE_ROPE_FACTORS] = "rope_factors",
        [ROLE_ATTN_NORM] = "attention_norm.weight",
        [ROLE_WQ] = "attention.wq.weight",
        [ROLE_WK] = "attention.wk.weight",
        [ROLE_WV] = "attention.wv.weight",
        [ROLE_WO] = "attention.wo.weight",
        [ROLE_FFN_NORM] = "ffn_norm.weight",
        [ROLE_W1] = "feed_forward.w1.weight",
        [ROLE_W3] = "feed_forward.w3.weight",
        [ROLE_W2] = "feed_forward.w2.weight",
        [ROLE_BQ] = "attention.wq.bias",
        [ROLE_BK] = "attention.wk.bias",
        [ROLE_BV] = "attention.wv.bias",
        [ROLE_Q_NORM] = "attention.q_norm.weight",
        [ROLE_K_NORM] = "attention.k_norm.weight",
        [ROLE_HEAD_LINEAR] = "linear.weight",
        [ROLE_HEAD_OUTPUT] = "output.weight",
        [ROLE_HEAD_NORM] = "norm.weight",
        [ROLE_HEAD_STATE_NORM] = "state_norm.weight",
        [ROLE_HEAD_TOKEN_NORM] = "token_norm.weight",
        [ROLE_HEAD_PROJECT] = "project.weight",
        [ROLE_HEAD_FUSE] = "fuse.weight",
        [ROLE_HEAD_BIGRAM] = "bigram.weight",
    };
    const char *last = names[place->role];
    if (!role_of_layer(place->role) && place->head < 0)
        snprintf(name, size, "%s", last);
    else if (!role_of_layer(place->role))
        snprintf(name, size, "heads.%d.%s", place->head, last);
    else if (place->head < 0)
        snprintf(name, size, "layers.%d.%s", place->layer, last);
    else
        snprintf(name, size, "heads.%d.layers.%d.%s", place->head, place->layer, last);
}

#define CONFIG_BYTES_MAX ((size_t)1 << 20)

/* ---- opening ---- */

static bool ends_with(const char *path, const char *end)
{
    size_t n = strlen(path), m = strlen(end);
    return n > m && !strcmp(path + n - m, end);
}

static bool has(const char *folder, const char *name)
{
    char *path = file_join(folder, name);
    bool found = path && !access(path, F_OK);
    free(path);
    return found;
}

/* Whether a folder's config.json is headway's: the others have no format. */
static int is_ours(const char *folder, bool *ours, struct err *err)
{
    struct buf text = {0};
    json_error_t why;
    bool found;
    int rc = file_read_if(&text, folder, "config.json", CONFIG_BYTES_MAX, &found, err);
    json_t *root = rc || !found ? NULL : json_loadb(text.data ? text.data : "", text.len, 0, &why);
    *ours = !root || json_object_get(root, "format");
    json_decref(root);
    buf_release(&text);
    return rc;
}

static int open_folder(struct source *source, struct err *err)
{
    bool ours;
    if (has(source->path, "params.json"))
        return meta_source_open(source, err);
    int rc = is_ours(source->path, &ours, err);
    if (rc)
        return rc;
    return ours ? headway_source_open(source, err) : hf_source_open(source, err);
}

static int open(struct source *source, const char *path, bool heads, struct err *err)
{
    struct stat st;
    *source = (struct source){.path = strdup(path), .heads = heads};
    if (!source->path)
        return err_set(err, ERR_MEMORY, "%s: no memory left", path);
    int rc;
    if (stat(path, &st))
        rc = err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    else if (S_ISDIR(st.st_mode))
        rc = open_folder(source, err);
    else if (ends_with(path, ".gguf"))
        rc = gguf_source_open(source, err);
    else if (ends_with(path, ".pth") || ends_with(path, ".safetensors"))
        rc = err_set(err, ERR_INVALID, "%s is one file of a model: name the folder it lies in",
                     path);
    else
        rc = err_set(err, ERR_INVALID, "%s is neither a .gguf file nor a folder: name a model's",
                     path);
    if (rc)
        source_release(source);
    return rc;
}

int source_open(struct source *source, const char *path, struct err *err)
{
    return open(source, path, false, err);
}

int source_open_either(struct source *source, const char *path, struct err *err)
{
    return open(source, path, true, err);
}

int source_open_heads(struct source *source, const char *path, struct err *err)
{
    int rc = open(source, path, true, err);
    if (!rc && !source->config.trunk)
        rc =
            err_set(err, ERR_INVALID,
                    "%s is a model, not heads for another: headway-train --trunk makes such", path);
    if (rc)
        source_release(source);
    return rc;
}

void source_release(struct source *source)
{
    if (source->type)
        source->type->release(source);
    free(source->path);
    *source = (struct source){0};
}

/* ---- finding ---- */

int source_find(const struct source *source, const struct place *place, int n_dims,
                const size_t *shape, struct matrix *m, struct err *err)
{
    size_t rows = n_dims == 2 ? shape[0] : 1, inputs = shape[n_dims - 1];
    int rc = source->type->find(source, place, n_dims, shape, m, err);
    if (rc)
        return rc;
    if (m->rows != rows || m->inputs != inputs)
        return err_set(err, ERR_INVALID,
                       "%s: tensor '%s' has %zu rows of %zu, but by the model's shape it must have "
                       "%zu rows of %zu",
                       source->path, m->name, m->rows, m->inputs, rows, inputs);
    if (n_dims == 1 && block_format(m->type)->inputs > 1)
        return err_set(err, ERR_INVALID, "%s: tensor '%s' is quantised, but only matrices may be",
                       source->path, m->name);
    return 0;
}

int source_check_ids(const int32_t *ids, int n, int vocab, struct err *err)
{
    for (int i = 0; i < n; i++)
        if (ids[i] < (i ? ids[i - 1] + 1 : 0) || ids[i] >= vocab)
            return err_set(err, ERR_INVALID,
                           "token %d of the draft vocabulary is %d, but tokens must rise from 0 to "
                           "at most %d",
                           i, ids[i], vocab - 1);
    return 0;
}

int source_draft_ids(const struct source *source, const int32_t **ids, int *n, struct err *err)
{
    *n = 0;
    return source->type->draft_ids ? source->type->draft_ids(source, ids, n, err) : 0;
}

int source_vocab(const struct source *source, struct vocab *vocab, struct err *err)
{
    return source->type->vocab(source, vocab, err);
}

int source_template(const struct source *source, struct buf *out, struct err *err)
{
    return source->type->chat_template(source, out, err);
}

void source_rest(const struct source *source)
{
    source->type->rest(source);
}
