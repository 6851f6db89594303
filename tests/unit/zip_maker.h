/* Small ZIP archives as torch.save writes them, for tests to damage. */
#ifndef TESTS_UNIT_ZIP_MAKER_H
#define TESTS_UNIT_ZIP_MAKER_H

#include "base/buf.h"
#include "tests/unit/unit.h"

#define MAKER_ENTRIES 8

struct zip_maker {
    struct buf bytes, directory;
    int n;
    size_t local[MAKER_ENTRIES],
        central[MAKER_ENTRIES]; /* central before zip_end: from its start */
    size_t end64, locator, end;
};

static inline void put_number(struct buf *buf, uint64_t value, int n)
{
    for (int i = 0; i < n; i++)
        buf_append(buf, &(char){(char)(value >> 8 * i)}, 1);
}

static inline void put_numbers(struct buf *buf, const uint64_t (*fields)[2], size_t n)
{
    for (size_t i = 0; i < n; i++)
        put_number(buf, fields[i][0], (int)fields[i][1]);
}

#define PUT(buf, ...)                                                                              \
    put_numbers(buf, (const uint64_t[][2]){__VA_ARGS__},                                           \
                sizeof((const uint64_t[][2]){__VA_ARGS__}) / sizeof(uint64_t[2]))

/* The data begins at a multiple of 64 bytes, by an extra field; sizes follow the data. */
static inline void zip_add(struct zip_maker *z, const char *name, const void *data, size_t size)
{
    size_t n = strlen(name), at = z->bytes.len;
    size_t extra = 4 + (64 - (at + 30 + n + 4) % 64) % 64;
    assert_true(z->n < MAKER_ENTRIES);
    z->local[z->n] = at;
    z->central[z->n++] = z->directory.len;
    PUT(&z->bytes, {0x04034b50, 4}, {0, 2}, {0x808, 2}, {0, 2}, {0, 4}, {0, 4}, {0, 4}, {0, 4},
        {n, 2}, {extra, 2});
    buf_append(&z->bytes, name, n);
    PUT(&z->bytes, {0x4246, 2}, {extra - 4, 2});
    for (size_t i = 4; i < extra; i++)
        buf_puts(&z->bytes, "Z");
    buf_append(&z->bytes, data, size);
    PUT(&z->bytes, {0x08074b50, 4}, {0, 4}, {size, 4}, {size, 4});
    PUT(&z->directory, {0x02014b50, 4}, {0, 4}, {0x808, 2}, {0, 2}, {0, 4}, {0, 4}, {size, 4},
        {size, 4}, {n, 2}, {0, 2}, {0, 2}, {0, 2}, {0, 2}, {0, 4}, {at, 4});
    buf_append(&z->directory, name, n);
}

static inline void zip_end(struct zip_maker *z)
{
    size_t at = z->bytes.len, size = z->directory.len;
    uint64_t n = (uint64_t)z->n;
    buf_append(&z->bytes, z->directory.data, size);
    for (int i = 0; i < z->n; i++)
        z->central[i] += at;
    z->end64 = z->bytes.len;
    PUT(&z->bytes, {0x06064b50, 4}, {44, 8}, {0x1e, 2}, {0x2d, 2}, {0, 4}, {0, 4}, {n, 8}, {n, 8},
        {size, 8}, {at, 8});
    z->locator = z->bytes.len;
    PUT(&z->bytes, {0x07064b50, 4}, {0, 4}, {z->end64, 8}, {1, 4});
    z->end = z->bytes.len;
    PUT(&z->bytes, {0x06054b50, 4}, {0, 2}, {0, 2}, {n, 2}, {n, 2}, {size, 4}, {at, 4}, {0, 2});
    assert_false(z->bytes.failed || z->directory.failed);
}

static inline void zip_patch(struct zip_maker *z, size_t at, uint64_t value, int n)
{
    assert_true(at + (size_t)n <= z->bytes.len);
    for (int i = 0; i < n; i++)
        z->bytes.data[at + (size_t)i] = (char)(value >> 8 * i);
}

static inline void zip_maker_release(struct zip_maker *z)
{
    buf_release(&z->bytes);
    buf_release(&z->directory);
}

#endif
