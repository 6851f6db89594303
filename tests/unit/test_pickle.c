/* The pickle reader: state dicts are read, what could run or mislead is refused by name, and damage
 * never crashes (the address sanitizer looks on). Files of torch.save itself: test_torch_file.c. */
#include "weights/pickle.h"

#include "base/buf.h"
#include "base/rng.h"
#include "tests/unit/unit.h"

/* Pieces of pickles, as string literals. */
#define S(len, text) "X" len "\0\0\0" text
#define KEY(letter) S("\1", letter)
#define STORAGE_OF(class, n)                                                                       \
    "(" S("\7", "storage") "ctorch\n" class "\n" KEY("0") S("\3", "cpu") n "tQ"
#define STORAGE STORAGE_OF("FloatStorage", "K\6")
#define HOOKS "ccollections\nOrderedDict\n)R"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n"
#define TENSOR_OF(storage, offset, shape, strides)                                                 \
    REBUILD "(" storage offset shape strides "\x89" HOOKS "tR"
#define TENSOR TENSOR_OF(STORAGE, "K\0", "K\2K\3\x86", "K\3K\1\x86")
#define DICT(rest) "\x80\2}" rest "."
#define ONE(tensor) DICT(KEY("w") tensor "s")

struct text {
    const char *bytes;
    size_t len;
};
#define TEXT(literal)                                                                              \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

/* In a block of just the size, for the sanitizer. */
static int parse(struct text text, struct pickle *pickle, struct err *err)
{
    char *copy = malloc(text.len ? text.len : 1);
    memcpy(copy, text.bytes, text.len);
    int rc = pickle_parse(pickle, copy, text.len, "data.pkl", err);
    free(copy); /* the result must not point into it */
    return rc;
}

static void reads_a_tensor(void **state)
{
    (void)state;
    struct pickle p;
    struct err err;
    assert_ok(parse((struct text)TEXT(ONE(TENSOR)), &p, &err), err);
    assert_int_equal(p.n_tensors, 1);
    const struct pickle_tensor *t = p.tensors;
    assert_string_equal(t->name, "w");
    assert_string_equal(t->storage, "0");
    assert_int_equal(t->dtype, DTYPE_F32);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[1], 3);
    assert_int_equal(t->strides[0], 3);
    assert_int_equal(t->strides[1], 1);
    assert_int_equal(t->offset, 0);
    assert_int_equal(t->storage_elements, 6);
    pickle_release(&p);
}

static void reads_every_type(void **state)
{
    (void)state;
    static const struct {
        struct text text;
        enum dtype dtype;
    } types[] = {
#define TYPE(class, dtype) {TEXT(ONE(TENSOR_OF(STORAGE_OF(class, "K\6"), "K\0", ")", ")"))), dtype}
        TYPE("FloatStorage", DTYPE_F32), TYPE("BFloat16Storage", DTYPE_BF16),
        TYPE("HalfStorage", DTYPE_F16),  TYPE("IntStorage", DTYPE_I32),
        TYPE("LongStorage", DTYPE_I64),  TYPE("ByteStorage", DTYPE_U8),
        TYPE("BoolStorage", DTYPE_U8),
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct pickle p;
        struct err err;
        assert_ok(parse(types[i].text, &p, &err), err);
        assert_int_equal(p.tensors[0].dtype, types[i].dtype);
        assert_int_equal(p.tensors[0].n_dims, 0);
        pickle_release(&p);
    }
}

/* Plain values, and numbers of all lengths. */
#define PLAIN KEY("a") "N" KEY("b") "\x88" KEY("c") "\x89" KEY("d") KEY("x")
#define NUMBERS KEY("e") "K\7" KEY("f") "M\1\1" KEY("g") "J\xff\xff\xff\xff" LONGS
#define LONGS KEY("h") "\x8a\0" KEY("i") "\x8a\5\1\1\1\1\1" KEY("j") "G\0\0\0\0\0\0\0\0"

/* Each ends with one tensor 'w'. */
static void reads_all_forms(void **state)
{
    (void)state;
    static const struct text forms[] = {
        TEXT(DICT("(" KEY("w") TENSOR "u")),
        TEXT("\x80\2" HOOKS KEY("w") TENSOR "s."), /* an OrderedDict */
        TEXT("\x80\2" HOOKS KEY("w") TENSOR "s}" KEY("m") HOOKS "sb."),
        TEXT(ONE("ctorch._utils\n_rebuild_parameter\n(" TENSOR "\x89" HOOKS "tR")),
        TEXT(DICT("q\5" KEY("w") "q\0" TENSOR "r\1\1\0\0s")),
        /* plain values beside it, numbers of all lengths */
        TEXT(DICT("(" PLAIN NUMBERS KEY("w") TENSOR "u")),
        /* lists, and tuples of all lengths, from the memo too */
        TEXT("\x80\2" HOOKS "q\xff" KEY("w") TENSOR
             "s}" KEY("m") "]q\2K\1a(K\1K\2e\x85h\2j\2\0\0\0\x87sb."),
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct pickle p;
        struct err err;
        assert_ok(parse(forms[i], &p, &err), err);
        assert_int_equal(p.n_tensors, 1);
        assert_string_equal(p.tensors[0].name, "w");
        pickle_release(&p);
    }
}

static void reads_shared_tensors(void **state)
{
    (void)state;
    static const struct text shared = TEXT(DICT("(" KEY("b") TENSOR "q\1" KEY("a") "h\1u"));
    struct pickle p;
    struct err err;
    assert_ok(parse(shared, &p, &err), err);
    assert_int_equal(p.n_tensors, 2);
    assert_string_equal(p.tensors[0].name, "a");
    assert_string_equal(p.tensors[1].name, "b");
    pickle_release(&p);
}

static const struct {
    struct text text;
    const char *says;
} hostile[] = {
    /* what would run something */
    {TEXT("\x80\2cos\nsystem\n" S("\2", "ls") "\x85R."), "os.system"},
    {TEXT("\x80\2cposix\nsystem\n" S("\2", "ls") "\x85R."), "posix.system"},
    {TEXT("\x80\2cbuiltins\neval\n" KEY("1") "\x85R."), "builtins.eval"},
    {TEXT("\x80\2c__builtin__\ngetattr\n."), "__builtin__.getattr"},
    {TEXT("\x80\2ctorch._utils\n_rebuild_tensor_v3\n."), "_rebuild_tensor_v3"},
    {TEXT("\x80\2ctorch\nDoubleStorage\n."), "torch.DoubleStorage"},
    {TEXT("\x80\2ctorch\nFloatStorage.x\n."), "torch.FloatStorage.x"},
    {TEXT("\x80\2ctorch.FloatStorage\n\n."), "torch.FloatStorage."},
    {TEXT("\x80\2cev\x1bil\nx\n."), "ev?il.x"},
    {TEXT("\x80\2(ios\nsystem\n."), "0x69"},
    {TEXT("\x80\2}}\x81."), "0x81"},
    {TEXT("\x80\2\x93."), "0x93"},
    {TEXT("\x80\2\x82\1."), "0x82"},
    {TEXT("\x80\2P0\n."), "0x50"},
    {TEXT("\x80\2\0."), "0x00"},
    {TEXT("\x80\4\x95."), "protocol 4"},
    {TEXT("\x80\xff."), "protocol 255"},
    /* calls */
    {TEXT("\x80\2})R."), "not a function"},
    {TEXT("\x80\2ccollections\nOrderedDict\n}R."), "not a function"},
    {TEXT("\x80\2ccollections\nOrderedDict\nK\1\x85R."), "OrderedDict with arguments"},
    {TEXT("\x80\2ctorch\nFloatStorage\n)R."), "calls torch.FloatStorage"},
    {TEXT("\x80\2)R."), "when there is none"},
    {TEXT("\x80\2R."), "when there is none"},
    {TEXT(ONE(REBUILD ")R")), "tensor 'w' is not described"},
    {TEXT(ONE(REBUILD "(" STORAGE "K\0))\x89" HOOKS "}tR")), "tensor 'w' carries extra"},
    {TEXT(ONE(REBUILD "(" STORAGE "K\0))\x89"
                      "NtR")),
     "tensor 'w' is not described"},
    {TEXT(ONE(REBUILD "(" STORAGE "K\0))N" HOOKS "tR")), "tensor 'w' is not described"},
    {TEXT(ONE(TENSOR_OF("N", "K\0", ")", ")"))), "tensor 'w' is not described"},
    {TEXT(ONE(TENSOR_OF(STORAGE, "N", ")", ")"))), "tensor 'w' is not described"},
    {TEXT(ONE(TENSOR_OF(STORAGE, "J\xff\xff\xff\xff", ")", ")"))), "tensor 'w' is not described"},
    {TEXT(ONE(TENSOR_OF(STORAGE, "\x8a\10\0\0\0\0\0\0\0\x80", ")", ")"))), "tensor 'w' is not"},
    {TEXT(ONE(TENSOR_OF(STORAGE, "K\0", "]", ")"))), "tensor 'w' is not described"},
    {TEXT(ONE(TENSOR_OF(STORAGE, "K\0", "J\xff\xff\xff\xff\x85", "K\1\x85"))), "tensor 'w' is not"},
    {TEXT(ONE(TENSOR_OF(STORAGE, "K\0", "K\1\x85", "J\xff\xff\xff\xff\x85"))), "tensor 'w' is not"},
    {TEXT(ONE(TENSOR_OF(STORAGE, "K\0", "N\x85", "K\1\x85"))), "tensor 'w' is not described"},
    {TEXT(ONE(TENSOR_OF(STORAGE, "K\0", "K\1\x85", ")"))), "1 dimensions, but 0 strides"},
    {TEXT(ONE(TENSOR_OF(STORAGE, "K\0", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t",
                        "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t"))),
     "tensor 'w' has 9 dimensions"},
    {TEXT(ONE("ctorch._utils\n_rebuild_parameter\n(N\x89" HOOKS "tR")),
     "tensor 'w' is a parameter"},
    {TEXT(ONE("ctorch._utils\n_rebuild_parameter\n)R")), "tensor 'w' is a parameter"},
    /* storages */
    {TEXT("\x80\2NQ."), "persistent id"},
    {TEXT("\x80\2)Q."), "persistent id"},
    {TEXT("\x80\2Q."), "when there is none"},
    {TEXT(ONE("(" S("\6", "module") "ctorch\nFloatStorage\n" KEY("0") S("\3", "cpu") "K\6tQ")),
     "persistent id"},
    {TEXT(ONE("(" S("\7", "storage") HOOKS KEY("0") S("\3", "cpu") "K\6tQ")), "persistent id"},
    {TEXT(ONE("(" S("\7", "storage") "ctorch\nFloatStorage\nK\0" S("\3", "cpu") "K\6tQ")),
     "persistent id"},
    {TEXT(ONE(STORAGE_OF("FloatStorage", "J\xff\xff\xff\xff"))), "persistent id"},
    {TEXT(ONE(STORAGE_OF("FloatStorage", "N"))), "persistent id"},
    {TEXT(ONE("(" S("\7", "storage") "ctorch\nFloatStorage\n" KEY("\n") S("\3", "cpu") "K\6tQ")),
     "key of a storage"},
    {TEXT(ONE(STORAGE)), "'w' is not a tensor"},
    /* the stack and the memo */
    {TEXT("\x80\2."), "when there is none"},
    {TEXT("\x80\2(."), "when there is none"},
    {TEXT("\x80\2}}."), "more than one value"},
    {TEXT("\x80\2}.."), "ends before its file"},
    {TEXT("\x80\2t."), "mark"},
    {TEXT("\x80\2u."), "mark"},
    {TEXT("\x80\2e."), "mark"},
    {TEXT("\x80\2K\1(\x85."), "when there is none"},
    {TEXT("\x80\2K\1\x86."), "when there is none"},
    {TEXT("\x80\2K\1K\1\x87."), "when there is none"},
    {TEXT("\x80\2(u."), "when there is none"},
    {TEXT("\x80\2}(K\1u."), "key without a value"},
    {TEXT("\x80\2}K\1s."), "when there is none"},
    {TEXT("\x80\2NK\1K\1s."), "not a dictionary"},
    {TEXT("\x80\2N(u."), "not a dictionary"},
    {TEXT("\x80\2}K\1a."), "not a list"},
    {TEXT("\x80\2}(e."), "not a list"},
    {TEXT("\x80\2])b."), "not a dictionary"},
    {TEXT("\x80\2q\0."), "when there is none"},
    {TEXT("\x80\2(q\0."), "when there is none"},
    {TEXT("\x80\2h\0."), "place 0"},
    {TEXT("\x80\2}q\2h\1."), "place 1"},
    {TEXT("\x80\2j\xff\xff\xff\xff."), "place 4294967295"},
    {TEXT("\x80\2}r\xff\xff\xff\xff."), "place 4294967295"},
    {TEXT("\x80\2}r\0\0\20\0."), "place 1048576"},
    /* lengths */
    {TEXT("\x80\2X\xff\xff\xff\xff."), "cut off"},
    {TEXT("\x80\2\x8a\11\1\1\1\1\1\1\1\1\1."), "9 bytes"},
    {TEXT("\x80\2\x8a\xff."), "255 bytes"},
    {TEXT("\x80\2cos\nsystem"), "cut off"},
    /* results */
    {TEXT("\x80\2N."), "not a dictionary of tensors"},
    {TEXT("\x80\2" TENSOR "."), "not a dictionary of tensors"},
    {TEXT(DICT("K\1" TENSOR "s")), "not a string"},
    {TEXT(DICT(S("\0", "") TENSOR "s")), "not a string"},
    {TEXT(DICT(KEY("\x1b") TENSOR "s")), "plain ASCII"},
    {TEXT(DICT(KEY("\0") TENSOR "s")), "plain ASCII"},
    {TEXT(DICT(KEY("\xff") TENSOR "s")), "plain ASCII"},
    {TEXT(DICT(KEY("w") TENSOR "s" KEY("w") TENSOR "s")), "two tensors 'w'"},
    {TEXT(ONE("}")), "'w' is not a tensor"},
    {TEXT(ONE("]")), "'w' is not a tensor"},
    {TEXT(ONE(")")), "'w' is not a tensor"},
    {TEXT(ONE(REBUILD)), "'w' is not a tensor"},
    {TEXT("\x80\2}q\0" KEY("w") "h\0s."), "'w' is not a tensor"}, /* itself */
};

static void refuses_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        struct pickle p;
        struct err err = {""};
        int rc = parse(hostile[i].text, &p, &err);
        if (rc != ERR_INVALID)
            fail_msg("case %zu is not refused: %s", i, hostile[i].says);
        assert_says(err, hostile[i].says);
        assert_says(err, "data.pkl, byte");
    }
}

/* n times the text, between a beginning and an end. */
static int parse_many(const char *begin, struct text text, size_t n, const char *end,
                      struct err *err)
{
    struct buf buf = {0};
    struct pickle p;
    buf_puts(&buf, begin);
    buf_reserve(&buf, n * text.len);
    for (size_t i = 0; i < n; i++)
        buf_append(&buf, text.bytes, text.len);
    buf_puts(&buf, end);
    int rc = pickle_parse(&p, buf.data, buf.len, "data.pkl", err);
    if (!rc)
        pickle_release(&p);
    buf_release(&buf);
    return rc;
}

static void has_limits(void **state)
{
    (void)state;
    struct err err;
    assert_int_equal(parse_many("\x80\2", (struct text)TEXT("N"), 100000, ".", &err), ERR_INVALID);
    assert_says(err, "65536 values lie on");
    assert_int_equal(parse_many("\x80\2", (struct text)TEXT("("), 100000, ".", &err), ERR_INVALID);
    assert_says(err, "65536 values lie on");
    assert_int_equal(parse_many("\x80\2]", (struct text)TEXT("Na"), 2000000, ".", &err),
                     ERR_INVALID);
    assert_says(err, "1048576 values");
    /* a value from the memo takes no memory */
    assert_int_equal(parse_many("\x80\2]q\1", (struct text)TEXT("h\1a"), 3000000, ".", &err),
                     ERR_INVALID);
    assert_says(err, "not a dictionary of tensors");
    assert_int_equal(
        parse_many("\x80\2", (struct text)TEXT("\x80\2"), PICKLE_BYTES_MAX / 2, "", &err),
        ERR_INVALID);
    assert_says(err, "at most 16777216");
    assert_ok(parse_many("\x80\2}", (struct text)TEXT("X\1\0\0\0aNs"), 100000, ".", &err), err);
}

/* A pickle of most instructions. */
#define HALF                                                                                       \
    TENSOR_OF(STORAGE_OF("HalfStorage", "M\1\1"), "\x8a\1\5", "K\1K\2K\3\x87", "(K\6K\3K\1t")
#define PARAMETER "ctorch._utils\n_rebuild_parameter\n(" HALF "\x88h\0tR"
#define FIRST KEY("a") "q\1" TENSOR "r\2\0\0\0"
#define METADATA "}" KEY("m") "](Ne)ah\0\x86sb"
static const struct text rich = TEXT("\x80\2" HOOKS "q\0(" FIRST KEY("b") PARAMETER KEY(
    "c") "h\2" KEY("d") "J\1\2\3\4u" METADATA ".");

static void refuses_every_prefix(void **state)
{
    (void)state;
    struct pickle p;
    struct err err;
    assert_ok(parse(rich, &p, &err), err);
    assert_int_equal(p.n_tensors, 3);
    assert_string_equal(p.tensors[1].name, "b");
    assert_int_equal(p.tensors[1].storage_elements, 257);
    assert_int_equal(p.tensors[1].offset, 5);
    pickle_release(&p);
    for (size_t n = 0; n < rich.len; n++)
        assert_int_equal(parse((struct text){rich.bytes, n}, &p, &err), ERR_INVALID);
    assert_int_equal(pickle_parse(&p, NULL, 0, "data.pkl", &err), ERR_INVALID);
}

static void damage_never_crashes(void **state)
{
    (void)state;
    size_t accepted = 0;
    for (uint64_t i = 0; i < 50000; i++) {
        struct pickle p;
        struct err err;
        char *copy = malloc(rich.len);
        memcpy(copy, rich.bytes, rich.len);
        for (uint64_t k = 0; k < 1 + i % 3; k++)
            copy[rng_below(31, k, i, rich.len)] ^= (char)(1 << rng_below(32, k, i, 8));
        if (!parse((struct text){copy, rich.len}, &p, &err)) {
            accepted++;
            pickle_release(&p);
        }
        free(copy);
    }
    assert_in_range(accepted, 500, 49500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_tensor),       cmocka_unit_test(reads_every_type),
        cmocka_unit_test(reads_all_forms),      cmocka_unit_test(reads_shared_tensors),
        cmocka_unit_test(refuses_by_name),      cmocka_unit_test(has_limits),
        cmocka_unit_test(refuses_every_prefix), cmocka_unit_test(damage_never_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
