/* Key/value memory. */
#include "model/kv.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"

int kv_init(struct kv *kv, const struct config *config, int n_blocks, int positions,
            struct err *err)
{
    *kv = (struct kv){.positions = (positions + 15) / 16 * 16,
                      .n_kv_heads = config->n_kv_heads,
                      .head_dim = config->head_dim};
    size_t per_position = (size_t)config->n_kv_heads * (size_t)config->head_dim * 2 * sizeof(float);
    bool fits = size_mul(per_position, (size_t)kv->positions, &kv->size) &&
                size_mul(kv->size, (size_t)(n_blocks ? n_blocks : 1), &kv->size);
    void *data = fits ? mmap(NULL, kv->size, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                      : MAP_FAILED;
    if (data == MAP_FAILED) {
        memset(kv, 0, sizeof *kv);
        return err_set(
            err, ERR_MEMORY,
            "no memory for the keys and values of %d positions: use a shorter context or "
            "fewer sequences",
            positions);
    }
    kv->data = data;
    return 0;
}

void kv_release(struct kv *kv)
{
    if (kv->data)
        munmap(kv->data, kv->size);
    memset(kv, 0, sizeof *kv);
}

void kv_put(struct kv *kv, int block, int g, int pos, const float *key, const float *value)
{
    assert(pos >= 0 && pos < kv->positions);
    size_t width = (size_t)kv->head_dim;
    float *keys = kv_keys(kv, block, g) + (size_t)(pos / 16) * width * 16 + pos % 16;
    for (size_t d = 0; d < width; d++)
        keys[d * 16] = key[d];
    memcpy(kv_values(kv, block, g) + (size_t)pos * width, value, width * sizeof(float));
}
