/* Directories of ZIP archives: see zip.h. Sizes in the format are 64 bits wide at most; a position
 * is only ever compared with what is left, so nothing overflows. */
#include "weights/zip.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    END_SIZE = 22,       /* end of central directory */
    LOCATOR_SIZE = 20,   /* where the zip64 end is */
    END64_SIZE = 56,     /* zip64 end of central directory, without extensions */
    CENTRAL_SIZE = 46,   /* an entry of the directory, without its name and extra fields */
    LOCAL_SIZE = 30,     /* an entry's own header, without them */
    EXTRA_ZIP64 = 0x0001 /* the extra field that holds what does not fit in 32 bits */
};

#define SIGNATURE_END 0x06054b50u
#define SIGNATURE_LOCATOR 0x07064b50u
#define SIGNATURE_END64 0x06064b50u
#define SIGNATURE_CENTRAL 0x02014b50u
#define SIGNATURE_LOCAL 0x04034b50u

#define FLAG_ENCRYPTED 1u
#define FLAG_SIZES_FOLLOW 8u /* the own header has zeroes, the true sizes follow the data */

/* What the parser of one archive knows. */
struct reader {
    const unsigned char *bytes;
    size_t size;
    const char *where;
    struct err *err;
    uint64_t n_entries, directory, directory_size; /* as the end record says */
};

static uint64_t little(const unsigned char *at, int n)
{
    uint64_t value = 0;
    for (int i = n; i-- > 0;)
        value = value << 8 | at[i];
    return value;
}

static unsigned u16(const unsigned char *at)
{
    return (unsigned)little(at, 2);
}

static uint32_t u32(const unsigned char *at)
{
    return (uint32_t)little(at, 4);
}

static uint64_t u64(const unsigned char *at)
{
    return little(at, 8);
}

/* ---- the end ---- */

/* The zip64 end record, which replaces the numbers of the old one. It must lie just before its
 * locator, at `at`. */
static int read_end64(struct reader *r, size_t at, size_t *end)
{
    const unsigned char *locator = r->bytes + at;
    uint64_t start = u64(locator + 8);
    if (start > at || at - start < END64_SIZE || u32(r->bytes + start) != SIGNATURE_END64 ||
        u64(r->bytes + start + 4) != at - start - 12)
        return err_set(r->err, ERR_INVALID,
                       "%s: the ZIP directory's 64-bit end record is said to be at byte %llu, but "
                       "is not there: the file is damaged",
                       r->where, (unsigned long long)start);
    const unsigned char *record = r->bytes + start;
    if (u32(record + 16) || u32(record + 20) || u64(record + 24) != u64(record + 32))
        return err_set(r->err, ERR_INVALID,
                       "%s is one part of a ZIP archive in several files, which are not read",
                       r->where);
    r->n_entries = u64(record + 32);
    r->directory_size = u64(record + 40);
    r->directory = u64(record + 48);
    *end = (size_t)start;
    return 0;
}

static int read_end(struct reader *r)
{
    if (r->size < END_SIZE || u32(r->bytes + r->size - END_SIZE) != SIGNATURE_END ||
        u16(r->bytes + r->size - 2) != 0)
        return err_set(r->err, ERR_INVALID,
                       "%s does not end with the directory of a ZIP archive: it is cut off or not "
                       "a ZIP archive",
                       r->where);
    size_t end = r->size - END_SIZE;
    const unsigned char *record = r->bytes + end;
    r->n_entries = u16(record + 10);
    r->directory_size = u32(record + 12);
    r->directory = u32(record + 16);
    if (end >= LOCATOR_SIZE && u32(record - LOCATOR_SIZE) == SIGNATURE_LOCATOR) {
        int rc = read_end64(r, end - LOCATOR_SIZE, &end);
        if (rc)
            return rc;
    } else if (u16(record + 4) || u16(record + 6) || u16(record + 8) != u16(record + 10)) {
        return err_set(r->err, ERR_INVALID,
                       "%s is one part of a ZIP archive in several files, which are not read",
                       r->where);
    }
    if (r->directory > end || r->directory_size != end - r->directory)
        return err_set(r->err, ERR_INVALID,
                       "%s: the ZIP directory is said to be the %llu bytes at %llu, but must end "
                       "at byte %zu of %zu: the file is damaged",
                       r->where, (unsigned long long)r->directory_size,
                       (unsigned long long)r->directory, end, r->size);
    if (r->n_entries > r->directory_size / CENTRAL_SIZE)
        return err_set(r->err, ERR_INVALID,
                       "%s: the ZIP directory is said to have %llu entries, too many for its %llu "
                       "bytes",
                       r->where, (unsigned long long)r->n_entries,
                       (unsigned long long)r->directory_size);
    return 0;
}

/* ---- one entry ---- */

/* What the directory says of an entry. */
struct central {
    const char *name;
    size_t name_len;
    unsigned flags, method;
    uint64_t packed, unpacked, local;
};

/* "'model/data/0'" for errors. */
#define NAME(c) (int)((c)->name_len < 100 ? (c)->name_len : 100), (c)->name

static int refuse_entry(struct reader *r, const struct central *c, const char *why)
{
    return err_set(r->err, ERR_INVALID, "%s: ZIP entry '%.*s' %s", r->where, NAME(c), why);
}

/* Takes from the zip64 field, in this order, what the fixed fields have no room for. False when it
 * is needed and not there. */
static bool read_extra(struct central *c, const unsigned char *extra, size_t len)
{
    uint64_t *const wide[] = {&c->unpacked, &c->packed, &c->local};
    const unsigned char *field = NULL;
    size_t left = 0;
    while (len >= 4 && !field) {
        size_t size = u16(extra + 2);
        if (size > len - 4)
            return false;
        if (u16(extra) == EXTRA_ZIP64) {
            field = extra + 4;
            left = size;
        }
        extra += 4 + size;
        len -= 4 + size;
    }
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        if (*wide[i] != UINT32_MAX)
            continue;
        if (left < 8)
            return false;
        *wide[i] = u64(field);
        field += 8;
        left -= 8;
    }
    return true;
}

/* The entry at *at, and *at behind it. */
static int read_central(struct reader *r, const unsigned char **at, size_t left, struct central *c)
{
    const unsigned char *h = *at;
    if (left < CENTRAL_SIZE || u32(h) != SIGNATURE_CENTRAL ||
        left - CENTRAL_SIZE < (size_t)u16(h + 28) + u16(h + 30) + u16(h + 32))
        return err_set(r->err, ERR_INVALID,
                       "%s: the ZIP directory has no entry at byte %zu, where one is due: the file "
                       "is damaged",
                       r->where, (size_t)(h - r->bytes));
    *c = (struct central){.name = (const char *)h + CENTRAL_SIZE,
                          .name_len = u16(h + 28),
                          .flags = u16(h + 8),
                          .method = u16(h + 10),
                          .packed = u32(h + 20),
                          .unpacked = u32(h + 24),
                          .local = u32(h + 42)};
    *at += (size_t)CENTRAL_SIZE + u16(h + 28) + u16(h + 30) + u16(h + 32);
    for (size_t i = 0; i < c->name_len; i++)
        if ((unsigned char)c->name[i] < ' ' || c->name[i] == 127)
            return err_set(r->err, ERR_INVALID,
                           "%s: the name of a ZIP entry holds a control character", r->where);
    if (!c->name_len)
        return err_set(r->err, ERR_INVALID, "%s: a ZIP entry has no name", r->where);
    if (!read_extra(c, h + CENTRAL_SIZE + c->name_len, u16(h + 30)))
        return refuse_entry(r, c, "has 64-bit sizes that are cut off");
    if (u16(h + 34) != 0)
        return refuse_entry(r, c, "lies in another file of an archive in several files");
    if (c->flags & FLAG_ENCRYPTED)
        return refuse_entry(r, c, "is encrypted");
    if (c->method != 0)
        return refuse_entry(r, c,
                            "is compressed, but weights are mapped and must be stored as they are: "
                            "write the file with torch.save");
    if (c->packed != c->unpacked)
        return refuse_entry(r, c, "is stored, but has two different sizes");
    return 0;
}

/* Whether an entry's own header `h` says what the directory says. PyTorch writes sizes of 0 there
 * and the true ones behind the data. */
static bool agrees(const struct central *c, const unsigned char *h)
{
    struct central own = {.packed = u32(h + 18), .unpacked = u32(h + 22)};
    if (u16(h + 26) != c->name_len || memcmp(h + LOCAL_SIZE, c->name, c->name_len) ||
        u16(h + 6) != c->flags || u16(h + 8) != c->method ||
        !read_extra(&own, h + LOCAL_SIZE + c->name_len, u16(h + 28)))
        return false;
    return (own.packed == c->packed && own.unpacked == c->unpacked) ||
           (own.packed == 0 && own.unpacked == 0 && c->flags & FLAG_SIZES_FOLLOW);
}

/* Finds the data by the entry's own header. */
static int read_local(struct reader *r, const struct central *c, struct zip_entry *entry)
{
    if (c->local > r->directory || r->directory - c->local < LOCAL_SIZE ||
        u32(r->bytes + c->local) != SIGNATURE_LOCAL)
        return err_set(r->err, ERR_INVALID,
                       "%s: ZIP entry '%.*s' is said to be at byte %llu, but is not there: the "
                       "file is damaged",
                       r->where, NAME(c), (unsigned long long)c->local);
    const unsigned char *h = r->bytes + c->local;
    uint64_t left = r->directory - c->local - LOCAL_SIZE;
    size_t before = (size_t)u16(h + 26) + u16(h + 28);
    if (left < before || left - before < c->unpacked)
        return err_set(r->err, ERR_INVALID,
                       "%s: ZIP entry '%.*s' has %llu bytes at byte %llu, more than there are "
                       "before the directory",
                       r->where, NAME(c), (unsigned long long)c->unpacked,
                       (unsigned long long)c->local);
    if (!agrees(c, h))
        return refuse_entry(r, c, "is described differently in the directory and at its place");
    *entry = (struct zip_entry){.name = c->name,
                                .name_len = c->name_len,
                                .data = h + LOCAL_SIZE + before,
                                .size = (size_t)c->unpacked,
                                .header = h};
    return 0;
}

/* ---- all entries ---- */

static int by_place(const void *a, const void *b)
{
    const struct zip_entry *x = a, *y = b;
    return (x->header > y->header) - (x->header < y->header);
}

static int by_name(const void *a, const void *b)
{
    const struct zip_entry *x = a, *y = b;
    int order = memcmp(x->name, y->name, x->name_len < y->name_len ? x->name_len : y->name_len);
    return order ? order : (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

static int refuse_overlap(struct zip *zip, struct reader *r)
{
    qsort(zip->entries, zip->n_entries, sizeof *zip->entries, by_place);
    for (size_t i = 1; i < zip->n_entries; i++) {
        const struct zip_entry *a = &zip->entries[i - 1], *b = &zip->entries[i];
        if (b->header < a->data + a->size)
            return err_set(r->err, ERR_INVALID, "%s: ZIP entries '%.*s' and '%.*s' overlap",
                           r->where, NAME(a), NAME(b));
    }
    return 0;
}

static int refuse_twins(struct zip *zip, struct reader *r)
{
    qsort(zip->entries, zip->n_entries, sizeof *zip->entries, by_name);
    for (size_t i = 1; i < zip->n_entries; i++)
        if (!by_name(&zip->entries[i - 1], &zip->entries[i]))
            return err_set(r->err, ERR_INVALID, "%s: there are two ZIP entries '%.*s'", r->where,
                           NAME(&zip->entries[i]));
    return 0;
}

static int read_directory(struct zip *zip, struct reader *r)
{
    const unsigned char *at = r->bytes + r->directory, *end = at + r->directory_size;
    zip->entries = calloc((size_t)r->n_entries + 1, sizeof *zip->entries);
    if (!zip->entries)
        return err_set(r->err, ERR_MEMORY, "%s: no memory left", r->where);
    while (zip->n_entries < r->n_entries) {
        struct central central;
        int rc = read_central(r, &at, (size_t)(end - at), &central);
        if (!rc)
            rc = read_local(r, &central, &zip->entries[zip->n_entries]);
        if (rc)
            return rc;
        zip->n_entries++;
    }
    if (at != end)
        return err_set(r->err, ERR_INVALID,
                       "%s: the ZIP directory has %zu bytes behind its %zu entries: the file is "
                       "damaged",
                       r->where, (size_t)(end - at), zip->n_entries);
    int rc = refuse_overlap(zip, r);
    return rc ? rc : refuse_twins(zip, r);
}

int zip_parse(struct zip *zip, const void *bytes, size_t size, const char *where, struct err *err)
{
    struct reader r = {.bytes = bytes, .size = size, .where = where, .err = err};
    *zip = (struct zip){0};
    int rc = read_end(&r);
    if (!rc)
        rc = read_directory(zip, &r);
    if (rc)
        zip_release(zip);
    return rc;
}

void zip_release(struct zip *zip)
{
    free(zip->entries);
    *zip = (struct zip){0};
}

const struct zip_entry *zip_find(const struct zip *zip, const char *name, size_t name_len)
{
    struct zip_entry key = {.name = name, .name_len = name_len};
    return zip->n_entries
               ? bsearch(&key, zip->entries, zip->n_entries, sizeof *zip->entries, by_name)
               : NULL;
}
