/* The safetensors reader: see safetensors.h. The writer is safetensors_write.c. */
#include "weights/safetensors.h"

#include <assert.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define HEADER_MAX ((uint64_t)100 << 20)

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [DTYPE_F32] = {"F32", 4},   [DTYPE_BF16] = {"BF16", 2}, [DTYPE_F16] = {"F16", 2},
    [DTYPE_I32] = {"I32", 4},   [DTYPE_I64] = {"I64", 8},   [DTYPE_U8] = {"U8", 1},
    [DTYPE_BOOL] = {"BOOL", 1},
};
#define N_DTYPES (sizeof dtypes / sizeof *dtypes)

size_t dtype_size(enum dtype dtype)
{
    assert((size_t)dtype < N_DTYPES);
    return dtypes[dtype].size;
}

const char *dtype_name(enum dtype dtype)
{
    assert((size_t)dtype < N_DTYPES);
    return dtypes[dtype].name;
}

/* ---- one entry of the header ---- */

/* What the parser of one file knows. */
struct reader {
    const char *where;
    const unsigned char *data; /* behind the header */
    size_t data_size;
    struct err *err;
};

static int read_dtype(struct reader *r, struct tensor *t, const json_t *entry)
{
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    if (!name)
        return err_set(r->err, ERR_INVALID, "%s: tensor '%.100s' has no dtype", r->where, t->name);
    for (size_t i = 0; i < N_DTYPES; i++) {
        if (!strcmp(name, dtypes[i].name)) {
            t->dtype = (enum dtype)i;
            return 0;
        }
    }
    return err_set(r->err, ERR_INVALID,
                   "%s: tensor '%.100s' has dtype '%.20s', but only F32, BF16, F16, I32, I64, U8 "
                   "and BOOL are known",
                   r->where, t->name, name);
}

/* Fills shape, and size as the shape and dtype demand it. */
static int read_shape(struct reader *r, struct tensor *t, const json_t *entry)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape))
        return err_set(r->err, ERR_INVALID, "%s: tensor '%.100s' has no shape", r->where, t->name);
    size_t n = json_array_size(shape);
    if (n > TENSOR_DIMS_MAX)
        return err_set(r->err, ERR_INVALID, "%s: tensor '%.100s' has %zu dimensions, at most %d go",
                       r->where, t->name, n, TENSOR_DIMS_MAX);
    t->n_dims = (int)n;
    t->size = dtype_size(t->dtype);
    for (size_t i = 0; i < n; i++) {
        const json_t *dim = json_array_get(shape, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return err_set(r->err, ERR_INVALID,
                           "%s: tensor '%.100s' has a shape whose entry %zu is not a whole number "
                           "of at least 0",
                           r->where, t->name, i);
        t->shape[i] = (size_t)json_integer_value(dim);
        if (!size_mul(t->size, t->shape[i], &t->size))
            return err_set(r->err, ERR_INVALID,
                           "%s: tensor '%.100s' has a shape too large for this machine", r->where,
                           t->name);
    }
    return 0;
}

static int read_offsets(struct reader *r, struct tensor *t, const json_t *entry)
{
    const json_t *pair = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(pair, 0), *last = json_array_get(pair, 1);
    if (json_array_size(pair) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return err_set(r->err, ERR_INVALID,
                       "%s: tensor '%.100s' must have data_offsets of two whole numbers", r->where,
                       t->name);
    long long begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || begin > end || (unsigned long long)end > r->data_size)
        return err_set(r->err, ERR_INVALID,
                       "%s: tensor '%.100s' lies at bytes %lld to %lld, but the file has %zu bytes "
                       "of data",
                       r->where, t->name, begin, end, r->data_size);
    if ((size_t)(end - begin) != t->size)
        return err_set(r->err, ERR_INVALID,
                       "%s: tensor '%.100s' has %lld bytes of data, but its shape needs %zu",
                       r->where, t->name, end - begin, t->size);
    t->data = r->data + begin;
    return 0;
}

static int read_tensor(struct reader *r, struct tensor *t, const char *name, const json_t *entry)
{
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            return err_set(r->err, ERR_INVALID, "%s: a tensor's name holds a control character",
                           r->where);
    t->name = strdup(name);
    if (!t->name)
        return err_set(r->err, ERR_MEMORY, "%s: no memory left", r->where);
    if (!json_is_object(entry))
        return err_set(r->err, ERR_INVALID, "%s: tensor '%.100s' is not described by an object",
                       r->where, t->name);
    int rc = read_dtype(r, t, entry);
    if (!rc)
        rc = read_shape(r, t, entry);
    return rc ? rc : read_offsets(r, t, entry);
}

/* ---- the header ---- */

static int by_place(const void *a, const void *b)
{
    const struct tensor *s = a, *t = b;
    const char *p = s->data, *q = t->data;
    return p != q ? (p > q) - (p < q) : (s->size > t->size) - (s->size < t->size);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

static int refuse_overlap(struct safetensors *st, struct reader *r)
{
    qsort(st->tensors, st->n_tensors, sizeof *st->tensors, by_place);
    for (size_t i = 1; i < st->n_tensors; i++) {
        const struct tensor *s = &st->tensors[i - 1], *t = &st->tensors[i];
        if ((const char *)t->data < (const char *)s->data + s->size)
            return err_set(r->err, ERR_INVALID, "%s: tensors '%.100s' and '%.100s' overlap",
                           r->where, s->name, t->name);
    }
    return 0;
}

static int read_entries(struct safetensors *st, struct reader *r, json_t *header)
{
    const char *name;
    json_t *entry;
    st->tensors = calloc(json_object_size(header) + 1, sizeof *st->tensors);
    if (!st->tensors)
        return err_set(r->err, ERR_MEMORY, "%s: no memory left", r->where);
    json_object_foreach(header, name, entry)
    {
        if (!strcmp(name, "__metadata__"))
            continue;
        int rc = read_tensor(r, &st->tensors[st->n_tensors++], name, entry);
        if (rc)
            return rc;
    }
    int rc = refuse_overlap(st, r);
    qsort(st->tensors, st->n_tensors, sizeof *st->tensors, by_name);
    return rc;
}

static int read_header(struct safetensors *st, const unsigned char *bytes, size_t size,
                       struct reader *r)
{
    uint64_t length = 0;
    json_error_t error;
    if (size < 8)
        return err_set(r->err, ERR_INVALID, "%s has %zu bytes, too few for a safetensors file",
                       r->where, size);
    for (int i = 7; i >= 0; i--)
        length = length << 8 | bytes[i];
    if (length > size - 8 || length > HEADER_MAX)
        return err_set(r->err, ERR_INVALID,
                       "%s has a header of %llu bytes, but the file has %zu and a header at most "
                       "%llu: it is cut off or not a safetensors file",
                       r->where, (unsigned long long)length, size, (unsigned long long)HEADER_MAX);
    r->data = bytes + 8 + length;
    r->data_size = size - 8 - length;
    json_t *header = json_loadb((const char *)bytes + 8, length, JSON_REJECT_DUPLICATES, &error);
    if (!header || !json_is_object(header) || bytes[8] != '{') {
        json_decref(header);
        return err_set(r->err, ERR_INVALID, "%s: the header must be one JSON object: %s", r->where,
                       header ? "it does not begin with {" : error.text);
    }
    int rc = read_entries(st, r, header);
    json_decref(header);
    return rc;
}

int safetensors_parse(struct safetensors *st, const void *bytes, size_t size, const char *where,
                      struct err *err)
{
    struct reader r = {.where = where, .err = err};
    *st = (struct safetensors){.path = strdup(where)};
    int rc = st->path ? read_header(st, bytes, size, &r)
                      : err_set(err, ERR_MEMORY, "%s: no memory left", where);
    if (rc)
        safetensors_release(st);
    return rc;
}

/* ---- life ---- */

int safetensors_open(struct safetensors *st, const char *path, struct err *err)
{
    struct mapping mapping;
    *st = (struct safetensors){0};
    int rc = mapping_open(&mapping, path, err);
    if (rc)
        return rc;
    rc = safetensors_parse(st, mapping.bytes, mapping.size, path, err);
    if (rc)
        mapping_release(&mapping);
    else
        st->mapping = mapping; /* only a reader that mapped has one */
    return rc;
}

void safetensors_release(struct safetensors *st)
{
    for (size_t i = 0; i < st->n_tensors; i++)
        free(st->tensors[i].name);
    free(st->tensors);
    free(st->path);
    mapping_release(&st->mapping);
    *st = (struct safetensors){0};
}

/* ---- asking ---- */

const struct tensor *safetensors_find(const struct safetensors *st, const char *name)
{
    struct tensor key = {.name = (char *)name};
    return st->n_tensors ? bsearch(&key, st->tensors, st->n_tensors, sizeof *st->tensors, by_name)
                         : NULL;
}

/* "[3, 4]" for error sentences. */
static void shape_text(char text[static 200], int n_dims, const size_t *shape)
{
    size_t n = (size_t)snprintf(text, 200, "[");
    for (int i = 0; i < n_dims; i++)
        n += (size_t)snprintf(text + n, 200 - n, "%s%zu", i ? ", " : "", shape[i]);
    snprintf(text + n, 200 - n, "]");
}

int safetensors_get(const struct safetensors *st, const char *name, int n_dims, const size_t *shape,
                    const struct tensor **tensor, struct err *err)
{
    char expected[200], found[200];
    assert(n_dims >= 0 && n_dims <= TENSOR_DIMS_MAX);
    shape_text(expected, n_dims, shape);
    const struct tensor *t = safetensors_find(st, name);
    if (!t)
        return err_set(err, ERR_INVALID, "%s: tensor '%s' of shape %s is missing", st->path, name,
                       expected);
    bool same = t->n_dims == n_dims;
    for (int i = 0; i < n_dims && same; i++)
        same = t->shape[i] == shape[i];
    shape_text(found, t->n_dims, t->shape);
    if (!same)
        return err_set(err, ERR_INVALID, "%s: tensor '%s' has shape %s, but must have %s", st->path,
                       name, found, expected);
    if (t->dtype != DTYPE_F32 && t->dtype != DTYPE_BF16)
        return err_set(err, ERR_INVALID, "%s: tensor '%s' has dtype %s, but must have F32 or BF16",
                       st->path, name, dtype_name(t->dtype));
    *tensor = t;
    return 0;
}
