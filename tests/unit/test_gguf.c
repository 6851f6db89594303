/* The GGUF reader: every type of value, both versions, alignment; hostile files are refused in a
 * sentence, and damaged ones never crash (the address sanitizer looks on). */
#include "weights/gguf.h"

#include "base/rng.h"
#include "tests/unit/gguf_maker.h"

static int parse_end(struct gguf_maker *m, struct err *err)
{
    struct gguf g;
    size_t size;
    unsigned char *bytes = maker_end(m, &size);
    int rc = gguf_parse(&g, bytes, size, "here.gguf", err);
    if (!rc)
        gguf_release(&g);
    free(bytes);
    return rc;
}

/* ---- good files ---- */

static const uint64_t matrix_dims[] = {32, 3}, vector_dims[] = {8};

/* Each type of value, arrays of them, two tensors. */
static void fill(struct gguf_maker *m)
{
    maker_string(m, "general.architecture", "llama");
    maker_int(m, "u8", GGUF_U8, 200);
    maker_int(m, "i8", GGUF_I8, -100);
    maker_int(m, "u16", GGUF_U16, 65535);
    maker_int(m, "i16", GGUF_I16, -32768);
    maker_int(m, "u32", GGUF_U32, 4294967295);
    maker_int(m, "i32", GGUF_I32, -2147483648);
    maker_int(m, "u64", GGUF_U64, INT64_MAX);
    maker_int(m, "i64", GGUF_I64, INT64_MIN);
    maker_int(m, "huge", GGUF_U64, -1);
    maker_real(m, "f32", 1.5);
    maker_int(m, "f64", GGUF_F64, 0x3fd0000000000000); /* 0.25 */
    maker_int(m, "bool", GGUF_BOOL, 1);
    maker_string(m, "string", "words");
    maker_string(m, "empty", "");
    maker_array(m, "ints", GGUF_I32, 3);
    for (int i = -1; i < 2; i++)
        put_le(&m->values, (uint64_t)(int64_t)i, 4);
    maker_array(m, "strings", GGUF_STRING, 2);
    put_text(&m->values, "a", 1);
    put_text(&m->values, "bc", 2);
    maker_array(m, "none", GGUF_STRING, 0);
    if (m->alignment)
        maker_int(m, "general.alignment", GGUF_U32, (int64_t)m->alignment);
    unsigned char codes[3 * 18];
    for (size_t i = 0; i < sizeof codes; i++)
        codes[i] = (unsigned char)(i + 1);
    maker_tensor(m, "matrix", 2, 2, matrix_dims, codes, sizeof codes);
    maker_tensor(m, "a.vector", 0, 1, vector_dims, NULL, 32);
    maker_tensor(m, "odd", 20, 2, matrix_dims, NULL, 0); /* IQ4_NL: not looked at */
}

static void expect_ints(const struct gguf *g)
{
    static const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"u8", 200},         {"i8", -100},         {"u16", 65535},     {"i16", -32768},
                {"u32", 4294967295}, {"i32", -2147483648}, {"u64", INT64_MAX}, {"i64", INT64_MIN}};
    struct err err;
    int64_t x;
    bool found;
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        assert_ok(gguf_get_int(g, ints[i].key, &x, NULL, &err), err);
        assert_true(x == ints[i].value);
    }
    x = 5;
    assert_ok(gguf_get_int(g, "missing", &x, &found, &err), err);
    assert_true(!found && x == 5);
    assert_int_equal(gguf_get_int(g, "missing", &x, NULL, &err), ERR_INVALID);
    assert_says(err, "'missing' is missing");
    assert_int_equal(gguf_get_int(g, "huge", &x, NULL, &err), ERR_INVALID);
    assert_int_equal(gguf_get_int(g, "f32", &x, &found, &err), ERR_INVALID);
    assert_says(err, "'f32' must be a whole number");
    assert_int_equal(gguf_get_int(g, "ints", &x, &found, &err), ERR_INVALID);
    assert_int_equal(gguf_get_int(g, "bool", &x, &found, &err), ERR_INVALID);
}

static void expect_others(const struct gguf *g)
{
    struct err err;
    const char *text;
    size_t len;
    double real;
    bool flag = false, found;
    assert_ok(gguf_get_real(g, "f32", &real, NULL, &err), err);
    assert_true(real == 1.5);
    assert_ok(gguf_get_real(g, "f64", &real, NULL, &err), err);
    assert_true(real == 0.25);
    assert_int_equal(gguf_get_real(g, "u8", &real, NULL, &err), ERR_INVALID);
    assert_ok(gguf_get_bool(g, "bool", &flag, &found, &err), err);
    assert_true(flag && found);
    assert_int_equal(gguf_get_bool(g, "u8", &flag, &found, &err), ERR_INVALID);
    assert_ok(gguf_get_string(g, "string", &text, &len, NULL, &err), err);
    assert_true(len == 5 && !memcmp(text, "words", 5));
    assert_ok(gguf_get_string(g, "empty", &text, &len, NULL, &err), err);
    assert_int_equal(len, 0);
    assert_int_equal(gguf_get_string(g, "strings", &text, &len, NULL, &err), ERR_INVALID);
    /* A key is the whole key. */
    assert_null(gguf_value(g, "strin"));
    assert_null(gguf_value(g, "strings "));
}

static void expect_arrays(const struct gguf *g)
{
    struct gguf_items items;
    struct err err;
    size_t len;
    assert_ok(gguf_get_items(g, "ints", GGUF_I32, &items, NULL, &err), err);
    assert_int_equal(items.n, 3);
    for (int i = -1; i < 2; i++)
        assert_true(gguf_next_number(&items) == i);
    assert_ok(gguf_get_items(g, "strings", GGUF_STRING, &items, NULL, &err), err);
    assert_int_equal(items.n, 2);
    assert_memory_equal(gguf_next_string(&items, &len), "a", 1);
    assert_int_equal(len, 1);
    assert_memory_equal(gguf_next_string(&items, &len), "bc", 2);
    assert_int_equal(len, 2);
    assert_ok(gguf_get_items(g, "none", GGUF_STRING, &items, NULL, &err), err);
    assert_int_equal(items.n, 0);
    assert_int_equal(gguf_get_items(g, "ints", GGUF_U32, &items, NULL, &err), ERR_INVALID);
    assert_int_equal(gguf_get_items(g, "string", GGUF_STRING, &items, NULL, &err), ERR_INVALID);
}

static void reads_all_that_there_may_be(void **state)
{
    static const uint64_t alignments[] = {0, 8, 64, 1};
    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        struct gguf_maker m = {.version = 2 + i % 2, .alignment = alignments[i / 2]};
        struct gguf g;
        struct err err;
        size_t size;
        fill(&m);
        unsigned char *bytes = maker_end(&m, &size);
        assert_ok(gguf_parse(&g, bytes, size, "here.gguf", &err), err);
        expect_ints(&g);
        expect_others(&g);
        expect_arrays(&g);
        const struct gguf_tensor *t = gguf_tensor(&g, "matrix");
        assert_non_null(t);
        assert_true(t->ggml_type == 2 && t->n_dims == 2 && t->shape[0] == 32 && t->shape[1] == 3);
        assert_int_equal(t->size, 54);
        assert_true(t->data[0] == 1 && t->data[53] == 54);
        assert_true((size_t)(t->data - bytes) % (i / 2 ? alignments[i / 2] : 32) == 0);
        assert_non_null(gguf_tensor(&g, "a.vector"));
        assert_int_equal(gguf_tensor(&g, "odd")->size, 0);
        assert_null(gguf_tensor(&g, "matri"));
        gguf_release(&g);
        free(bytes);
    }
}

static void opens_a_file(void **state)
{
    struct gguf_maker m = {0};
    struct folder folder;
    struct gguf g;
    struct err err;
    size_t size;
    (void)state;
    folder_make(&folder);
    const char *path = folder_file(&folder, "a.gguf");
    assert_int_equal(gguf_open(&g, path, &err), ERR_IO);
    assert_says(err, path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(gguf_open(&g, path, &err), ERR_INVALID);
    assert_says(err, "ends within its first bytes");
    fill(&m);
    unsigned char *bytes = maker_end(&m, &size);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
    free(bytes);
    assert_ok(gguf_open(&g, path, &err), err);
    expect_ints(&g);
    gguf_release(&g);
    gguf_release(&g);
    folder_remove(&folder);
}

/* ---- hostile files ---- */

#define HUGE_COUNT ((uint64_t)1 << 60)

static void refuse(struct gguf_maker *m, const char *says)
{
    struct err err = {""};
    if (parse_end(m, &err) != ERR_INVALID)
        fail_msg("not refused: should say '%s'", says);
    assert_says(err, "here.gguf");
    assert_says(err, says);
}

static void refuses_wrong_beginnings(void **state)
{
    struct gguf g;
    struct err err;
    (void)state;
    static const struct {
        const char *bytes, *says;
    } starts[] = {{"GGML\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "not a GGUF file"},
                  {"GGUF\0\0\0\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "big-endian"},
                  {"GGUF\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "version 1"},
                  {"GGUF\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "version 4"}};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        assert_int_equal(gguf_parse(&g, starts[i].bytes, 24, "here.gguf", &err), ERR_INVALID);
        assert_says(err, starts[i].says);
    }
}

static void refuses_counts_beyond_the_file(void **state)
{
    static const uint64_t counts[] = {1, 1000, HUGE_COUNT, UINT64_MAX, UINT64_MAX / 13 + 1};
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct gguf_maker m = {0};
        fill(&m);
        m.n_tensors = counts[i] == 1 ? 4 : counts[i];
        refuse(&m, i ? "tensors" : "");
        fill(&m);
        m.n_values = counts[i] == 1 ? 200 : counts[i];
        refuse(&m, i ? "values" : "");
        maker_array(&m, "a", GGUF_U8, counts[i] + 100);
        refuse(&m, "items");
        maker_array(&m, "a", GGUF_F64, 40); /* more than bytes are left, but not more items */
        for (int k = 0; k < 100; k++)
            put_le(&m.values, 0, 1);
        refuse(&m, "array of its header");
        maker_array(&m, "a", GGUF_STRING, 3);
        put_le(&m.values, counts[i] + 40, 8);
        refuse(&m, i ? "said to have" : "");
        maker_key(&m, "a", GGUF_STRING);
        put_le(&m.values, counts[i] + 40, 8);
        refuse(&m, "said to have");
        put_le(&m.values, counts[i] + 40, 8); /* a key's length */
        put_le(&m.values, 0, 32);
        m.n_values = 1;
        refuse(&m, "a key of its header");
        put_le(&m.tensors, counts[i] + 300, 8); /* a tensor's name */
        for (int k = 0; k < 80; k++)
            put_le(&m.tensors, 0, 1);
        m.n_tensors = 1;
        refuse(&m, "name");
    }
}

static void refuses_odd_values(void **state)
{
    struct gguf_maker m = {0};
    (void)state;
    for (uint32_t type = GGUF_TYPES; type < GGUF_TYPES + 3; type++) {
        maker_key(&m, "odd", type);
        put_le(&m.values, 0, 40);
        refuse(&m, "'odd' has the type");
        maker_array(&m, "odd", type, 1);
        put_le(&m.values, 0, 40);
        refuse(&m, "'odd' has the type");
    }
    maker_array(&m, "nested", GGUF_ARRAY, 1);
    put_le(&m.values, 0, 40);
    refuse(&m, "array of arrays");
    maker_string(&m, "", "no key");
    refuse(&m, "has 0 bytes");
    char *key = calloc(1, 70001);
    assert_non_null(key);
    memset(key, 'k', 70000);
    maker_string(&m, key, "");
    free(key);
    refuse(&m, "has 70000 bytes");
    maker_string(&m, "twice", "a");
    maker_string(&m, "once", "b");
    maker_string(&m, "twice", "c");
    refuse(&m, "'twice' is there twice");
    static const int64_t alignments[] = {0, 3, 48, -8, 1 << 21};
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++) {
        maker_int(&m, "general.alignment", GGUF_I32, alignments[i]);
        refuse(&m, "'general.alignment' is");
    }
    maker_string(&m, "general.alignment", "32");
    refuse(&m, "'general.alignment' must be");
}

static void record(struct gguf_maker *m, const char *name, uint32_t type, uint64_t inputs,
                   uint64_t outputs, uint64_t offset)
{
    maker_record(m, name, type, 2, (const uint64_t[]){inputs, outputs}, offset);
    while (m->data.len < 256)
        buf_append(&m->data, "", 1);
}

static void refuses_tensors_out_of_place(void **state)
{
    struct gguf_maker m = {0};
    (void)state;
    record(&m, "evil", 0, 4, 4, 16);
    refuse(&m, "'evil' begins at 16");
    record(&m, "evil", 0, 4, 4, 224);
    refuse(&m, "'evil' lies beyond the file's end");
    record(&m, "evil", 0, 4, 4, 256);
    refuse(&m, "beyond");
    record(&m, "evil", 0, 4, 4, UINT64_MAX - 31);
    refuse(&m, "beyond");
    record(&m, "evil", 0, 4, 4, (uint64_t)1 << 63);
    refuse(&m, "beyond");
    record(&m, "a", 0, 4, 4, 0);
    record(&m, "evil", 0, 4, 4, 32);
    refuse(&m, "'evil' overlaps");
    record(&m, "evil", 0, 4, 4, 0);
    record(&m, "other", 0, 4, 4, 0);
    refuse(&m, "overlaps");
    record(&m, "evil", 0, 4, 4, 64);
    record(&m, "other", 0, 4, 16, 0); /* the larger one before */
    refuse(&m, "'evil' overlaps");
    record(&m, "evil", 0, 4, 4, 0);
    record(&m, "evil", 0, 4, 4, 64);
    refuse(&m, "'evil' is there twice");
    record(&m, "odd", 20, 4, 4, 1 << 20); /* also of a type that is not looked at */
    refuse(&m, "beyond");
}

static void refuses_sizes_that_lie(void **state)
{
    static const uint64_t huge[] = {(uint64_t)1 << 32, (uint64_t)1 << 60, (uint64_t)1 << 62,
                                    (uint64_t)1 << 63, UINT64_MAX,        UINT64_MAX / 18 * 32};
    struct gguf_maker m = {0};
    (void)state;
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++)
        for (uint32_t type = 0; type < 15; type++) {
            record(&m, "evil", type, huge[i], huge[i], 0);
            refuse(&m, "evil");
            record(&m, "evil", type, 256, huge[i], 0);
            if (block_type_of_ggml(type) < 0) { /* of unknown size */
                parse_end(&m, NULL);
                continue;
            }
            refuse(&m, "evil");
        }
    uint64_t dims[] = {65536, 65536, 65536, 65536}; /* the product is 2^64 */
    maker_record(&m, "evil", 0, 4, dims, 0);
    refuse(&m, "more elements than memory has");
    dims[2] = 0;
    maker_record(&m, "evil", 0, 4, dims, 0);
    refuse(&m, "dimension of 0");
    maker_record(&m, "evil", 0, 0, dims, 0);
    refuse(&m, "1 to 4 dimensions");
    uint64_t many[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    maker_record(&m, "evil", 0, 5, many, 0);
    refuse(&m, "1 to 4 dimensions");
    maker_record(&m, "evil", 0, UINT32_MAX, many, 0);
    refuse(&m, "");
    record(&m, "evil", 2, 31, 1, 0);
    refuse(&m, "rows of 31 elements, but Q4_0 has blocks of 32");
    record(&m, "evil", 12, 32, 1, 0);
    refuse(&m, "rows of 32 elements, but Q4_K has blocks of 256");
    maker_record(&m, "", 0, 1, many, 0);
    refuse(&m, "name");
    char name[300] = {0};
    memset(name, 'n', 299);
    maker_record(&m, name, 0, 1, many, 0);
    refuse(&m, "name");
    put_text(&m.tensors, "a\0b", 3);
    put_le(&m.tensors, 0, 64);
    m.n_tensors = 1;
    refuse(&m, "no NUL");
}

/* ---- damage ---- */

/* Reads all that there is to read. */
static void walk(const struct gguf *g, const unsigned char *bytes, size_t size)
{
    volatile unsigned char sum = 0;
    for (size_t i = 0; i < g->n_values; i++) {
        const struct gguf_value *v = &g->values[i];
        struct gguf_items items = {v->data, v->item, v->n};
        for (size_t k = 0, len; k < v->n; k++) {
            if (v->item != GGUF_STRING) {
                sum += gguf_next_number(&items) > 0;
                continue;
            }
            const char *text = gguf_next_string(&items, &len);
            for (size_t c = 0; c < len; c++)
                sum = (unsigned char)(sum + (unsigned char)text[c]);
        }
        assert_true(items.at <= bytes + size);
    }
    for (size_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        assert_true(t->data >= bytes && t->data + t->size <= bytes + size);
        assert_ptr_equal(gguf_tensor(g, t->name), t);
        for (size_t k = 0; k < t->size; k++)
            sum = (unsigned char)(sum + t->data[k]);
    }
}

static int parse_copy(const unsigned char *bytes, size_t size)
{
    struct gguf g;
    struct err err = {""};
    unsigned char *copy = malloc(size ? size : 1); /* its own block: a read beyond it is seen */
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    int rc = gguf_parse(&g, copy, size, "here.gguf", &err);
    if (!rc) {
        walk(&g, copy, size);
        gguf_release(&g);
    } else {
        assert_int_equal(rc, ERR_INVALID);
        assert_says(err, "here.gguf: ");
    }
    free(copy);
    return rc;
}

static void damage_never_crashes(void **state)
{
    struct gguf_maker m = {0};
    size_t size;
    (void)state;
    fill(&m);
    unsigned char *bytes = maker_end(&m, &size);
    assert_int_equal(parse_copy(bytes, size), 0);
    for (size_t n = 0; n < size; n++) /* the last tensor has no bytes of its own */
        assert_true(parse_copy(bytes, n) == ERR_INVALID || n + 32 >= size);
    for (uint64_t i = 0; i < 20000; i++) {
        unsigned char *damaged = malloc(size);
        assert_non_null(damaged);
        memcpy(damaged, bytes, size);
        for (uint64_t k = 0; k <= i % 4; k++) {
            unsigned char *at = &damaged[rng_below(3, k, i, size)];
            *at = i % 3 ? (unsigned char)(*at ^ 1 << rng_below(4, k, i, 8))
                        : (unsigned char)rng_below(5, k, i, 256);
        }
        parse_copy(damaged, size);
        free(damaged);
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_all_that_there_may_be),
        cmocka_unit_test(opens_a_file),
        cmocka_unit_test(refuses_wrong_beginnings),
        cmocka_unit_test(refuses_counts_beyond_the_file),
        cmocka_unit_test(refuses_odd_values),
        cmocka_unit_test(refuses_tensors_out_of_place),
        cmocka_unit_test(refuses_sizes_that_lie),
        cmocka_unit_test(damage_never_crashes),
    };
    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
