/* Key/value memory. */
#include "model/kv.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "model/kernels/kernels.h"
#include "weights/bf16.h"

static size_t element(enum weight_type type)
{
    return type == WEIGHT_F32 ? sizeof(float) : sizeof(uint16_t);
}

int kv_type_parse(const char *name, enum weight_type *type, struct err *err)
{
    *type = name && !strcmp(name, "f32") ? WEIGHT_F32 : WEIGHT_BF16;
    if (name && strcmp(name, weight_type_name(*type)) != 0)
        return err_set(err, ERR_INVALID, "'%s' is no type of keys and values: use %s", name,
                       KV_TYPE_NAMES);
    return 0;
}

size_t kv_position_bytes(const struct config *config, int n_blocks, enum weight_type type)
{
    size_t head = (size_t)config->head_dim + attention_value_stride(config->head_dim);
    return (size_t)n_blocks * (size_t)config->n_kv_heads * head * element(type);
}

int kv_init(struct kv *kv, const struct config *config, int n_blocks, int positions,
            enum weight_type type, struct err *err)
{
    assert(type == WEIGHT_F32 || type == WEIGHT_BF16);
    *kv = (struct kv){.type = type,
                      .positions = (positions + 15) / 16 * 16,
                      .n_kv_heads = config->n_kv_heads,
                      .head_dim = config->head_dim};
    size_t of_key = (size_t)config->head_dim * element(type);
    size_t of_value = attention_value_stride(config->head_dim) * element(type);
    size_t heads = (size_t)(n_blocks ? n_blocks : 1) * (size_t)config->n_kv_heads;
    bool fits = size_mul(of_key, (size_t)kv->positions, &kv->keys) &&
                size_mul(of_value, (size_t)kv->positions, &kv->values) &&
                size_mul(kv->keys + kv->values, heads, &kv->size);
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

void kv_put_key(struct kv *kv, int block, int g, int pos, const float *key)
{
    assert(pos >= 0 && pos < kv->positions);
    size_t width = (size_t)kv->head_dim, at = (size_t)pos % 16;
    size_t first = (size_t)pos / 16 * width * 16; /* of the block of positions */
    if (kv->type == WEIGHT_F32) {
        float *to = (float *)kv_keys(kv, block, g) + first + at;
        for (size_t d = 0; d < width; d++)
            to[d * 16] = key[d];
    } else {
        uint16_t *to = (uint16_t *)kv_keys(kv, block, g) + first + 2 * at;
        for (size_t d = 0; d < width; d += 2) {
            to[d * 16] = bf16_from_float(key[d]);
            to[d * 16 + 1] = bf16_from_float(key[d + 1]);
        }
    }
}

void kv_put_value(struct kv *kv, int block, int g, int pos, const float *value)
{
    assert(pos >= 0 && pos < kv->positions);
    size_t width = (size_t)kv->head_dim, first = (size_t)pos * attention_value_stride(kv->head_dim);
    if (kv->type == WEIGHT_F32) {
        memcpy((float *)kv_values(kv, block, g) + first, value, width * sizeof(float));
    } else {
        uint16_t *to = (uint16_t *)kv_values(kv, block, g) + first;
        for (size_t d = 0; d < width; d++)
            to[d / 32 * 32 + d % 16 * 2 + d / 16 % 2] = bf16_from_float(value[d]);
    }
}
