/* GGUF files, versions 2 and 3: a mapped read-only reader. Format:
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md - "GGUF", u32 version, u64 counts of
 * tensors and of values, the values (key, type, value), the tensors (name, dimensions, type,
 * offset), padding, data; all little-endian. A file is untrusted: nothing is read beyond its end,
 * counts are held against what is left of it, tensors must lie in the data, aligned and apart. Any
 * thread; a reader is immutable once open. */
#ifndef WEIGHTS_GGUF_H
#define WEIGHTS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "weights/mapping.h"

#define GGUF_DIMS_MAX 4

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPES
};

struct gguf_value {
    const char *key; /* in the file, not terminated */
    size_t key_len;
    enum gguf_type type;
    enum gguf_type item;       /* of an array */
    size_t n;                  /* items of an array, else 1 */
    const unsigned char *data; /* of the first; strings have their lengths before them */
    const unsigned char *end;  /* behind the last */
};

struct gguf_tensor {
    char *name;         /* owned by the reader */
    uint32_t ggml_type; /* block_type_of_ggml */
    int n_dims;
    size_t shape[GGUF_DIMS_MAX]; /* as in the file: inputs first, then outputs */
    uint64_t offset;             /* into the data */
    const unsigned char *data;
    size_t size; /* bytes; 0 for types that block.h does not know: their data is not looked at */
};

struct gguf {
    char *path; /* for error sentences */
    const unsigned char *map;
    size_t map_size;
    struct mapping mapping; /* gguf_open's */
    struct gguf_value *values;
    size_t n_values;
    struct gguf_tensor *tensors; /* sorted by name */
    size_t n_tensors;
};

/* Maps the file and reads its header. ERR_IO, ERR_INVALID, ERR_MEMORY; on error *gguf is released.
 */
int gguf_open(struct gguf *gguf, const char *path, struct err *err);
/* The same over bytes in memory, which must outlive *gguf (tests, fuzzing). */
int gguf_parse(struct gguf *gguf, const void *bytes, size_t size, const char *where,
               struct err *err);
void gguf_release(struct gguf *gguf);

/* NULL when there is none of that name. */
const struct gguf_value *gguf_value(const struct gguf *gguf, const char *key);
const struct gguf_tensor *gguf_tensor(const struct gguf *gguf, const char *name);

/* The value of a key: ERR_INVALID when it is there with another type; when it is missing, *found is
 * false and *out unchanged, or, with found NULL, ERR_INVALID. Whole numbers of any type, if they
 * fit. Strings are not terminated. */
int gguf_get_int(const struct gguf *gguf, const char *key, int64_t *out, bool *found,
                 struct err *err);
int gguf_get_real(const struct gguf *gguf, const char *key, double *out, bool *found,
                  struct err *err);
int gguf_get_bool(const struct gguf *gguf, const char *key, bool *out, bool *found,
                  struct err *err);
int gguf_get_string(const struct gguf *gguf, const char *key, const char **out, size_t *len,
                    bool *found, struct err *err);

/* Walks an array: next_* read item by item and must not be called more than n times. */
struct gguf_items {
    const unsigned char *at;
    enum gguf_type type;
    size_t n;
};
/* The items of the array under `key`, of type `type`. */
int gguf_get_items(const struct gguf *gguf, const char *key, enum gguf_type type,
                   struct gguf_items *items, bool *found, struct err *err);
const char *gguf_next_string(struct gguf_items *items, size_t *len);
double gguf_next_number(struct gguf_items *items);

#endif
