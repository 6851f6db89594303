/* Pickles as torch.save writes them for a state dict: a reader that builds nothing and calls
 * nothing. It knows the instructions of protocol 2 that such pickles consist of, and the few names
 * they refer to; anything else is refused by name:
 *
 *     collections.OrderedDict            torch._utils._rebuild_tensor_v2
 *     torch.{Float,BFloat16,Half,        torch._utils._rebuild_parameter
 *       Int,Long,Byte,Bool}Storage
 *
 * The pickle must end with a dictionary whose keys are strings. Its tensors are listed; plain
 * values beside them are passed over; a dictionary or list in it is refused, as weights may be
 * within. Format: Python's Lib/pickletools.py. An untrusted pickle takes at most about ten times
 * its size in memory, and no more than PICKLE_BYTES_MAX are read. Any thread. */
#ifndef WEIGHTS_PICKLE_H
#define WEIGHTS_PICKLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "weights/safetensors.h"

#define PICKLE_BYTES_MAX ((size_t)16 << 20)
#define PICKLE_TENSORS_MAX ((size_t)1 << 16)

/* A tensor as the pickle describes it; whether that fits its storage is the caller's to check. */
struct pickle_tensor {
    char *name;
    char *storage;    /* the storage's key, which names its file */
    enum dtype dtype; /* DTYPE_U8 for booleans too */
    int n_dims;
    uint64_t shape[TENSOR_DIMS_MAX];
    uint64_t strides[TENSOR_DIMS_MAX]; /* in elements */
    uint64_t offset;                   /* into the storage, in elements */
    uint64_t storage_elements;
};

struct pickle {
    struct pickle_tensor *tensors; /* sorted by name; names are unique and not empty */
    size_t n_tensors;
};

/* `where` names the pickle in errors. ERR_INVALID, ERR_MEMORY; on error *pickle is released. */
int pickle_parse(struct pickle *pickle, const void *bytes, size_t size, const char *where,
                 struct err *err);
void pickle_release(struct pickle *pickle);

#endif
