/* Several safetensors files as one: see shards.h. The index is read in shards_index.c. */
#include "weights/shards.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "weights/file.h"

#define INDEX_BYTES_MAX ((size_t)64 << 20)

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

static int open_file(struct shards *s, const char *folder, const char *name, struct err *err)
{
    char *path = file_join(folder, name);
    if (!path)
        return err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    int rc = safetensors_open(&s->files[s->n_files], path, err);
    if (!rc)
        s->n_files++;
    free(path);
    return rc;
}

/* ---- one file ---- */

static int open_single(struct shards *s, const char *folder, struct err *err)
{
    s->files = calloc(1, sizeof *s->files);
    if (!s->files)
        return err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    int rc = open_file(s, folder, "model.safetensors", err);
    if (rc)
        return rc;
    const struct safetensors *file = &s->files[0];
    s->tensors = calloc(file->n_tensors + 1, sizeof *s->tensors);
    if (!s->tensors)
        return err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    memcpy(s->tensors, file->tensors, file->n_tensors * sizeof *s->tensors);
    s->n_tensors = file->n_tensors;
    return 0;
}

/* ---- several ---- */

static const struct shard_entry *find_entry(const struct shards_index *index, const char *tensor)
{
    size_t low = 0, high = index->n_entries;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(index->entries[middle].tensor, tensor);
        if (order == 0)
            return &index->entries[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* A tensor in a file that the index does not give it would be there twice, or moved. */
static int refuse_strays(const struct shards *s, const struct shards_index *index, struct err *err)
{
    for (size_t f = 0; f < s->n_files; f++) {
        for (size_t i = 0; i < s->files[f].n_tensors; i++) {
            const struct shard_entry *e = find_entry(index, s->files[f].tensors[i].name);
            if (e && e->file != f)
                return err_set(err, ERR_INVALID,
                               "%s: tensor '%.100s' is to be in %s only, but %s has one too",
                               s->path, e->tensor, index->files[e->file], index->files[f]);
        }
    }
    return 0;
}

static int open_indexed(struct shards *s, const struct shards_index *index, const char *folder,
                        struct err *err)
{
    s->files = calloc(index->n_files + 1, sizeof *s->files);
    s->tensors = calloc(index->n_entries + 1, sizeof *s->tensors);
    if (!s->files || !s->tensors)
        return err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    for (size_t i = 0; i < index->n_files; i++) {
        int rc = open_file(s, folder, index->files[i], err);
        if (rc)
            return err_prefix(err, rc, "%s", s->path);
    }
    for (size_t i = 0; i < index->n_entries; i++) {
        const struct shard_entry *e = &index->entries[i];
        const struct tensor *t = safetensors_find(&s->files[e->file], e->tensor);
        if (!t)
            return err_set(err, ERR_INVALID, "%s: tensor '%.100s' is to be in %s, but is not there",
                           s->path, e->tensor, index->files[e->file]);
        s->tensors[s->n_tensors++] = *t;
    }
    return refuse_strays(s, index, err);
}

static int open_index(struct shards *s, const char *folder, struct err *err)
{
    struct shards_index index = {0};
    struct buf text = {0};
    int rc = file_read(&text, s->path, INDEX_BYTES_MAX, err);
    if (!rc)
        rc = shards_index_parse(&index, text.data ? text.data : "", text.len, s->path, err);
    buf_release(&text);
    if (!rc)
        rc = open_indexed(s, &index, folder, err);
    shards_index_release(&index);
    return rc;
}

/* ---- life ---- */

int shards_open(struct shards *shards, const char *folder, struct err *err)
{
    *shards = (struct shards){.path = file_join(folder, "model.safetensors")};
    int rc = 0;
    if (shards->path && access(shards->path, F_OK)) {
        free(shards->path);
        shards->path = file_join(folder, "model.safetensors.index.json");
        if (shards->path && access(shards->path, F_OK))
            rc = err_set(err, ERR_IO,
                         "%s has neither model.safetensors nor model.safetensors.index.json: save "
                         "the model with safe_serialization",
                         folder);
        else if (shards->path)
            rc = open_index(shards, folder, err);
    } else if (shards->path) {
        rc = open_single(shards, folder, err);
    }
    if (!shards->path)
        rc = err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    if (rc)
        shards_release(shards);
    return rc;
}

void shards_release(struct shards *shards)
{
    for (size_t i = 0; i < shards->n_files; i++)
        safetensors_release(&shards->files[i]);
    free(shards->files);
    free(shards->tensors);
    free(shards->path);
    *shards = (struct shards){0};
}

/* ---- asking ---- */

const struct tensor *shards_find(const struct shards *shards, const char *name)
{
    struct tensor key = {.name = (char *)name};
    return shards->n_tensors
               ? bsearch(&key, shards->tensors, shards->n_tensors, sizeof *shards->tensors, by_name)
               : NULL;
}
