/* The safetensors writer: what is written comes back, bf16 is rounded as the header says, and no
 * failure leaves half a file. */
#include <math.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "base/rng.h"
#include "tests/unit/unit.h"
#include "weights/safetensors.h"

enum { MANY = 12 };

static void *random_bytes(size_t size, uint64_t stream)
{
    unsigned char *bytes = malloc(size + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)rng_bits(11, stream, i);
    return bytes;
}

static size_t bytes_of(const struct tensor_out *t)
{
    size_t n = dtype_size(t->dtype);
    for (int i = 0; i < t->n_dims; i++)
        n *= t->shape[i];
    return n;
}

/* MANY random tensors; names[i] hold their names. Freed by free_random. */
static void make_random(struct tensor_out tensors[MANY], char names[MANY][32], uint64_t seed)
{
    for (uint64_t i = 0; i < MANY; i++) {
        struct tensor_out *t = &tensors[i];
        snprintf(names[i], sizeof names[i], "t\xc3\xa9\"%d.w",
                 (int)((i * 7 + seed) % MANY)); /* the order in the file is not that of names */
        *t = (struct tensor_out){.name = names[i]};
        t->dtype = (enum dtype)rng_below(seed, 1, i, DTYPE_U8 + 1);
        t->n_dims = (int)rng_below(seed, 2, i, TENSOR_DIMS_MAX + 1);
        for (int k = 0; k < t->n_dims; k++)
            t->shape[k] = rng_below(seed, 3 + k, i, t->n_dims > 4 ? 4 : 9);
        t->data = random_bytes(bytes_of(t), seed * MANY + i);
    }
}

static void free_random(struct tensor_out tensors[MANY])
{
    for (int i = 0; i < MANY; i++)
        free((void *)tensors[i].data);
}

static void comes_back_as_written(void **state)
{
    (void)state;
    struct folder folder;
    folder_make(&folder);
    const char *path = folder_file(&folder, "model.safetensors");
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct tensor_out tensors[MANY];
        char names[MANY][32];
        struct safetensors st;
        struct err err;
        make_random(tensors, names, seed);
        assert_ok(safetensors_write(path, tensors, MANY, "{\"who\":\"test\"}", &err), err);
        assert_ok(safetensors_open(&st, path, &err), err);
        assert_int_equal(st.n_tensors, MANY);
        const unsigned char *next = NULL;
        for (int i = 0; i < MANY; i++) {
            const struct tensor_out *in = &tensors[i];
            const struct tensor *t = safetensors_find(&st, in->name), *same = NULL;
            assert_non_null(t);
            assert_int_equal(t->dtype, in->dtype);
            assert_int_equal(t->n_dims, in->n_dims);
            for (int k = 0; k < t->n_dims; k++)
                assert_int_equal(t->shape[k], in->shape[k]);
            assert_int_equal(t->size, bytes_of(in));
            assert_true(!t->size || !memcmp(t->data, in->data, t->size));
            if (i == 0)
                assert_int_equal(((const unsigned char *)t->data - st.mapping.bytes) % 64, 0);
            else
                assert_ptr_equal(t->data, next);
            next = (const unsigned char *)t->data + t->size;
            int rc = safetensors_get(&st, in->name, in->n_dims, in->shape, &same, &err);
            bool real = in->dtype == DTYPE_F32 || in->dtype == DTYPE_BF16;
            assert_int_equal(rc, real ? 0 : ERR_INVALID);
            assert_true(!real || same == t);
        }
        assert_null(safetensors_find(&st, "t"));
        safetensors_release(&st);
        safetensors_release(&st);
        free_random(tensors);
    }
    assert_int_equal(folder_count(&folder), 1);
    folder_remove(&folder);
}

/* What the 16 bits stand for; infinity counts as 2^128, where rounding to it begins. */
static double bf16_value(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return isinf(x) ? copysign(0x1p128, x) : x;
}

static void assert_nearest(float x, uint16_t h)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x)) {
        assert_true((h & 0x7f80) == 0x7f80 && (h & 0x7f));
        return;
    }
    if (isinf(x)) {
        assert_int_equal(h, bits >> 16);
        return;
    }
    /* x lies between lo and the next one away from zero */
    uint16_t lo = (uint16_t)(bits >> 16), hi = (uint16_t)(lo + 1);
    double down = fabs(x - bf16_value(lo)), up = fabs(bf16_value(hi) - x);
    uint16_t nearest = down < up ? lo : up < down ? hi : lo & 1 ? hi : lo;
    assert_int_equal(h, nearest);
}

static void bf16_is_rounded_to_nearest_even(void **state)
{
    (void)state;
    enum { N = 70000 };
    static const uint32_t special[] = {0,          0x80000000, 0x7f800000, 0xff800000, 0x7f800001,
                                       0xff80ffff, 0x7fffffff, 0x7f7fffff, 0x7f7f8000, 0x7f7f7fff,
                                       0x00000001, 0x00008000, 0x00018000, 0x3f808000, 0x3f818000,
                                       0x3f808001, 0x3f807fff};
    uint32_t *bits = random_bytes(N * sizeof *bits, 99);
    struct folder folder;
    struct safetensors st;
    struct err err;
    const struct tensor *t;
    memcpy(bits, special, sizeof special);
    for (size_t i = 1000; i < 2000; i++)
        bits[i] = (bits[i] & 0xffff0000) | 0x8000; /* ties */
    struct tensor_out out = {
        .name = "x", .dtype = DTYPE_BF16, .n_dims = 1, .shape = {N}, .data = bits, .f32_source = 1};
    folder_make(&folder);
    const char *path = folder_file(&folder, "x.safetensors");
    assert_ok(safetensors_write(path, &out, 1, NULL, &err), err);
    assert_ok(safetensors_open(&st, path, &err), err);
    assert_ok(safetensors_get(&st, "x", 1, (size_t[]){N}, &t, &err), err);
    for (size_t i = 0; i < N; i++) {
        float x;
        memcpy(&x, &bits[i], sizeof x);
        assert_nearest(x, ((const uint16_t *)t->data)[i]);
    }
    safetensors_release(&st);
    folder_remove(&folder);
    free(bits);
}

static struct tensor_out four_floats(const char *name, const float x[4])
{
    return (struct tensor_out){
        .name = name, .dtype = DTYPE_F32, .n_dims = 1, .shape = {4}, .data = x};
}

static void writer_refuses(void **state)
{
    (void)state;
    float x[4] = {0};
    struct tensor_out pair[2] = {four_floats("a", x), four_floats("a", x)};
    struct tensor_out huge = four_floats("b", x), half = four_floats("c", x);
    struct tensor_out name = four_floats("\xff", x);
    huge.n_dims = 2, huge.shape[0] = 1ull << 62, huge.shape[1] = 4;
    half.dtype = DTYPE_F16, half.f32_source = 1;
    struct folder folder;
    struct err err;
    folder_make(&folder);
    const char *path = folder_file(&folder, "x.safetensors");
    assert_int_equal(safetensors_write(path, pair, 2, NULL, &err), ERR_INVALID);
    assert_says(err, "'a'");
    assert_int_equal(safetensors_write(path, &huge, 1, NULL, &err), ERR_INVALID);
    assert_says(err, "'b'");
    assert_int_equal(safetensors_write(path, &half, 1, NULL, &err), ERR_INVALID);
    assert_says(err, "'c'");
    assert_int_equal(safetensors_write(path, &name, 1, NULL, &err), ERR_INVALID);
    assert_int_equal(safetensors_write(path, pair, 1, "[]", &err), ERR_INVALID);
    assert_int_equal(safetensors_write(path, pair, 1, "{\"a\":1}", &err), ERR_INVALID);
    assert_says(err, "metadata");
    assert_int_equal(folder_count(&folder), 0);
    assert_int_equal(safetensors_write("/nowhere/x", pair, 1, NULL, &err), ERR_IO);
    assert_says(err, "/nowhere/x");
    folder_remove(&folder);
}

/* The old file stays when the new one cannot be put in its place. */
static void writer_leaves_the_old_file(void **state)
{
    (void)state;
    float x[4] = {1, 2, 3, 4};
    struct tensor_out out = four_floats("a", x);
    struct folder folder;
    struct safetensors st;
    struct err err;
    folder_make(&folder);
    assert_ok(safetensors_write(folder_file(&folder, "x"), &out, 1, NULL, &err), err);
    assert_int_equal(mkdir(folder_file(&folder, "x.tmp"), 0700), 0);
    x[0] = 9;
    assert_int_equal(safetensors_write(folder_file(&folder, "x"), &out, 1, NULL, &err), ERR_IO);
    assert_ok(safetensors_open(&st, folder_file(&folder, "x"), &err), err);
    assert_true(*(const float *)st.tensors[0].data == 1);
    safetensors_release(&st);
    folder_remove(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back_as_written),
        cmocka_unit_test(bf16_is_rounded_to_nearest_even),
        cmocka_unit_test(writer_refuses),
        cmocka_unit_test(writer_leaves_the_old_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
