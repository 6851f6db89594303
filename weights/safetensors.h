/* Safetensors files: a mapped read-only reader and a writer.
 * Format: https://github.com/huggingface/safetensors - u64 little-endian header size, a JSON object
 * name -> {dtype, shape, data_offsets}, then the data. A file is untrusted: sizes are checked with
 * overflow-safe arithmetic, tensors must lie within the file, must not overlap, and their length
 * must equal shape times element size. Any thread; a reader is immutable once open. */
#ifndef WEIGHTS_SAFETENSORS_H
#define WEIGHTS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "weights/mapping.h"

enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_I32, DTYPE_I64, DTYPE_U8, DTYPE_BOOL };

#define TENSOR_DIMS_MAX 8

struct tensor {
    char *name; /* owned by the reader */
    enum dtype dtype;
    int n_dims; /* 0..TENSOR_DIMS_MAX */
    size_t shape[TENSOR_DIMS_MAX];
    size_t size;      /* bytes */
    const void *data; /* in the mapping; alignment only as the file has it (8 bytes or worse) */
};

struct safetensors {
    char *path; /* for error sentences */
    struct mapping mapping;
    struct tensor *tensors; /* sorted by name */
    size_t n_tensors;
};

size_t dtype_size(enum dtype dtype);      /* bytes per element */
const char *dtype_name(enum dtype dtype); /* as in the file: "F32", "BF16", ... */

/* Maps the file and reads its header. ERR_IO, ERR_INVALID, ERR_MEMORY; on error *st is released. */
int safetensors_open(struct safetensors *st, const char *path, struct err *err);
/* The same over bytes in memory, which must outlive *st (tests, fuzzing). */
int safetensors_parse(struct safetensors *st, const void *bytes, size_t size, const char *where,
                      struct err *err);
void safetensors_release(struct safetensors *st);

/* NULL when there is none of that name. */
const struct tensor *safetensors_find(const struct safetensors *st, const char *name);
/* The tensor of that name and exactly that shape, dtype F32 or BF16. ERR_INVALID with a sentence
 * that names the tensor, and the shape expected and found. */
int safetensors_get(const struct safetensors *st, const char *name, int n_dims, const size_t *shape,
                    const struct tensor **tensor, struct err *err);

/* The writer: declare every tensor (pointers must live until the end), then write at once.
 * data is in the dtype declared; for DTYPE_BF16 with f32_source set, f32 values that are rounded to
 * nearest even while writing. */
struct tensor_out {
    const char *name;
    enum dtype dtype;
    int n_dims;
    size_t shape[TENSOR_DIMS_MAX];
    const void *data;
    int f32_source; /* data is float*, whatever dtype says */
    /* In place of data: writes the tensor's bytes; errors stay in the stream. */
    void (*write)(void *arg, FILE *stream);
    void *write_arg;
};
/* n floats, rounded to bf16. */
void safetensors_put_bf16(const float *x, size_t n, FILE *stream);
/* Atomic: PATH.tmp is written, synced and renamed. Data begins at a multiple of 64 bytes and each
 * tensor too, as far as the format allows (header padded with spaces; tensors back to back in the
 * order given, so give sizes that are multiples of 64). metadata is a JSON object text for
 * "__metadata__" whose values are strings, or NULL. ERR_IO, ERR_INVALID. */
int safetensors_write(const char *path, const struct tensor_out *tensors, size_t n,
                      const char *metadata, struct err *err);

#endif
