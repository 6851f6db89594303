/* Meta's releases as models: params.json and consolidated.pth, the checkpoints of Gloeckle et al.
 * 2024 among them: the last layers[] is head 0, extra_heads[i - 1] is head i. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/file.h"
#include "weights/meta_config.h"
#include "weights/source_backends.h"
#include "weights/vocab_files.h"

static int find(const struct source *source, const struct place *place, int n_dims,
                const size_t *shape, struct matrix *m, struct err *err)
{
    const struct torch_file *file = source->data;
    struct place there = *place;
    char name[96];
    (void)shape;
    if (place->head == 0 && role_of_layer(place->role)) {
        there.head = -1;
        there.layer = source->config.n_layers;
    }
    place_name(&there, name, sizeof name);
    if (there.head > 0) { /* heads.3.layers.0.x is extra_heads.2.x */
        const char *last = strstr(name, ".layers.0.");
        char copy[96];
        snprintf(copy, sizeof copy, "%s", last ? last + strlen(".layers.0.") : name);
        snprintf(name, sizeof name, "extra_heads.%d.%.70s", there.head - 1, copy);
    }
    const struct tensor *t = torch_file_find(file, name);
    if (!t)
        return err_set(err, ERR_INVALID, "%s: tensor '%s' is missing", file->path, name);
    return matrix_of_tensor(m, t, n_dims, file->path, err);
}

static int vocab(const struct source *source, struct vocab *vocab, struct err *err)
{
    bool found;
    int rc = vocab_files_read(vocab, source->path, &found, err);
    if (!rc && !found)
        rc = err_set(err, ERR_INVALID,
                     "%s: there is no tokenizer.model, which says what the %d tokens are: copy it "
                     "there",
                     source->path, source->config.vocab);
    return rc;
}

static int chat_template(const struct source *source, struct buf *out, struct err *err)
{
    return template_files_read(out, source->path, err);
}

static void rest(const struct source *source)
{
    mapping_rest(&((const struct torch_file *)source->data)->mapping);
}

static void release(struct source *source)
{
    if (source->data)
        torch_file_release(source->data);
    free(source->data);
}

static const struct source_type type = {find, vocab, chat_template, rest, release, NULL};

int meta_source_open(struct source *source, struct err *err)
{
    struct meta_config meta;
    source->type = &type;
    int rc = meta_config_read(&meta, source->path, err);
    if (rc)
        return rc;
    char *path = file_join(source->path, "consolidated.pth");
    struct torch_file *file = calloc(1, sizeof *file);
    source->data = file;
    rc = path && file ? torch_file_open(file, path, err)
                      : err_set(err, ERR_MEMORY, "%s: no memory left", source->path);
    free(path);
    return rc ? rc : meta_config_fill(&source->config, &meta, file, err);
}
