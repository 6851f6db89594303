/* Choosing a back end, and what all of them share: see source.h. */
#include "weights/source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

/* ---- opening ---- */

static bool ends_with(const char *path, const char *end)
{
    size_t n = strlen(path), m = strlen(end);
    return n > m && !strcmp(path + n - m, end);
}

static const struct back_end {
    bool (*matches)(const char *path, bool folder);
    int (*open)(struct source *source, struct err *err);
} back_ends[];

static bool is_gguf(const char *path, bool folder)
{
    return !folder && ends_with(path, ".gguf");
}

static bool is_folder(const char *path, bool folder)
{
    (void)path;
    return folder;
}

static const struct back_end back_ends[] = {
    {is_gguf, gguf_source_open},
    {is_folder, headway_source_open},
};

int source_open(struct source *source, const char *path, struct err *err)
{
    struct stat st;
    *source = (struct source){.path = strdup(path)};
    if (!source->path)
        return err_set(err, ERR_MEMORY, "%s: no memory left", path);
    int rc = ERR_INVALID;
    bool there = !stat(path, &st), folder = there && S_ISDIR(st.st_mode);
    const struct back_end *end = back_ends + sizeof back_ends / sizeof *back_ends, *b = back_ends;
    while (b < end && !b->matches(path, folder))
        b++;
    if (!there)
        rc = err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    else if (b == end)
        err_set(err, rc, "%s is neither a folder nor a .gguf file: name a model's", path);
    else
        rc = b->open(source, err);
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

int source_vocab(const struct source *source, struct vocab *vocab, struct err *err)
{
    return source->type->vocab(source, vocab, err);
}

int source_template(const struct source *source, struct buf *out, struct err *err)
{
    return source->type->chat_template(source, out, err);
}
