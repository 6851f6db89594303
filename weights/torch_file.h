/* Files of torch.save that hold a state dict (consolidated.pth, pytorch_model.bin): a mapped
 * read-only reader. Such a file is a ZIP archive (zip.h) with these entries, all below one folder:
 *
 *     data.pkl     a pickle (pickle.h): the tensors' names, shapes and places
 *     data/KEY     the bytes of storage KEY
 *     byteorder    "little", if it is there
 *
 * Nothing in the file is run. It is untrusted: a storage must have the size that the pickle says,
 * tensors must lie within theirs, and be contiguous. Tensors may share storage, as tied ones do.
 * Any thread; a reader is immutable once open. */
#ifndef WEIGHTS_TORCH_FILE_H
#define WEIGHTS_TORCH_FILE_H

#include <stddef.h>

#include "base/err.h"
#include "weights/mapping.h"
#include "weights/safetensors.h"

struct torch_file {
    char *path; /* for error sentences */
    struct mapping mapping;
    struct tensor *tensors; /* sorted by name; aligned to their element size at least */
    size_t n_tensors;
};

/* Maps the file and reads its directory. ERR_IO, ERR_INVALID, ERR_MEMORY; on error *file is
 * released. */
int torch_file_open(struct torch_file *file, const char *path, struct err *err);
/* The same over bytes in memory, which must outlive *file (tests, fuzzing). */
int torch_file_parse(struct torch_file *file, const void *bytes, size_t size, const char *where,
                     struct err *err);
void torch_file_release(struct torch_file *file);

/* NULL when there is none of that name. */
const struct tensor *torch_file_find(const struct torch_file *file, const char *name);

#endif
