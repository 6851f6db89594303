/* libFuzzer on the safetensors reader: nothing it accepts may point outside the input. */
#include <stdlib.h>

#include "weights/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct safetensors st;
    struct err err;
    if (safetensors_parse(&st, bytes, size, "fuzz", &err))
        return 0;
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < st.n_tensors; i++) {
        const struct tensor *t = &st.tensors[i], *same;
        const uint8_t *data = t->data;
        if (data < bytes || data + t->size > bytes + size || safetensors_find(&st, t->name) != t)
            abort();
        for (size_t k = 0; k < t->size; k++)
            sum = (uint8_t)(sum + data[k]);
        safetensors_get(&st, t->name, t->n_dims, t->shape, &same, &err);
        safetensors_get(&st, t->name, 1, (size_t[]){1}, &same, &err);
    }
    safetensors_release(&st);
    return 0;
}
