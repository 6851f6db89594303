/* Files of torch.save: what PyTorch wrote is read to the same bits as its safetensors, lies in
 * hand-made files are refused, and damage never crashes (the address sanitizer looks on). */
#include "weights/torch_file.h"

#include <sys/stat.h>

#include "base/rng.h"
#include "tests/unit/zip_maker.h"

#define VIEWS "tests/data/files/views/"

/* ---- what PyTorch wrote ---- */

static void reads_what_torch_wrote(void **state)
{
    (void)state;
    struct torch_file file;
    struct safetensors expected;
    struct err err;
    assert_ok(torch_file_open(&file, VIEWS "consolidated.pth", &err), err);
    assert_ok(safetensors_open(&expected, VIEWS "expected.safetensors", &err), err);
    assert_int_equal(file.n_tensors, expected.n_tensors);
    for (size_t i = 0; i < expected.n_tensors; i++) {
        const struct tensor *t = &expected.tensors[i], *f = torch_file_find(&file, t->name);
        if (!f)
            fail_msg("%s is missing", t->name);
        assert_ptr_equal(f, &file.tensors[i]); /* sorted alike */
        assert_int_equal(f->dtype, t->dtype);
        assert_int_equal(f->n_dims, t->n_dims);
        for (int k = 0; k < t->n_dims; k++)
            assert_int_equal(f->shape[k], t->shape[k]);
        assert_int_equal(f->size, t->size);
        if (t->size)
            assert_memory_equal(f->data, t->data, t->size);
    }
    assert_null(torch_file_find(&file, "step"));
    assert_ptr_equal(torch_file_find(&file, "tied.a")->data,
                     torch_file_find(&file, "tied.b")->data);
    torch_file_release(&file);
    assert_null(torch_file_find(&file, "f32"));
    safetensors_release(&expected);
}

static void reads_the_release(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        enum dtype dtype;
        size_t n;
    } files[] = {{"tests/data/files/meta/consolidated.pth", DTYPE_BF16, 5 * 9 + 3},
                 {"tests/data/files/meta-single/consolidated.pth", DTYPE_F16, 2 * 9 + 3},
                 {"tests/data/files/meta-f32/consolidated.pth", DTYPE_F32, 2 * 9 + 3}};
    for (size_t i = 0; i < 3; i++) {
        struct torch_file file;
        struct err err;
        assert_ok(torch_file_open(&file, files[i].path, &err), err);
        assert_int_equal(file.n_tensors, files[i].n);
        for (size_t k = 0; k < file.n_tensors; k++) {
            assert_int_equal(file.tensors[k].dtype, files[i].dtype);
            assert_int_equal((uintptr_t)file.tensors[k].data % 64, 0);
        }
        assert_non_null(torch_file_find(&file, "layers.0.feed_forward.w2.weight"));
        torch_file_release(&file);
    }
}

static void open_names_the_path(void **state)
{
    (void)state;
    struct torch_file file;
    struct err err;
    struct folder folder;
    assert_int_equal(torch_file_open(&file, "/nowhere/m.pth", &err), ERR_IO);
    assert_says(err, "/nowhere/m.pth");
    assert_int_equal(torch_file_open(&file, "/tmp", &err), ERR_IO);
    assert_says(err, "not a regular file");
    folder_make(&folder);
    const char *path = folder_file(&folder, "empty");
    fclose(fopen(path, "w"));
    assert_int_equal(torch_file_open(&file, path, &err), ERR_INVALID);
    assert_says(err, path);
    path = folder_file(&folder, "pipe"); /* must not wait for a writer */
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(torch_file_open(&file, path, &err), ERR_IO);
    assert_says(err, "not a regular file");
    folder_remove(&folder);
}

/* ---- hand-made files ---- */

#define S(len, text) "X" len "\0\0\0" text
#define STORAGE(class, key, n)                                                                     \
    "(" S("\7", "storage") "ctorch\n" class "Storage\n" S("\1", key) S("\3", "cpu") n "tQ"
#define TENSOR(name, storage, rest)                                                                \
    S("\1", name)                                                                                  \
    "ctorch._utils\n_rebuild_tensor_v2\n(" storage rest "\x89"                                     \
    "ccollections\nOrderedDict\n)RtR"
#define DICT(rest) "\x80\2}(" rest "u."
#define TINY DICT(TENSOR("w", STORAGE("Float", "0", "K\6"), "K\0K\2K\3\x86K\3K\1\x86"))

static const float six[6] = {0, 1, 2, 3, 4, 5};

static void make(struct zip_maker *z, const char *pickle, size_t size)
{
    *z = (struct zip_maker){0};
    zip_add(z, "m/data.pkl", pickle, size);
    zip_add(z, "m/byteorder", "little", 6);
    zip_add(z, "m/data/0", six, sizeof six);
    zip_add(z, "m/version", "3\n", 2);
}

/* In a block of just the size, for the sanitizer, aligned as a mapping is. */
static int parse(const char *bytes, size_t size, struct err *err)
{
    struct torch_file file;
    char *block;
    volatile unsigned char sum = 0;
    assert_int_equal(posix_memalign((void **)&block, 64, size ? size : 1), 0);
    memcpy(block, bytes, size);
    int rc = torch_file_parse(&file, block, size, "here.pth", err);
    for (size_t i = 0; !rc && i < file.n_tensors; i++) {
        const char *data = file.tensors[i].data;
        assert_true(data >= block && file.tensors[i].size <= (size_t)(block + size - data));
        for (size_t k = 0; k < file.tensors[i].size; k++)
            sum = (unsigned char)(sum + data[k]);
    }
    if (!rc)
        torch_file_release(&file);
    free(block);
    return rc;
}

static int parse_pickle(const char *pickle, size_t size, struct err *err)
{
    struct zip_maker z;
    make(&z, pickle, size);
    zip_end(&z);
    int rc = parse(z.bytes.data, z.bytes.len, err);
    zip_maker_release(&z);
    return rc;
}

#define CASE(pickle, says)                                                                         \
    {                                                                                              \
        pickle, sizeof(pickle) - 1, says                                                           \
    }
#define ONE(storage, rest, says) CASE(DICT(TENSOR("w", storage, rest)), says)
#define SIX STORAGE("Float", "0", "K\6")

static const struct {
    const char *pickle;
    size_t size;
    const char *says; /* NULL: it is taken */
} places[] = {
    ONE(SIX, "K\0K\2K\3\x86K\3K\1\x86", NULL),
    ONE(SIX, "K\0K\6\x85K\1\x85", NULL),
    ONE(SIX, "K\1K\5\x85K\1\x85", NULL),
    ONE(SIX, "K\6K\0\x85K\1\x85", NULL),               /* empty, at the end */
    ONE(SIX, "K\0K\0K\7\x86K\0K\0\x86", NULL),         /* empty: strides don't matter */
    ONE(SIX, "K\5))", NULL),                           /* a scalar */
    ONE(SIX, "K\0K\2K\1K\3\x87K\3K\x63K\1\x87", NULL), /* nor where the dimension is 1 */
    ONE(STORAGE("Half", "0", "K\14"), "K\0K\14\x85K\1\x85", NULL),
    /* outside the storage */
    ONE(SIX, "K\1K\6\x85K\1\x85", "6 elements from element 1 of its storage, which has 6"),
    ONE(SIX, "K\0K\7\x85K\1\x85", "7 elements from element 0"),
    ONE(SIX, "K\7K\0\x85K\1\x85", "0 elements from element 7"),
    ONE(SIX, "K\6))", "1 elements from element 6"),
    ONE(SIX, "\x8a\10\0\0\0\0\0\0\0\20K\1\x85K\1\x85", "from element 1152921504606846976"),
    ONE(SIX, "K\0\x8a\10\0\0\0\0\0\0\0\20\x85K\1\x85", "1152921504606846976 elements"),
    ONE(SIX, "K\0\x8a\10\0\0\0\0\0\0\0\20\x8a\10\0\0\0\0\0\0\0\20\x86K\1K\1\x86", "too large"),
    ONE(SIX, "K\0\x8a\5\0\0\0\0\1\x8a\5\0\0\0\0\1\x86K\1K\1\x86", "too large"), /* 2^64 */
    ONE(SIX, "\x8a\10\xff\xff\xff\xff\xff\xff\xff\177K\1\x85K\1\x85", "from element 922337"),
    /* not contiguous */
    ONE(SIX, "K\0K\2K\3\x86K\1K\2\x86", "'w' is a transposed or strided view"),
    ONE(SIX, "K\0K\3\x85K\2\x85", "strided"),
    ONE(SIX, "K\0K\6\x85K\0\x85", "strided"),
    ONE(SIX, "K\0K\2K\3\x86K\0K\1\x86", "strided"),
    ONE(SIX, "K\0K\2K\3\x86\x8a\10\3\0\0\0\0\0\0\1K\1\x86", "strided"),
    /* storages of another size, or none */
    ONE(STORAGE("Float", "0", "K\5"), "K\0K\5\x85K\1\x85", "5 elements F32, but that has 24"),
    ONE(STORAGE("Float", "0", "K\7"), "K\0K\5\x85K\1\x85", "7 elements F32, but that has 24"),
    ONE(STORAGE("Half", "0", "K\6"), "K\0K\5\x85K\1\x85", "6 elements F16, but that has 24"),
    ONE(STORAGE("Float", "0", "\x8a\10\6\0\0\0\0\0\0\100"), "K\0K\5\x85K\1\x85", "but that has 24"),
    ONE(STORAGE("Float", "1", "K\6"), "K\0K\5\x85K\1\x85", "storage '1', which the file does not"),
    ONE(STORAGE("Float", "/", "K\6"), "K\0K\5\x85K\1\x85", "storage '/', which the file does not"),
    CASE("\x80\2cos\nsystem\n.",
         "here.pth: data.pkl, byte 13: the pickle needs Python's os.system"),
    CASE("", "empty"),
};

static void holds_tensors_to_their_storage(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct err err = {""};
        int rc = parse_pickle(places[i].pickle, places[i].size, &err);
        if (rc != (places[i].says ? ERR_INVALID : 0))
            fail_msg("case %zu gives %d: %s", i, rc, err.text);
        if (places[i].says) {
            assert_says(err, places[i].says);
            assert_says(err, "here.pth");
        }
    }
}

static int parse_with(const char *name, const char *text, struct err *err)
{
    struct zip_maker z;
    make(&z, TINY, sizeof TINY - 1);
    zip_add(&z, name, text, strlen(text));
    zip_end(&z);
    int rc = parse(z.bytes.data, z.bytes.len, err);
    zip_maker_release(&z);
    return rc;
}

static void refuses_other_archives(void **state)
{
    (void)state;
    struct err err;
    struct zip_maker z = {0};
    assert_ok(parse_with("m/anything", "", &err), err);
    assert_ok(parse_with("m/code/data.pkl", "", &err), err); /* deeper: not the archive's */
    assert_int_equal(parse_with("n/data.pkl", "", &err), ERR_INVALID);
    assert_says(err, "more than one data.pkl");
    assert_int_equal(parse_with("m/constants.pkl", "", &err), ERR_INVALID);
    assert_says(err, "TorchScript");

    zip_add(&z, "m/data.pkl", TINY, sizeof TINY - 1);
    zip_add(&z, "m/byteorder", "big", 3);
    zip_end(&z);
    assert_int_equal(parse(z.bytes.data, z.bytes.len, &err), ERR_INVALID);
    assert_says(err, "byte order 'big'");
    zip_maker_release(&z);

    z = (struct zip_maker){0};
    zip_add(&z, "data.pkl", TINY, sizeof TINY - 1);
    zip_end(&z);
    assert_int_equal(parse(z.bytes.data, z.bytes.len, &err), ERR_INVALID);
    assert_says(err, "not written by torch.save");
    zip_maker_release(&z);
}

static void refuses_other_formats(void **state)
{
    (void)state;
    static const char old[] =
        "\x80\2\x8a\12\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M\xe9\3.";
    struct err err;
    assert_int_equal(parse(old, sizeof old - 1, &err), ERR_INVALID);
    assert_says(err, "before 1.6");
    assert_says(err, "torch.save(torch.load(");
    assert_int_equal(parse("\x80\2}.", 4, &err), ERR_INVALID);
    assert_says(err, "not a ZIP archive");
    assert_int_equal(parse("", 0, &err), ERR_INVALID);
}

/* A folder's name as long as a name can be. */
static void survives_long_names(void **state)
{
    (void)state;
    struct zip_maker z = {0};
    struct err err;
    char name[60020];
    memset(name, 'a', 60000);
    strcpy(name + 60000, "/data.pkl");
    zip_add(&z, name, TINY, sizeof TINY - 1);
    zip_end(&z);
    assert_int_equal(parse(z.bytes.data, z.bytes.len, &err), ERR_INVALID);
    assert_says(err, "does not hold");
    zip_maker_release(&z);
}

/* ---- damage ---- */

static void refuses_every_prefix(void **state)
{
    (void)state;
    struct zip_maker z;
    struct err err;
    make(&z, TINY, sizeof TINY - 1);
    zip_end(&z);
    assert_ok(parse(z.bytes.data, z.bytes.len, &err), err);
    for (size_t n = 0; n < z.bytes.len; n++)
        assert_int_equal(parse(z.bytes.data, n, &err), ERR_INVALID);
    zip_maker_release(&z);
}

static void damage_never_crashes(void **state)
{
    (void)state;
    struct zip_maker z;
    struct err err;
    size_t accepted = 0;
    make(&z, TINY, sizeof TINY - 1);
    zip_end(&z);
    for (uint64_t i = 0; i < 50000; i++) {
        char before[3];
        size_t at[3], n = 1 + i % 3;
        for (size_t k = 0; k < n; k++) { /* half of them in the pickle */
            at[k] = rng_below(41, k, i, i % 2 ? z.local[1] : z.bytes.len);
            before[k] = z.bytes.data[at[k]];
            z.bytes.data[at[k]] ^= (char)(1 << rng_below(42, k, i, 8));
        }
        accepted += !parse(z.bytes.data, z.bytes.len, &err);
        for (size_t k = n; k-- > 0;)
            z.bytes.data[at[k]] = before[k];
    }
    assert_in_range(accepted, 500, 49500);
    assert_ok(parse(z.bytes.data, z.bytes.len, &err), err);
    zip_maker_release(&z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_torch_wrote), cmocka_unit_test(reads_the_release),
        cmocka_unit_test(open_names_the_path),    cmocka_unit_test(holds_tensors_to_their_storage),
        cmocka_unit_test(refuses_other_archives), cmocka_unit_test(refuses_other_formats),
        cmocka_unit_test(survives_long_names),    cmocka_unit_test(refuses_every_prefix),
        cmocka_unit_test(damage_never_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
