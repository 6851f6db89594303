/* The tensors of a Hugging Face folder: model.safetensors, or the files that
 * model.safetensors.index.json names, opened as one list. The index is untrusted: the files it
 * names must lie in the folder itself, each tensor must be in the file that the index says, and in
 * no other. Tensors of the files that the index does not name are passed over. Any thread;
 * immutable once open. */
#ifndef WEIGHTS_SHARDS_H
#define WEIGHTS_SHARDS_H

#include <stddef.h>

#include "base/err.h"
#include "weights/safetensors.h"

#define SHARD_FILES_MAX 1024

/* What an index says: tensors sorted by name, and which of the files each is in. */
struct shards_index {
    struct shard_entry {
        char *tensor;
        size_t file;
    } * entries;
    size_t n_entries;
    char **files; /* names without a folder, sorted */
    size_t n_files;
};

/* From text in memory; `where` names it in errors. ERR_INVALID, ERR_MEMORY; on error *index is
 * released. */
int shards_index_parse(struct shards_index *index, const char *text, size_t size, const char *where,
                       struct err *err);
void shards_index_release(struct shards_index *index);

struct shards {
    char *path; /* of model.safetensors or the index, for error sentences */
    struct safetensors *files;
    size_t n_files;
    struct tensor *tensors; /* sorted by name; names and data belong to the files */
    size_t n_tensors;
};

/* model.safetensors if it is there, else the index. ERR_IO, ERR_INVALID, ERR_MEMORY; on error
 * *shards is released. */
int shards_open(struct shards *shards, const char *folder, struct err *err);
void shards_release(struct shards *shards);

/* NULL when there is none of that name. */
const struct tensor *shards_find(const struct shards *shards, const char *name);

#endif
