/* libFuzzer on files of torch.save, and on the pickle in them alone: nothing that is accepted may
 * point outside the input. */
#include <stdlib.h>
#include <string.h>

#include "weights/pickle.h"
#include "weights/torch_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_file(const uint8_t *bytes, size_t size)
{
    struct torch_file file;
    struct err err;
    if (torch_file_parse(&file, bytes, size, "fuzz", &err))
        return;
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < file.n_tensors; i++) {
        const struct tensor *t = &file.tensors[i];
        const uint8_t *data = t->data;
        size_t needed = dtype_size(t->dtype);
        for (int k = 0; k < t->n_dims; k++)
            needed *= t->shape[k];
        if (data < bytes || data > bytes + size || t->size > (size_t)(bytes + size - data) ||
            t->size != needed || torch_file_find(&file, t->name) != t)
            abort();
        for (size_t k = 0; k < t->size; k++)
            sum = (uint8_t)(sum + data[k]);
    }
    torch_file_release(&file);
}

static void check_pickle(const uint8_t *bytes, size_t size)
{
    struct pickle pickle;
    struct err err;
    if (pickle_parse(&pickle, bytes, size, "fuzz", &err))
        return;
    for (size_t i = 0; i < pickle.n_tensors; i++)
        if (!pickle.tensors[i].name[0] || pickle.tensors[i].n_dims > TENSOR_DIMS_MAX ||
            (i && strcmp(pickle.tensors[i - 1].name, pickle.tensors[i].name) >= 0))
            abort();
    pickle_release(&pickle);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    check_file(bytes, size);
    check_pickle(bytes, size);
    return 0;
}
