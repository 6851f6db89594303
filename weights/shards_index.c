/* model.safetensors.index.json: see shards.h. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "weights/json_field.h"
#include "weights/shards.h"

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int by_tensor(const void *a, const void *b)
{
    return strcmp(((const struct shard_entry *)a)->tensor, ((const struct shard_entry *)b)->tensor);
}

static bool is_plain(const char *text)
{
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            return false;
    return true;
}

/* A name such as model-00001-of-00002.safetensors, that leads nowhere else. */
static int check_file(const char *file, const char *where, struct err *err)
{
    static const char end[] = ".safetensors";
    size_t len = strlen(file);
    if (!is_plain(file))
        return err_set(err, ERR_INVALID, "%s: the name of a file holds a control character", where);
    if (strchr(file, '/') || strchr(file, '\\') || file[0] == '.')
        return err_set(err, ERR_INVALID,
                       "%s names the file '%.100s', but files must lie in the index's own folder",
                       where, file);
    if (len < sizeof end || len > 255 || strcmp(file + len - strlen(end), end))
        return err_set(err, ERR_INVALID,
                       "%s names the file '%.100s', but only .safetensors files are read", where,
                       file);
    return 0;
}

/* The files named, each once. */
static int collect_files(struct shards_index *index, json_t *map, const char *where,
                         struct err *err)
{
    const char *tensor;
    json_t *value;
    const char **files = calloc(json_object_size(map) + 1, sizeof *files);
    size_t n = 0, unique = 0;
    int rc = 0;
    index->files = calloc(SHARD_FILES_MAX, sizeof *index->files);
    if (!files || !index->files)
        rc = err_set(err, ERR_MEMORY, "%s: no memory left", where);
    json_object_foreach(map, tensor, value)
    {
        if (!rc && !json_is_string(value))
            rc = err_set(err, ERR_INVALID, "%s: the file of tensor '%.100s' is not a string", where,
                         is_plain(tensor) ? tensor : "?");
        if (!rc)
            rc = check_file(json_string_value(value), where, err);
        if (!rc)
            files[n++] = json_string_value(value);
    }
    if (!rc)
        qsort(files, n, sizeof *files, by_text);
    for (size_t i = 0; i < n && !rc; i++) {
        if (i && !strcmp(files[i - 1], files[i]))
            continue;
        if (unique == SHARD_FILES_MAX)
            rc = err_set(err, ERR_INVALID, "%s names more than %d files", where, SHARD_FILES_MAX);
        else if (!(index->files[unique++] = strdup(files[i])))
            rc = err_set(err, ERR_MEMORY, "%s: no memory left", where);
        index->n_files = unique;
    }
    free(files);
    return rc;
}

static int collect_entries(struct shards_index *index, json_t *map, const char *where,
                           struct err *err)
{
    const char *tensor;
    json_t *value;
    index->entries = calloc(json_object_size(map) + 1, sizeof *index->entries);
    if (!index->entries)
        return err_set(err, ERR_MEMORY, "%s: no memory left", where);
    json_object_foreach(map, tensor, value)
    {
        const char *file = json_string_value(value);
        char **at = bsearch(&file, index->files, index->n_files, sizeof *index->files, by_text);
        struct shard_entry *entry = &index->entries[index->n_entries++];
        if (!is_plain(tensor))
            return err_set(err, ERR_INVALID, "%s: a tensor's name holds a control character",
                           where);
        entry->file = (size_t)(at - index->files);
        entry->tensor = strdup(tensor);
        if (!entry->tensor)
            return err_set(err, ERR_MEMORY, "%s: no memory left", where);
    }
    qsort(index->entries, index->n_entries, sizeof *index->entries, by_tensor);
    return 0;
}

int shards_index_parse(struct shards_index *index, const char *text, size_t size, const char *where,
                       struct err *err)
{
    json_t *root;
    *index = (struct shards_index){0};
    int rc = json_parse_object(text, size, where, &root, err);
    if (rc)
        return rc;
    json_t *map = json_object_get(root, "weight_map");
    if (!json_is_object(map))
        rc = err_set(err, ERR_INVALID, "%s must have an object 'weight_map': tensors and files",
                     where);
    if (!rc)
        rc = collect_files(index, map, where, err);
    if (!rc)
        rc = collect_entries(index, map, where, err);
    json_decref(root);
    if (rc)
        shards_index_release(index);
    return rc;
}

void shards_index_release(struct shards_index *index)
{
    for (size_t i = 0; i < index->n_entries; i++)
        free(index->entries[i].tensor);
    for (size_t i = 0; i < index->n_files; i++)
        free(index->files[i]);
    free(index->entries);
    free(index->files);
    *index = (struct shards_index){0};
}
