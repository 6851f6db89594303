/* headway's own folders: config.json, model.safetensors, and the tokens: tokenizer files, or none
 * for the bytes. */
#include <stdlib.h>
#include <string.h>

#include "weights/file.h"
#include "weights/safetensors.h"
#include "weights/source_backends.h"
#include "weights/vocab_files.h"

static int find(const struct source *source, const struct place *place, int n_dims,
                const size_t *shape, struct matrix *matrix, struct err *err)
{
    char name[80];
    place_name(place, name, sizeof name);
    return matrix_find(source->data, name, n_dims, shape, matrix, err);
}

static int vocab(const struct source *source, struct vocab *vocab, struct err *err)
{
    bool found;
    int rc = vocab_files_read(vocab, source->path, &found, err);
    if (rc || found)
        return rc;
    if (source->config.vocab < BYTE_VOCAB)
        return err_set(err, ERR_INVALID,
                       "%s/config.json: field 'vocab' is %d, but the byte tokenizer needs %d",
                       source->path, source->config.vocab, BYTE_VOCAB);
    return vocab_bytes(vocab, source->config.bos, source->config.eos, err);
}

static int chat_template(const struct source *source, struct buf *out, struct err *err)
{
    return template_files_read(out, source->path, err);
}

static void rest(const struct source *source)
{
    mapping_rest(&((const struct safetensors *)source->data)->mapping);
}

static void release(struct source *source)
{
    if (source->data)
        safetensors_release(source->data);
    free(source->data);
}

static int draft_ids(const struct source *source, const int32_t **ids, int *n, struct err *err)
{
    const struct tensor *t = safetensors_find(source->data, "draft_ids");
    if (!t)
        return 0;
    if (t->dtype != DTYPE_I32 || t->n_dims != 1 || t->shape[0] < 1 ||
        t->shape[0] > (size_t)source->config.vocab || (uintptr_t)t->data % sizeof **ids)
        return err_set(err, ERR_INVALID,
                       "%s: tensor 'draft_ids' must be one row of 1 to %d numbers of type I32",
                       source->path, source->config.vocab);
    *ids = t->data;
    *n = (int)t->shape[0];
    return 0;
}

static const struct source_type type = {find, vocab, chat_template, rest, release, draft_ids};

int headway_source_open(struct source *source, struct err *err)
{
    source->type = &type;
    int rc = config_read(&source->config, source->path, err);
    if (rc)
        return rc;
    if (source->config.trunk && !source->heads)
        return err_set(
            err, ERR_INVALID,
            "%s holds heads without their trunk: name the model that they were trained for "
            "as the model, and this folder as its heads",
            source->path);
    char *path = file_join(source->path, "model.safetensors");
    struct safetensors *st = calloc(1, sizeof *st);
    rc = path && st ? safetensors_open(st, path, err)
                    : err_set(err, ERR_MEMORY, "%s: no memory left", source->path);
    if (!rc)
        source->data = st;
    else
        free(st);
    free(path);
    return rc;
}
