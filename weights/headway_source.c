/* headway's own folders: config.json, model.safetensors, and the tokens: tokenizer files, or none
 * for the bytes. */
#include <stdlib.h>
#include <string.h>

#include "weights/file.h"
#include "weights/safetensors.h"
#include "weights/source_backends.h"

static int find(const struct source *source, const struct place *place, int n_dims,
                const size_t *shape, struct matrix *matrix, struct err *err)
{
    char name[80];
    place_name(place, name, sizeof name);
    return matrix_find(source->data, name, n_dims, shape, matrix, err);
}

/* The bytes, and <|end|> before every text and behind every document. */
static int byte_vocab(const struct source *source, struct vocab *vocab, struct err *err)
{
    int rc = 0;
    if (source->config.vocab < 257)
        return err_set(err, ERR_INVALID,
                       "%s/config.json: field 'vocab' is %d, but the byte tokenizer needs 257",
                       source->path, source->config.vocab);
    vocab->kind = VOCAB_BYTES;
    for (int i = 0; i < 256 && !rc; i++)
        rc = vocab_add(vocab, &(char){(char)i}, 1, TOKEN_TEXT, 0, err);
    if (!rc)
        rc = vocab_add(vocab, "<|end|>", 7, TOKEN_CONTROL, 0, err);
    vocab->bos = source->config.bos;
    vocab->eos = source->config.eos;
    vocab->unknown = -1;
    vocab->add_bos = vocab->bos >= 0;
    if (vocab->eos >= 0)
        vocab->ends[vocab->n_ends++] = vocab->eos;
    return rc;
}

static int no_template(const struct source *source, struct buf *out, struct err *err)
{
    (void)source, (void)out, (void)err;
    return 0;
}

static void release(struct source *source)
{
    if (source->data)
        safetensors_release(source->data);
    free(source->data);
}

static const struct source_type type = {find, byte_vocab, no_template, release};

int headway_source_open(struct source *source, struct err *err)
{
    source->type = &type;
    int rc = config_read(&source->config, source->path, err);
    if (rc)
        return rc;
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
