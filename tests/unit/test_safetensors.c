/* The safetensors reader: hostile headers are refused in a sentence that names the tensor, and
 * damaged files never crash (the address sanitizer looks on). */
#include "weights/safetensors.h"

#include "base/buf.h"
#include "base/rng.h"
#include "tests/unit/unit.h"

/* ---- hostile headers ---- */

/* A file of that header and data_size bytes of data, in a block of just that size. */
static unsigned char *make_file(const char *header, size_t header_size, size_t data_size,
                                size_t *size)
{
    *size = 8 + header_size + data_size;
    unsigned char *bytes = calloc(1, *size);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)header_size >> 8 * i);
    memcpy(bytes + 8, header, header_size);
    return bytes;
}

static int parse_header(const char *header, size_t data_size, struct err *err)
{
    struct safetensors st;
    size_t size;
    unsigned char *bytes = make_file(header, strlen(header), data_size, &size);
    int rc = safetensors_parse(&st, bytes, size, "here.safetensors", err);
    if (!rc)
        safetensors_release(&st);
    free(bytes);
    return rc;
}

#define T(dtype, shape, offsets)                                                                   \
    "\"evil\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}"

/* Each with 64 bytes of data behind it. */
static const struct {
    const char *header, *says;
} hostile[] = {
    /* places */
    {"{" T("\"F32\"", "[4]", "[0,80]") "}", "evil"},
    {"{" T("\"F32\"", "[4]", "[56,72]") "}", "64 bytes"},
    {"{" T("\"F32\"", "[4]", "[16,0]") "}", "evil"},
    {"{" T("\"F32\"", "[4]", "[-16,0]") "}", "evil"},
    {"{" T("\"F32\"", "[4]", "[0,-16]") "}", "evil"},
    {"{" T("\"F32\"", "[4]", "[9223372036854775792,9223372036854775807]") "}", "evil"},
    {"{" T("\"F32\"", "[4]", "[0,9223372036854775807]") "}", "evil"},
    {"{" T("\"F32\"", "[4]", "[9223372036854775808,16]") "}", "integer"}, /* 2^63: not JSON's */
    {"{" T("\"F32\"", "[4]", "[18446744073709551600,18446744073709551616]") "}", "integer"},
    {"{" T("\"F32\"", "[4]", "[0.0,16.0]") "}", "evil"},
    {"{" T("\"F32\"", "[4]", "[0]") "}", "evil"},
    {"{" T("\"F32\"", "[4]", "[0,16,32]") "}", "evil"},
    {"{" T("\"F32\"", "[4]", "\"0,16\"") "}", "evil"},
    {"{" T("\"F32\"", "[4]", "null") "}", "evil"},
    /* sizes */
    {"{" T("\"F32\"", "[4]", "[0,12]") "}", "evil"},
    {"{" T("\"F32\"", "[4]", "[0,20]") "}", "needs 16"},
    {"{" T("\"F32\"", "[1152921504606846976]", "[0,16]") "}", "evil"}, /* 2^60 */
    {"{" T("\"F32\"", "[4611686018427387904]", "[0,0]") "}", "evil"},  /* 2^62: times 4 is 0 */
    {"{" T("\"F32\"", "[4611686018427387908]", "[0,16]") "}", "evil"},
    {"{" T("\"U8\"", "[4294967296,4294967296]", "[0,0]") "}", "evil"},
    {"{" T("\"F32\"", "[1099511627776,1099511627776,1099511627776]", "[0,0]") "}", "evil"},
    {"{" T("\"F32\"", "[-4]", "[0,16]") "}", "evil"},
    {"{" T("\"F32\"", "[-2,-2]", "[0,16]") "}", "evil"},
    {"{" T("\"F32\"", "[4.0]", "[0,16]") "}", "evil"},
    {"{" T("\"F32\"", "[\"4\"]", "[0,16]") "}", "evil"},
    {"{" T("\"F32\"", "[[4]]", "[0,16]") "}", "evil"},
    {"{" T("\"F32\"", "4", "[0,16]") "}", "evil"},
    {"{" T("\"F32\"", "[1,1,1,1,1,1,1,1,4]", "[0,16]") "}", "9 dimensions"},
    /* dtypes */
    {"{" T("\"F8_E4M3\"", "[16]", "[0,16]") "}", "F8_E4M3"},
    {"{" T("\"f32\"", "[4]", "[0,16]") "}", "evil"},
    {"{" T("\"\"", "[4]", "[0,16]") "}", "evil"},
    {"{" T("7", "[4]", "[0,16]") "}", "evil"},
    /* objects */
    {"{\"evil\":{}}", "evil"},
    {"{\"evil\":[]}", "evil"},
    {"{\"evil\":{\"dtype\":\"F32\",\"shape\":[4]}}", "evil"},
    {"{\"evil\":{\"dtype\":\"F32\",\"data_offsets\":[0,16]}}", "evil"},
    {"{\"evil\":{\"shape\":[4],\"data_offsets\":[0,16]}}", "evil"},
    {"{" T("\"F32\"", "[4]", "[0,16]") "," T("\"F32\"", "[4]", "[16,32]") "}", "evil"},
    {"{" T("\"F32\"", "[4]", "[0,16],\"shape\":[5]") "}", "shape"},
    {"{" T("\"F32\"", "[4]", "[0,16]") ",\"b\":{\"dtype\":\"U8\",\"shape\":[1],"
                                       "\"data_offsets\":[15,16]}}",
     "overlap"},
    {"{" T("\"F32\"", "[4]", "[0,16]") ",\"b\":{\"dtype\":\"F32\",\"shape\":[4],"
                                       "\"data_offsets\":[0,16]}}",
     "evil"},
    {"{" T("\"F32\"", "[4]", "[0,16]") ",\"b\":{\"dtype\":\"F32\",\"shape\":[0],"
                                       "\"data_offsets\":[8,8]}}",
     "evil"},
    /* names */
    {"{\"ev\\u0000il\":{}}", "NUL"},
    {"{\"evil\\u001b[31m\":{}}", "control character"},
    {"{\"ev\xffil\":{}}", "byte 0xff"},
    /* not a header */
    {"", "header"},
    {"{", "header"},
    {"[]", "header"},
    {"null", "header"},
    {" {}", "begin"},
    {"{} x", "header"},
    {"{}{}", "header"},
};

static void refuses_hostile_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        struct err err = {""};
        if (parse_header(hostile[i].header, 64, &err) != ERR_INVALID)
            fail_msg("%s is not refused", hostile[i].header);
        assert_says(err, hostile[i].says);
        assert_says(err, "here.safetensors");
    }
}

static void refuses_deep_json(void **state)
{
    (void)state;
    struct err err;
    struct buf header = {0};
    buf_puts(&header, "{\"evil\":");
    for (int i = 0; i < 1000000; i++)
        buf_puts(&header, "[");
    assert_int_equal(parse_header(header.data, 0, &err), ERR_INVALID);
    assert_says(err, "depth");
    buf_release(&header);
}

static void refuses_wrong_header_sizes(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {
        3,         100,        (100 << 20) + 1, 1ull << 32,     1ull << 62,
        INT64_MAX, 1ull << 63, UINT64_MAX - 8,  UINT64_MAX - 7, UINT64_MAX};
    struct safetensors st;
    struct err err;
    unsigned char bytes[10] = {[8] = '{', [9] = '}'};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int k = 0; k < 8; k++)
            bytes[k] = (unsigned char)(sizes[i] >> 8 * k);
        assert_int_equal(safetensors_parse(&st, bytes, sizeof bytes, "here", &err), ERR_INVALID);
        assert_says(err, "header of");
    }
    for (size_t n = 0; n < 8; n++)
        assert_int_equal(safetensors_parse(&st, bytes, n, "here", &err), ERR_INVALID);
    assert_int_equal(safetensors_parse(&st, NULL, 0, "here", &err), ERR_INVALID);
}

static void takes_what_is_allowed(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "{}",
        "{}      ",
        "{\"__metadata__\":{\"a\":\"b\"}}",
        "{" T("\"F32\"", "[]", "[0,4]") "}",
        "{" T("\"F32\"", "[16]", "[0,64]") "}",
        "{" T("\"F32\"", "[0]", "[64,64]") "}",
        "{" T("\"F32\"", "[0,4611686018427387904]", "[0,0]") "}",
        "{" T("\"U8\"", "[1,1,1,1,1,1,1,1]", "[63,64]") "}",
        "{" T("\"F32\"", "[4]", "[16,32]") ",\"b\":{\"dtype\":\"F32\",\"shape\":[0],"
                                           "\"data_offsets\":[16,16]}}",
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        struct err err;
        assert_ok(parse_header(headers[i], 64, &err), err);
    }
}

/* ---- asking ---- */

static void get_names_both_shapes(void **state)
{
    (void)state;
    static const char header[] = "{" T("\"F32\"", "[2,3]", "[0,24]") "}";
    struct safetensors st;
    struct err err;
    const struct tensor *t;
    size_t size;
    unsigned char *bytes = make_file(header, sizeof header - 1, 24, &size);
    assert_ok(safetensors_parse(&st, bytes, size, "here", &err), err);
    assert_int_equal(safetensors_get(&st, "evil", 2, (size_t[]){3, 2}, &t, &err), ERR_INVALID);
    assert_says(err, "'evil' has shape [2, 3], but must have [3, 2]");
    assert_int_equal(safetensors_get(&st, "evil", 1, (size_t[]){2}, &t, &err), ERR_INVALID);
    assert_int_equal(safetensors_get(&st, "evil", 0, NULL, &t, &err), ERR_INVALID);
    assert_says(err, "[]");
    assert_int_equal(safetensors_get(&st, "good", 1, (size_t[]){2}, &t, &err), ERR_INVALID);
    assert_says(err, "'good' of shape [2] is missing");
    assert_ok(safetensors_get(&st, "evil", 2, (size_t[]){2, 3}, &t, &err), err);
    safetensors_release(&st);
    free(bytes);
}

static void open_names_the_path(void **state)
{
    (void)state;
    struct safetensors st;
    struct err err;
    struct folder folder;
    assert_int_equal(safetensors_open(&st, "/nowhere/m", &err), ERR_IO);
    assert_says(err, "/nowhere/m");
    assert_int_equal(safetensors_open(&st, "/tmp", &err), ERR_IO);
    assert_says(err, "/tmp");
    folder_make(&folder);
    const char *path = folder_file(&folder, "empty");
    fclose(fopen(path, "w"));
    assert_int_equal(safetensors_open(&st, path, &err), ERR_INVALID);
    assert_says(err, path);
    folder_remove(&folder);
}

/* ---- damage ---- */

/* Parses and, when that works, reads every byte of every tensor: the sanitizer objects to any
 * outside the block. Returns whether it was accepted. */
static int parse_and_touch(const unsigned char *bytes, size_t size)
{
    struct safetensors st;
    struct err err = {""};
    if (safetensors_parse(&st, bytes, size, "damaged", &err)) {
        assert_true(err.text[0]);
        return 0;
    }
    volatile unsigned char sum = 0;
    for (size_t i = 0; i < st.n_tensors; i++) {
        const struct tensor *t = &st.tensors[i];
        const unsigned char *data = t->data;
        assert_true(data >= bytes && (size_t)(data - bytes) <= size);
        assert_true(t->size <= size - (size_t)(data - bytes));
        assert_true(i == 0 || strcmp(st.tensors[i - 1].name, t->name) < 0);
        for (size_t k = 0; k < t->size; k++)
            sum = (unsigned char)(sum + data[k]);
    }
    safetensors_release(&st);
    return 1;
}

static void damage_never_crashes(void **state)
{
    (void)state;
    static const char header[] =
        "{" T("\"F32\"", "[2,5]",
              "[0,40]") ","
                        "\"a\":{\"dtype\":\"BF16\",\"shape\":[3,1,2],\"data_offsets\":[40,52]},"
                        "\"b.c\":{\"dtype\":\"U8\",\"shape\":[12],\"data_offsets\":[52,64]},"
                        "\"d\":{\"dtype\":\"I64\",\"shape\":[0],\"data_offsets\":[64,64]}}";
    size_t size, accepted = 0;
    unsigned char *bytes = make_file(header, sizeof header - 1, 64, &size);
    for (uint64_t i = 0; i < 50000; i++) {
        size_t n = i % 4 ? size : rng_below(12, 0, i, size + 1);
        unsigned char *copy = malloc(n ? n : 1);
        memcpy(copy, bytes, n);
        for (uint64_t k = 0; n && k < i % 3; k++)
            copy[rng_below(13, k, i, n)] ^= (unsigned char)(1 << rng_below(14, k, i, 8));
        /* digits into digits: stays JSON, lies about places and shapes */
        size_t at = 8 + rng_below(15, 0, i, sizeof header);
        if (at < n && copy[at] >= '0' && copy[at] <= '9')
            copy[at] = (unsigned char)('0' + rng_below(16, 0, i, 10));
        accepted += parse_and_touch(copy, n);
        free(copy);
    }
    assert_in_range(accepted, 1000, 49000); /* both answers are exercised */
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_hostile_headers),    cmocka_unit_test(refuses_deep_json),
        cmocka_unit_test(refuses_wrong_header_sizes), cmocka_unit_test(takes_what_is_allowed),
        cmocka_unit_test(get_names_both_shapes),      cmocka_unit_test(open_names_the_path),
        cmocka_unit_test(damage_never_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
