/* GGUF files: see gguf.h. */
#include "weights/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "weights/block.h"

#define KEY_MAX 65535
#define NAME_MAX_BYTES 255
#define ALIGNMENT_MAX ((size_t)1 << 20)

/* ---- bytes ---- */

/* What is left to read. */
struct cursor {
    const char *path;
    const unsigned char *at, *end;
};

static size_t left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

static int truncated(const struct cursor *c, const char *what, struct err *err)
{
    return err_set(err, ERR_INVALID, "%s: the file ends within %s: it is cut off or broken",
                   c->path, what);
}

static uint64_t little(const unsigned char *bytes, size_t size)
{
    uint64_t x = 0;
    for (size_t i = size; i-- > 0;)
        x = x << 8 | bytes[i];
    return x;
}

static int read_uint(struct cursor *c, size_t size, uint64_t *out, const char *what,
                     struct err *err)
{
    *out = 0;
    if (left(c) < size)
        return truncated(c, what, err);
    *out = little(c->at, size);
    c->at += size;
    return 0;
}

static int read_string(struct cursor *c, const char **out, size_t *len, const char *what,
                       struct err *err)
{
    uint64_t n;
    int rc = read_uint(c, 8, &n, what, err);
    *out = NULL;
    *len = 0;
    if (rc)
        return rc;
    if (n > left(c))
        return err_set(err, ERR_INVALID,
                       "%s: %s is said to have %ju bytes, but the file has only %zu more", c->path,
                       what, (uintmax_t)n, left(c));
    *out = (const char *)c->at;
    *len = (size_t)n;
    c->at += n;
    return 0;
}

static size_t type_size(enum gguf_type type)
{
    static const unsigned char sizes[GGUF_TYPES] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
        [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8};
    return sizes[type];
}

/* ---- values ---- */

static int skip_items(struct cursor *c, enum gguf_type type, size_t n, struct err *err)
{
    const char *text;
    size_t len, bytes;
    if (type != GGUF_STRING) {
        if (!size_mul(n, type_size(type), &bytes) || bytes > left(c))
            return truncated(c, "an array of its header", err);
        c->at += bytes;
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        int rc = read_string(c, &text, &len, "a string of its header", err);
        if (rc)
            return rc;
    }
    return 0;
}

static int read_type(struct cursor *c, const struct gguf_value *v, enum gguf_type *out,
                     struct err *err)
{
    uint64_t type = 0;
    int rc = read_uint(c, 4, &type, "a type of its header", err);
    if (!rc && type >= GGUF_TYPES)
        rc = err_set(err, ERR_INVALID, "%s: '%.*s' has the type %ju, which GGUF does not know",
                     c->path, (int)v->key_len, v->key, (uintmax_t)type);
    *out = (enum gguf_type)type;
    return rc;
}

static int read_value(struct cursor *c, struct gguf_value *v, struct err *err)
{
    uint64_t n = 1;
    int rc = read_string(c, &v->key, &v->key_len, "a key of its header", err);
    if (!rc && (v->key_len == 0 || v->key_len > KEY_MAX))
        rc = err_set(err, ERR_INVALID, "%s: a key of its header has %zu bytes, not 1 to %d",
                     c->path, v->key_len, KEY_MAX);
    if (!rc)
        rc = read_type(c, v, &v->type, err);
    if (rc)
        return rc;
    v->item = v->type;
    if (v->type == GGUF_ARRAY) {
        if ((rc = read_type(c, v, &v->item, err)) || (rc = read_uint(c, 8, &n, "an array", err)))
            return rc;
        if (v->item == GGUF_ARRAY)
            return err_set(err, ERR_INVALID, "%s: '%.*s' is an array of arrays", c->path,
                           (int)v->key_len, v->key);
        /* Any item takes a byte at least. */
        if (n > left(c))
            return err_set(err, ERR_INVALID,
                           "%s: '%.*s' is said to have %ju items, but the file has only %zu more "
                           "bytes",
                           c->path, (int)v->key_len, v->key, (uintmax_t)n, left(c));
    }
    v->n = (size_t)n;
    v->data = c->at;
    rc = skip_items(c, v->item, v->n, err);
    v->end = c->at;
    return rc;
}

/* ---- tensors ---- */

static int invalid_tensor(const struct cursor *c, const struct gguf_tensor *t, const char *what,
                          struct err *err)
{
    return err_set(err, ERR_INVALID, "%s: tensor '%.100s' %s", c->path, t->name, what);
}

/* Its bytes by its shape and type. */
static int tensor_size(const struct cursor *c, struct gguf_tensor *t, struct err *err)
{
    int type = block_type_of_ggml(t->ggml_type);
    size_t count = 1;
    for (int i = 0; i < t->n_dims; i++)
        if (!t->shape[i] || !size_mul(count, t->shape[i], &count))
            return invalid_tensor(c, t, "has a dimension of 0, or more elements than memory has",
                                  err);
    if (type < 0)
        return 0;
    const struct block_format *f = block_format((enum weight_type)type);
    if (t->shape[0] % (size_t)f->inputs)
        return err_set(err, ERR_INVALID,
                       "%s: tensor '%.100s' has rows of %zu elements, but %s has blocks of %d",
                       c->path, t->name, t->shape[0], block_ggml_name(t->ggml_type), f->inputs);
    if (!size_mul(count / (size_t)f->inputs, (size_t)f->bytes, &t->size))
        return invalid_tensor(c, t, "has more bytes than memory has", err);
    return 0;
}

static int read_tensor(struct cursor *c, struct gguf_tensor *t, struct err *err)
{
    const char *name;
    size_t len;
    uint64_t n, dim, type;
    int rc = read_string(c, &name, &len, "a tensor's name", err);
    if (rc)
        return rc;
    if (!len || len > NAME_MAX_BYTES || memchr(name, 0, len))
        return err_set(err, ERR_INVALID,
                       "%s: a tensor's name has %zu bytes, but must have 1 to %d and no NUL",
                       c->path, len, NAME_MAX_BYTES);
    t->name = strndup(name, len);
    if (!t->name)
        return err_set(err, ERR_MEMORY, "%s: no memory left", c->path);
    if ((rc = read_uint(c, 4, &n, "a tensor's shape", err)))
        return rc;
    if (n < 1 || n > GGUF_DIMS_MAX)
        return invalid_tensor(c, t, "does not have 1 to 4 dimensions", err);
    t->n_dims = (int)n;
    for (int i = 0; i < t->n_dims; i++) {
        if ((rc = read_uint(c, 8, &dim, "a tensor's shape", err)))
            return rc;
        t->shape[i] = (size_t)dim;
    }
    if ((rc = read_uint(c, 4, &type, "a tensor's type", err)) ||
        (rc = read_uint(c, 8, &t->offset, "a tensor's offset", err)))
        return rc;
    t->ggml_type = (uint32_t)type;
    return tensor_size(c, t, err);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct gguf_tensor *)a)->name, ((const struct gguf_tensor *)b)->name);
}

static int by_offset(const void *a, const void *b)
{
    uint64_t x = ((const struct gguf_tensor *)a)->offset;
    uint64_t y = ((const struct gguf_tensor *)b)->offset;
    return x < y ? -1 : x > y;
}

/* Puts tensors in their place in the data: aligned, inside, and apart. */
static int place_tensors(struct gguf *g, const struct cursor *c, size_t alignment, struct err *err)
{
    size_t begin = (size_t)(c->at - g->map), size, last = 0;
    begin = (begin + alignment - 1) / alignment * alignment;
    size = begin < g->map_size ? g->map_size - begin : 0;
    qsort(g->tensors, g->n_tensors, sizeof *g->tensors, by_offset);
    for (size_t i = 0; i < g->n_tensors; i++) {
        struct gguf_tensor *t = &g->tensors[i];
        if (t->offset % alignment)
            return err_set(err, ERR_INVALID,
                           "%s: tensor '%.100s' begins at %ju, which is no multiple of the "
                           "alignment, %zu",
                           c->path, t->name, (uintmax_t)t->offset, alignment);
        if (t->offset > size || t->size > size - t->offset)
            return invalid_tensor(c, t, "lies beyond the file's end: it is cut off or broken", err);
        if (t->offset < last)
            return invalid_tensor(c, t, "overlaps another", err);
        last = (size_t)t->offset + t->size;
        t->data = g->map + begin + t->offset;
    }
    qsort(g->tensors, g->n_tensors, sizeof *g->tensors, by_name);
    for (size_t i = 1; i < g->n_tensors; i++)
        if (!by_name(&g->tensors[i - 1], &g->tensors[i]))
            return invalid_tensor(c, &g->tensors[i], "is there twice", err);
    return 0;
}

/* ---- the file ---- */

/* A list of n records that take at least `least` bytes each in the file. */
static int make_list(const struct cursor *c, uint64_t n, size_t least, size_t size, void **list,
                     const char *what, struct err *err)
{
    if (n > left(c) / least)
        return err_set(err, ERR_INVALID,
                       "%s: it is said to have %ju %s, but the file has only %zu more bytes",
                       c->path, (uintmax_t)n, what, left(c));
    *list = calloc((size_t)n + 1, size);
    return *list ? 0 : err_set(err, ERR_MEMORY, "%s: no memory left for its header", c->path);
}

static int read_start(struct cursor *c, uint64_t *tensors, uint64_t *values, struct err *err)
{
    uint64_t magic, version;
    int rc;
    if ((rc = read_uint(c, 4, &magic, "its first bytes", err)) ||
        (rc = read_uint(c, 4, &version, "its first bytes", err)))
        return rc;
    if (magic != 0x46554747)
        return err_set(err, ERR_INVALID, "%s: this is not a GGUF file: it does not begin with GGUF",
                       c->path);
    if (version >= 0x10000)
        return err_set(err, ERR_INVALID, "%s: this GGUF file is big-endian: convert it first",
                       c->path);
    if (version != 2 && version != 3)
        return err_set(err, ERR_INVALID, "%s: version %ju of GGUF is not supported: only 2 and 3",
                       c->path, (uintmax_t)version);
    if ((rc = read_uint(c, 8, tensors, "its counts", err)))
        return rc;
    return read_uint(c, 8, values, "its counts", err);
}

static int check_keys(const struct gguf *g, struct err *err);

static int read_all(struct gguf *g, struct err *err)
{
    struct cursor c = {g->path, g->map, g->map + g->map_size};
    uint64_t tensors = 0, values = 0;
    int64_t alignment = 32;
    bool found;
    int rc = read_start(&c, &tensors, &values, err);
    if (!rc)
        rc = make_list(&c, values, 13, sizeof *g->values, (void **)&g->values, "values", err);
    for (; !rc && g->n_values < values; g->n_values++)
        rc = read_value(&c, &g->values[g->n_values], err);
    if (!rc)
        rc = check_keys(g, err);
    if (!rc)
        rc = make_list(&c, tensors, 32, sizeof *g->tensors, (void **)&g->tensors, "tensors", err);
    while (!rc && g->n_tensors < tensors)
        rc = read_tensor(&c, &g->tensors[g->n_tensors++], err);
    if (!rc)
        rc = gguf_get_int(g, "general.alignment", &alignment, &found, err);
    if (!rc && (alignment < 1 || (size_t)alignment > ALIGNMENT_MAX || alignment & (alignment - 1)))
        rc = err_set(err, ERR_INVALID,
                     "%s: 'general.alignment' is %jd, but must be a power of two up to %zu",
                     g->path, (intmax_t)alignment, ALIGNMENT_MAX);
    return rc ? rc : place_tensors(g, &c, (size_t)alignment, err);
}

int gguf_parse(struct gguf *g, const void *bytes, size_t size, const char *where, struct err *err)
{
    *g = (struct gguf){.map = bytes, .map_size = size, .path = strdup(where)};
    int rc = g->path ? read_all(g, err) : err_set(err, ERR_MEMORY, "%s: no memory left", where);
    if (rc)
        gguf_release(g);
    return rc;
}

int gguf_open(struct gguf *g, const char *path, struct err *err)
{
    struct mapping mapping;
    *g = (struct gguf){0};
    int rc = mapping_open(&mapping, path, err);
    if (rc)
        return rc;
    rc = gguf_parse(g, mapping.bytes ? (const void *)mapping.bytes : "", mapping.size, path, err);
    if (rc)
        mapping_release(&mapping);
    else
        g->mapping = mapping;
    return rc;
}

void gguf_release(struct gguf *g)
{
    for (size_t i = 0; i < g->n_tensors; i++)
        free(g->tensors[i].name);
    free(g->tensors);
    free(g->values);
    free(g->path);
    mapping_release(&g->mapping);
    *g = (struct gguf){0};
}

/* ---- looking up ---- */

const struct gguf_value *gguf_value(const struct gguf *g, const char *key)
{
    size_t len = strlen(key);
    for (size_t i = 0; i < g->n_values; i++)
        if (g->values[i].key_len == len && !memcmp(g->values[i].key, key, len))
            return &g->values[i];
    return NULL;
}

static int by_key(const void *a, const void *b)
{
    const struct gguf_value *x = *(const struct gguf_value *const *)a;
    const struct gguf_value *y = *(const struct gguf_value *const *)b;
    int order = memcmp(x->key, y->key, x->key_len < y->key_len ? x->key_len : y->key_len);
    return order ? order : (x->key_len > y->key_len) - (x->key_len < y->key_len);
}

/* A key that is there twice could be read in two ways. */
static int check_keys(const struct gguf *g, struct err *err)
{
    const struct gguf_value **sorted = calloc(g->n_values + 1, sizeof *sorted);
    if (!sorted)
        return err_set(err, ERR_MEMORY, "%s: no memory left for its header", g->path);
    for (size_t i = 0; i < g->n_values; i++)
        sorted[i] = &g->values[i];
    qsort(sorted, g->n_values, sizeof *sorted, by_key);
    int rc = 0;
    for (size_t i = 1; i < g->n_values && !rc; i++)
        if (!by_key(&sorted[i - 1], &sorted[i]))
            rc = err_set(err, ERR_INVALID, "%s: the key '%.*s' is there twice", g->path,
                         (int)sorted[i]->key_len, sorted[i]->key);
    free(sorted);
    return rc;
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name)
{
    struct gguf_tensor key = {.name = (char *)(uintptr_t)name};
    return g->n_tensors ? bsearch(&key, g->tensors, g->n_tensors, sizeof *g->tensors, by_name)
                        : NULL;
}

/* The value under `key`, or NULL with what to return: 0 where it may be missing. */
static const struct gguf_value *find(const struct gguf *g, const char *key, bool *found, int *rc,
                                     struct err *err)
{
    const struct gguf_value *v = gguf_value(g, key);
    if (found)
        *found = v != NULL;
    *rc = v || found ? 0 : err_set(err, ERR_INVALID, "%s: the key '%s' is missing", g->path, key);
    return v;
}

static int mistyped(const struct gguf *g, const char *key, const char *wanted, struct err *err)
{
    return err_set(err, ERR_INVALID, "%s: the value of '%s' must be %s", g->path, key, wanted);
}

static bool is_signed(enum gguf_type type)
{
    return type == GGUF_I8 || type == GGUF_I16 || type == GGUF_I32 || type == GGUF_I64;
}

static bool is_unsigned(enum gguf_type type)
{
    return type == GGUF_U8 || type == GGUF_U16 || type == GGUF_U32 || type == GGUF_U64;
}

static int64_t signed_number(const unsigned char *data, enum gguf_type type)
{
    size_t bits = 8 * type_size(type);
    return (int64_t)(little(data, bits / 8) << (64 - bits)) >> (64 - bits);
}

int gguf_get_int(const struct gguf *g, const char *key, int64_t *out, bool *found, struct err *err)
{
    int rc;
    const struct gguf_value *v = find(g, key, found, &rc, err);
    if (!v)
        return rc;
    if (is_signed(v->type))
        *out = signed_number(v->data, v->type);
    else if (is_unsigned(v->type) && little(v->data, type_size(v->type)) <= INT64_MAX)
        *out = (int64_t)little(v->data, type_size(v->type));
    else
        return mistyped(g, key, "a whole number", err);
    return 0;
}

static double real_number(const unsigned char *data, enum gguf_type type)
{
    uint64_t bits = little(data, type_size(type));
    uint32_t low = (uint32_t)bits;
    float f;
    double d;
    if (type == GGUF_F32) {
        memcpy(&f, &low, sizeof f);
        return (double)f;
    }
    memcpy(&d, &bits, sizeof d);
    return d;
}

int gguf_get_real(const struct gguf *g, const char *key, double *out, bool *found, struct err *err)
{
    int rc;
    const struct gguf_value *v = find(g, key, found, &rc, err);
    if (!v)
        return rc;
    if (v->type != GGUF_F32 && v->type != GGUF_F64)
        return mistyped(g, key, "a number", err);
    *out = real_number(v->data, v->type);
    return 0;
}

int gguf_get_bool(const struct gguf *g, const char *key, bool *out, bool *found, struct err *err)
{
    int rc;
    const struct gguf_value *v = find(g, key, found, &rc, err);
    if (!v)
        return rc;
    if (v->type != GGUF_BOOL)
        return mistyped(g, key, "true or false", err);
    *out = v->data[0] != 0;
    return 0;
}

int gguf_get_string(const struct gguf *g, const char *key, const char **out, size_t *len,
                    bool *found, struct err *err)
{
    int rc;
    const struct gguf_value *v = find(g, key, found, &rc, err);
    if (!v)
        return rc;
    if (v->type != GGUF_STRING)
        return mistyped(g, key, "a string", err);
    *len = (size_t)little(v->data, 8);
    *out = (const char *)v->data + 8;
    return 0;
}

int gguf_get_items(const struct gguf *g, const char *key, enum gguf_type type,
                   struct gguf_items *items, bool *found, struct err *err)
{
    int rc;
    const struct gguf_value *v = find(g, key, found, &rc, err);
    if (!v)
        return rc;
    if (v->type != GGUF_ARRAY || v->item != type)
        return mistyped(g, key, "an array of the right type", err);
    *items = (struct gguf_items){v->data, type, v->n};
    return 0;
}

const char *gguf_next_string(struct gguf_items *items, size_t *len)
{
    const char *text = (const char *)items->at + 8;
    *len = (size_t)little(items->at, 8);
    items->at += 8 + *len;
    return text;
}

double gguf_next_number(struct gguf_items *items)
{
    const unsigned char *at = items->at;
    items->at += type_size(items->type);
    if (is_signed(items->type))
        return (double)signed_number(at, items->type);
    if (is_unsigned(items->type) || items->type == GGUF_BOOL)
        return (double)little(at, type_size(items->type));
    return real_number(at, items->type);
}
