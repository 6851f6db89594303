/* libFuzzer on model.safetensors.index.json: what is accepted is sorted and leads nowhere else. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "weights/shards.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct shards_index index;
    struct err err;
    if (shards_index_parse(&index, (const char *)bytes, size, "fuzz", &err))
        return 0;
    for (size_t i = 0; i < index.n_files; i++)
        if (strchr(index.files[i], '/') || index.files[i][0] == '.' || !index.files[i][0] ||
            (i && strcmp(index.files[i - 1], index.files[i]) >= 0))
            abort();
    for (size_t i = 0; i < index.n_entries; i++)
        if (index.entries[i].file >= index.n_files ||
            (i && strcmp(index.entries[i - 1].tensor, index.entries[i].tensor) >= 0))
            abort();
    shards_index_release(&index);
    return 0;
}
