/* Files of torch.save: see torch_file.h. */
#include "weights/torch_file.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "weights/pickle.h"
#include "weights/zip.h"

/* What the parser of one file knows. */
struct reader {
    const char *where;
    struct zip zip;
    const char *folder; /* in the archive, with its slash, not terminated */
    size_t folder_len;
    struct err *err;
};

/* ---- the archive ---- */

/* FOLDER/NAME, or NULL. */
static const struct zip_entry *entry_of(const struct reader *r, const char *name)
{
    char path[1024];
    size_t len = strlen(name);
    if (len > sizeof path || r->folder_len > sizeof path - len)
        return NULL;
    memcpy(path, r->folder, r->folder_len);
    memcpy(path + r->folder_len, name, len);
    return zip_find(&r->zip, path, r->folder_len + len);
}

static bool ends_with(const struct zip_entry *entry, const char *end)
{
    size_t n = strlen(end);
    return entry->name_len >= n && !memcmp(entry->name + entry->name_len - n, end, n);
}

/* The only FOLDER/data.pkl; its folder is the archive's. */
static int find_pickle(struct reader *r, const struct zip_entry **pickle)
{
    *pickle = NULL;
    for (size_t i = 0; i < r->zip.n_entries; i++) {
        const struct zip_entry *e = &r->zip.entries[i];
        const char *slash = memchr(e->name, '/', e->name_len);
        if (!ends_with(e, "/data.pkl") || slash != e->name + e->name_len - strlen("/data.pkl"))
            continue;
        if (*pickle)
            return err_set(r->err, ERR_INVALID, "%s holds more than one data.pkl", r->where);
        *pickle = e;
        r->folder = e->name;
        r->folder_len = e->name_len - strlen("data.pkl");
    }
    if (!*pickle)
        return err_set(r->err, ERR_INVALID,
                       "%s is a ZIP archive without FOLDER/data.pkl: it was not written by "
                       "torch.save",
                       r->where);
    return 0;
}

static int check_archive(struct reader *r)
{
    const struct zip_entry *order = entry_of(r, "byteorder");
    if (order && (order->size != strlen("little") || memcmp(order->data, "little", order->size)))
        return err_set(r->err, ERR_INVALID,
                       "%s was written with the byte order '%.*s', but only little-endian files "
                       "are read: save it again on such a machine",
                       r->where, (int)(order->size < 20 ? order->size : 20),
                       (const char *)order->data);
    if (entry_of(r, "constants.pkl"))
        return err_set(r->err, ERR_INVALID,
                       "%s is a TorchScript program: save the model's state_dict() with torch.save "
                       "instead",
                       r->where);
    return 0;
}

/* Before torch 1.6 a file was a row of pickles, the first of them this number. */
static bool is_old_format(const unsigned char *bytes, size_t size)
{
    static const unsigned char magic[] = {0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c,
                                          0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    return size >= sizeof magic && !memcmp(bytes, magic, sizeof magic);
}

/* ---- tensors ---- */

/* Contiguous: each stride is the product of the later dimensions, where it is used at all. */
static bool is_contiguous(const struct pickle_tensor *p, size_t elements)
{
    uint64_t expected = 1;
    if (elements == 0)
        return true;
    for (int i = p->n_dims; i-- > 0;) {
        if (p->shape[i] != 1 && p->strides[i] != expected)
            return false;
        expected *= p->shape[i]; /* at most elements */
    }
    return true;
}

static int find_storage(struct reader *r, const struct pickle_tensor *p,
                        const struct zip_entry **storage)
{
    char name[512];
    size_t bytes;
    int n = snprintf(name, sizeof name, "data/%s", p->storage);
    *storage = (size_t)n < sizeof name ? entry_of(r, name) : NULL;
    if (!*storage)
        return err_set(r->err, ERR_INVALID,
                       "%s: tensor '%.100s' is in storage '%.60s', which the file does not hold",
                       r->where, p->name, p->storage);
    if (!size_mul(p->storage_elements, dtype_size(p->dtype), &bytes) || bytes != (*storage)->size)
        return err_set(r->err, ERR_INVALID,
                       "%s: tensor '%.100s' is in storage '%.60s' of %llu elements %s, but that "
                       "has %zu bytes",
                       r->where, p->name, p->storage, (unsigned long long)p->storage_elements,
                       dtype_name(p->dtype), (*storage)->size);
    return 0;
}

static int read_tensor(struct reader *r, struct pickle_tensor *p, struct tensor *t)
{
    const struct zip_entry *storage;
    size_t elements = 1;
    int rc = find_storage(r, p, &storage);
    if (rc)
        return rc;
    *t = (struct tensor){.dtype = p->dtype, .n_dims = p->n_dims};
    for (int i = 0; i < p->n_dims; i++) {
        t->shape[i] = p->shape[i];
        if (!size_mul(elements, p->shape[i], &elements))
            return err_set(r->err, ERR_INVALID,
                           "%s: tensor '%.100s' has a shape too large for this machine", r->where,
                           p->name);
    }
    if (p->offset > p->storage_elements || elements > p->storage_elements - p->offset)
        return err_set(r->err, ERR_INVALID,
                       "%s: tensor '%.100s' has %zu elements from element %llu of its storage, "
                       "which has %llu",
                       r->where, p->name, elements, (unsigned long long)p->offset,
                       (unsigned long long)p->storage_elements);
    if (!is_contiguous(p, elements))
        return err_set(r->err, ERR_INVALID,
                       "%s: tensor '%.100s' is a transposed or strided view: save its "
                       ".contiguous()",
                       r->where, p->name);
    /* in bytes all of it fits, as the storage does */
    t->size = elements * dtype_size(p->dtype);
    t->data = storage->data + p->offset * dtype_size(p->dtype);
    if ((uintptr_t)t->data % dtype_size(p->dtype))
        return err_set(r->err, ERR_INVALID,
                       "%s: tensor '%.100s' is not aligned in the file: write the file with "
                       "torch.save",
                       r->where, p->name);
    t->name = p->name;
    p->name = NULL;
    return 0;
}

static int read_tensors(struct torch_file *file, struct reader *r, struct pickle *pickle)
{
    file->tensors = calloc(pickle->n_tensors + 1, sizeof *file->tensors);
    if (!file->tensors)
        return err_set(r->err, ERR_MEMORY, "%s: no memory left", r->where);
    for (; file->n_tensors < pickle->n_tensors; file->n_tensors++) {
        size_t i = file->n_tensors;
        int rc = read_tensor(r, &pickle->tensors[i], &file->tensors[i]);
        if (rc)
            return rc;
    }
    return 0;
}

static int read_archive(struct torch_file *file, struct reader *r)
{
    const struct zip_entry *entry;
    struct pickle pickle = {0};
    int rc = find_pickle(r, &entry);
    if (!rc)
        rc = check_archive(r);
    if (rc)
        return rc;
    rc = pickle_parse(&pickle, entry->data, entry->size, "data.pkl", r->err);
    if (rc)
        return err_prefix(r->err, rc, "%s", r->where);
    rc = read_tensors(file, r, &pickle);
    pickle_release(&pickle);
    return rc;
}

/* ---- life ---- */

int torch_file_parse(struct torch_file *file, const void *bytes, size_t size, const char *where,
                     struct err *err)
{
    struct reader r = {.where = where, .err = err};
    *file = (struct torch_file){.path = strdup(where)};
    int rc = 0;
    if (!file->path)
        rc = err_set(err, ERR_MEMORY, "%s: no memory left", where);
    else if (is_old_format(bytes, size))
        rc = err_set(err, ERR_INVALID,
                     "%s is in the format of PyTorch before 1.6, which is not read: save it again "
                     "with a current PyTorch: torch.save(torch.load(path, map_location='cpu'), "
                     "path)",
                     where);
    if (!rc)
        rc = zip_parse(&r.zip, bytes, size, where, err);
    if (!rc)
        rc = read_archive(file, &r);
    zip_release(&r.zip);
    if (rc)
        torch_file_release(file);
    return rc;
}

int torch_file_open(struct torch_file *file, const char *path, struct err *err)
{
    struct mapping mapping;
    *file = (struct torch_file){0};
    int rc = mapping_open(&mapping, path, err);
    if (rc)
        return rc;
    rc = torch_file_parse(file, mapping.bytes, mapping.size, path, err);
    if (rc)
        mapping_release(&mapping);
    else
        file->mapping = mapping;
    return rc;
}

void torch_file_release(struct torch_file *file)
{
    for (size_t i = 0; i < file->n_tensors; i++)
        free(file->tensors[i].name);
    free(file->tensors);
    free(file->path);
    mapping_release(&file->mapping);
    *file = (struct torch_file){0};
}

/* ---- asking ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

const struct tensor *torch_file_find(const struct torch_file *file, const char *name)
{
    struct tensor key = {.name = (char *)name};
    return file->n_tensors
               ? bsearch(&key, file->tensors, file->n_tensors, sizeof *file->tensors, by_name)
               : NULL;
}
