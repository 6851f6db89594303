/* The directory of ZIP archives: what torch.save and others write is read; lies about places and
 * sizes are refused, and damage never crashes (the address sanitizer looks on). */
#include "weights/zip.h"

#include "base/rng.h"
#include "tests/unit/zip_maker.h"

static void make(struct zip_maker *z)
{
    *z = (struct zip_maker){0};
    zip_add(z, "m/data.pkl", "pickle", 6);
    zip_add(z, "m/data/0", "0123456789", 10);
    zip_add(z, "m/empty", "", 0);
    zip_end(z);
}

/* In a block of just the size, for the sanitizer. */
static int parse(const struct zip_maker *z, size_t size, struct zip *zip, char **copy,
                 struct err *err)
{
    *copy = malloc(size ? size : 1);
    memcpy(*copy, z->bytes.data, size);
    return zip_parse(zip, *copy, size, "here.zip", err);
}

static void reads_entries(void **state)
{
    (void)state;
    struct zip_maker z;
    struct zip zip;
    struct err err;
    char *copy;
    make(&z);
    assert_ok(parse(&z, z.bytes.len, &zip, &copy, &err), err);
    assert_int_equal(zip.n_entries, 3);
    const struct zip_entry *e = zip_find(&zip, "m/data/0", 8);
    assert_non_null(e);
    assert_int_equal(e->size, 10);
    assert_memory_equal(e->data, "0123456789", 10);
    assert_int_equal((e->data - (unsigned char *)copy) % 64, 0);
    assert_int_equal(zip_find(&zip, "m/empty", 7)->size, 0);
    assert_null(zip_find(&zip, "m/data/0", 7));
    assert_null(zip_find(&zip, "m/data/1", 8));
    zip_release(&zip);
    assert_null(zip_find(&zip, "m", 1));
    free(copy);
    zip_maker_release(&z);
}

/* Without the 64-bit records, and with sizes in the entries' own headers. */
static void reads_plain_archives(void **state)
{
    (void)state;
    struct zip_maker z;
    struct zip zip;
    struct err err;
    char *copy;
    make(&z);
    memmove(z.bytes.data + z.end64, z.bytes.data + z.end, 22);
    z.bytes.len -= z.end - z.end64;
    zip_patch(&z, z.local[1] + 18, 10, 4);
    zip_patch(&z, z.local[1] + 22, 10, 4);
    assert_ok(parse(&z, z.bytes.len, &zip, &copy, &err), err);
    assert_int_equal(zip.n_entries, 3);
    zip_release(&zip);
    free(copy);
    zip_maker_release(&z);
}

/* Numbers that do not fit in 32 bits stand in an extra field of the directory. */
static void reads_wide_numbers(void **state)
{
    (void)state;
    struct zip_maker z = {0};
    struct zip zip;
    struct err err;
    char *copy;
    zip_add(&z, "m/a", "first", 5);
    zip_add(&z, "m/b", "second", 6);
    for (int cut = 0; cut < 3; cut++) {
        struct zip_maker w = {.n = z.n, .local = {z.local[0], z.local[1]}};
        memcpy(w.central, z.central, sizeof z.central);
        buf_append(&w.bytes, z.bytes.data, z.bytes.len);
        buf_append(&w.directory, z.directory.data, z.directory.len);
        PUT(&w.directory, {0x7777, 2}, {1, 2}, {9, 1}, {1, 2}, {cut == 1 ? 16 : 24, 2}, {6, 8},
            {cut == 2 ? UINT64_MAX : 6, 8}, {w.local[1], 8});
        zip_end(&w);
        zip_patch(&w, w.central[1] + 20, UINT32_MAX, 4);
        zip_patch(&w, w.central[1] + 24, UINT32_MAX, 4);
        zip_patch(&w, w.central[1] + 30, 5 + 4 + 24, 2);
        zip_patch(&w, w.central[1] + 42, UINT32_MAX, 4);
        int rc = parse(&w, w.bytes.len, &zip, &copy, &err);
        assert_int_equal(rc, cut ? ERR_INVALID : 0);
        if (!rc)
            assert_memory_equal(zip_find(&zip, "m/b", 3)->data, "second", 6);
        else
            assert_says(err, cut == 1 ? "64-bit sizes that are cut off" : "two different sizes");
        zip_release(&zip);
        free(copy);
        zip_maker_release(&w);
    }
    zip_maker_release(&z);
}

enum part { LOCAL, CENTRAL, END64, LOCATOR, END };

/* Patches to entry 1 ("m/data/0", 10 bytes) or an end record. */
static const struct {
    enum part part;
    int at, n;
    uint64_t value;
    const char *says;
} hostile[] = {
    /* places of records */
    {END, 0, 4, 0, "not a ZIP archive"},
    {END, 20, 2, 1, "not a ZIP archive"}, /* a comment that is not there */
    {LOCATOR, 8, 8, 0, "64-bit end record"},
    {LOCATOR, 8, 8, UINT64_MAX, "64-bit end record"},
    {LOCATOR, 8, 8, UINT64_MAX - 55, "64-bit end record"},
    {END64, 0, 4, 0, "64-bit end record"},
    {END64, 4, 8, 45, "64-bit end record"},
    {END64, 4, 8, UINT64_MAX, "64-bit end record"},
    {END64, 16, 4, 1, "several files"},
    {END64, 20, 4, 1, "several files"},
    {END64, 24, 8, 4, "several files"},
    /* counts and sizes of the directory */
    {END64, 40, 8, UINT64_MAX, "directory is said to be"},
    {END64, 40, 8, 1ull << 60, "directory is said to be"},
    {END64, 40, 8, 1, "directory is said to be"},
    {END64, 48, 8, UINT64_MAX, "directory is said to be"},
    {END64, 48, 8, 1ull << 60, "directory is said to be"},
    {END64, 48, 8, 0, "directory is said to be"},
    /* entries of the directory */
    {CENTRAL, 0, 4, 0, "where one is due"},
    {CENTRAL, 28, 2, 65535, "where one is due"},
    {CENTRAL, 30, 2, 65535, "where one is due"},
    {CENTRAL, 32, 2, 65535, "where one is due"},
    {CENTRAL, 8, 2, 0x809, "encrypted"},
    {CENTRAL, 10, 2, 8, "compressed"},
    {CENTRAL, 10, 2, 93, "compressed"},
    {CENTRAL, 20, 4, 9, "two different sizes"},
    {CENTRAL, 24, 4, 11, "two different sizes"},
    {CENTRAL, 24, 4, UINT32_MAX, "cut off"},
    {CENTRAL, 42, 4, UINT32_MAX, "cut off"},
    {CENTRAL, 42, 4, UINT32_MAX - 1, "is not there"},
    {CENTRAL, 42, 4, 0, "described differently"},
    {CENTRAL, 42, 4, 1, "is not there"},
    {CENTRAL, 34, 2, 1, "another file"},
    {CENTRAL, 46, 1, '\n', "control character"},
    {CENTRAL, 46, 1, 0, "control character"},
    {CENTRAL, 46, 1, 'n', "described differently"},
    /* the entry's own header */
    {LOCAL, 0, 4, 0, "is not there"},
    {LOCAL, 6, 2, 0, "described differently"},
    {LOCAL, 8, 2, 8, "described differently"},
    {LOCAL, 18, 4, 9, "described differently"},
    {LOCAL, 22, 4, 11, "described differently"},
    {LOCAL, 18, 4, UINT32_MAX, "described differently"},
    {LOCAL, 26, 2, 7, "described differently"},
    {LOCAL, 26, 2, 65535, "more than there are"},
    {LOCAL, 28, 2, 65535, "more than there are"},
    {LOCAL, 30, 1, 'n', "described differently"},
};

static void refuses_lies(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        struct zip_maker z;
        struct zip zip;
        struct err err = {""};
        char *copy;
        make(&z);
        size_t parts[] = {z.local[1], z.central[1], z.end64, z.locator, z.end};
        zip_patch(&z, parts[hostile[i].part] + (size_t)hostile[i].at, hostile[i].value,
                  hostile[i].n);
        int rc = parse(&z, z.bytes.len, &zip, &copy, &err);
        if (!rc)
            fail_msg("case %zu is not refused: %s", i, hostile[i].says);
        assert_int_equal(rc, ERR_INVALID);
        assert_says(err, hostile[i].says);
        assert_says(err, "here.zip");
        free(copy);
        zip_maker_release(&z);
    }
}

/* Both counts agree, so that only the number itself is wrong. */
static void refuses_wrong_counts(void **state)
{
    (void)state;
    static const struct {
        uint64_t n;
        const char *says;
    } counts[] = {{2, "behind its 2 entries"},
                  {0, "behind its 0 entries"},
                  {4, "too many"},
                  {1ull << 60, "too many"},
                  {UINT64_MAX, "too many"},
                  {UINT64_MAX / 46 + 1, "too many"},
                  {UINT64_MAX / 48 + 1, "too many"}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct zip_maker z;
        struct zip zip;
        struct err err = {""};
        char *copy;
        make(&z);
        zip_patch(&z, z.end64 + 24, counts[i].n, 8);
        zip_patch(&z, z.end64 + 32, counts[i].n, 8);
        assert_int_equal(parse(&z, z.bytes.len, &zip, &copy, &err), ERR_INVALID);
        assert_says(err, counts[i].says);
        free(copy);
        zip_maker_release(&z);
    }
}

static void refuses_overlap_and_twins(void **state)
{
    (void)state;
    struct zip_maker z;
    struct zip zip;
    struct err err;
    char *copy;
    make(&z); /* the first entry's data grows over the second's header */
    zip_patch(&z, z.central[0] + 20, 100, 4);
    zip_patch(&z, z.central[0] + 24, 100, 4);
    assert_int_equal(parse(&z, z.bytes.len, &zip, &copy, &err), ERR_INVALID);
    assert_says(err, "'m/data.pkl' and 'm/data/0' overlap");
    free(copy);
    zip_maker_release(&z);

    z = (struct zip_maker){0};
    zip_add(&z, "m/a", "1", 1);
    zip_add(&z, "m/a", "2", 1);
    zip_end(&z);
    assert_int_equal(parse(&z, z.bytes.len, &zip, &copy, &err), ERR_INVALID);
    assert_says(err, "two ZIP entries 'm/a'");
    free(copy);
    zip_patch(&z, z.central[1] + 42, 0, 4); /* both at the first: twice the same bytes */
    assert_int_equal(parse(&z, z.bytes.len, &zip, &copy, &err), ERR_INVALID);
    assert_says(err, "overlap");
    free(copy);
    zip_maker_release(&z);
}

static void refuses_every_prefix(void **state)
{
    (void)state;
    struct zip_maker z;
    struct zip zip;
    struct err err;
    make(&z);
    for (size_t n = 0; n < z.bytes.len; n++) {
        char *copy;
        assert_int_equal(parse(&z, n, &zip, &copy, &err), ERR_INVALID);
        assert_says(err, "here.zip");
        free(copy);
    }
    assert_int_equal(zip_parse(&zip, NULL, 0, "here.zip", &err), ERR_INVALID);
    zip_maker_release(&z);
}

static void damage_never_crashes(void **state)
{
    (void)state;
    struct zip_maker z;
    size_t accepted = 0;
    make(&z);
    for (uint64_t i = 0; i < 50000; i++) {
        struct zip zip;
        struct err err;
        char *copy = malloc(z.bytes.len);
        memcpy(copy, z.bytes.data, z.bytes.len);
        for (uint64_t k = 0; k < 1 + i % 3; k++)
            copy[rng_below(21, k, i, z.bytes.len)] ^= (char)(1 << rng_below(22, k, i, 8));
        volatile unsigned char sum = 0;
        if (!zip_parse(&zip, copy, z.bytes.len, "damaged", &err)) {
            accepted++;
            for (size_t e = 0; e < zip.n_entries; e++)
                for (size_t b = 0; b < zip.entries[e].size; b++)
                    sum = (unsigned char)(sum + zip.entries[e].data[b]);
            zip_release(&zip);
        }
        free(copy);
    }
    assert_in_range(accepted, 1000, 49000);
    zip_maker_release(&z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_entries),        cmocka_unit_test(reads_plain_archives),
        cmocka_unit_test(reads_wide_numbers),   cmocka_unit_test(refuses_lies),
        cmocka_unit_test(refuses_wrong_counts), cmocka_unit_test(refuses_overlap_and_twins),
        cmocka_unit_test(refuses_every_prefix), cmocka_unit_test(damage_never_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
