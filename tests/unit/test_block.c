/* GGUF's blocks against the `gguf` package (tests/parity/make_blocks.py): every code, scale and
 * minimum of random blocks, by way of the weights that they make. They must be equal, without any
 * tolerance (but a zero may have another sign): codes and scales are whole numbers and halves,
 * whose products fit into a float, so that only adding a minimum rounds, and that in one way. */
#include "weights/block.h"

#include "tests/unit/numbers.h"
#include "tests/unit/unit.h"
#include "weights/safetensors.h"

static const struct {
    enum weight_type type;
    uint32_t number; /* ggml's */
    const char *name;
} types[] = {{WEIGHT_Q4, 2, "Q4_0"},    {WEIGHT_Q4_1, 3, "Q4_1"},  {WEIGHT_Q5_0, 6, "Q5_0"},
             {WEIGHT_Q5_1, 7, "Q5_1"},  {WEIGHT_Q8, 8, "Q8_0"},    {WEIGHT_Q2_K, 10, "Q2_K"},
             {WEIGHT_Q3_K, 11, "Q3_K"}, {WEIGHT_Q4_K, 12, "Q4_K"}, {WEIGHT_Q5_K, 13, "Q5_K"},
             {WEIGHT_Q6_K, 14, "Q6_K"}};
#define TYPES (sizeof types / sizeof *types)

static const struct tensor *part(const struct safetensors *st, const char *type, const char *what)
{
    char name[32];
    snprintf(name, sizeof name, "%s.%s", type, what);
    const struct tensor *t = safetensors_find(st, name);
    assert_non_null(t);
    return t;
}

static void weights_are_those_of_the_reference(void **state)
{
    struct safetensors st;
    struct err err;
    (void)state;
    assert_ok(safetensors_open(&st, "tests/data/gguf/blocks.safetensors", &err), err);
    for (size_t i = 0; i < TYPES; i++) {
        const struct block_format *f = block_format(types[i].type);
        const struct tensor *bytes = part(&st, types[i].name, "bytes");
        const struct tensor *floats = part(&st, types[i].name, "floats");
        assert_int_equal(bytes->shape[1], f->bytes);
        assert_int_equal(floats->shape[1], f->inputs);
        for (size_t b = 0; b < bytes->shape[0]; b++) {
            struct code_block block;
            float w[BLOCK_MOST + 1], right[BLOCK_MOST];
            memset(&block, 0xff, sizeof block); /* nothing may be left over from before */
            w[f->inputs] = 7;
            block_read(types[i].type, (const uint8_t *)bytes->data + b * (size_t)f->bytes, &block);
            block_floats(types[i].type, &block, w);
            memcpy(right, (const char *)floats->data + b * (size_t)f->inputs * sizeof *right,
                   (size_t)f->inputs * sizeof *right);
            for (int k = 0; k < f->inputs; k++)
                if (!(w[k] == right[k]))
                    fail_msg("%s, block %zu, input %d: %.9g, but should be %.9g", types[i].name, b,
                             k, (double)w[k], (double)right[k]);
            assert_true(w[f->inputs] == 7);
        }
    }
    safetensors_release(&st);
}

/* What a packed weight is made of stays within the bits that there are for it. */
static void codes_and_scales_stay_in_their_bits(void **state)
{
    struct draws d = {1, 0};
    (void)state;
    for (int n = 0; n < 2000; n++) {
        enum weight_type type = types[n % (int)TYPES].type;
        const struct block_format *f = block_format(type);
        uint8_t bytes[256];
        struct code_block block;
        for (int i = 0; i < 256; i++)
            bytes[i] = n < 20 ? (n < 10 ? 0 : 0xff) : (uint8_t)draw_below(&d, 256);
        block_read(type, bytes, &block);
        for (int i = 0; i < f->inputs; i++)
            assert_true(block.codes[i] < 1 << f->code_bits);
        for (int g = 0; f->minimum && f->sub_group && g < f->inputs / f->sub_group; g++)
            assert_true(block.scale[g] >= 0 && block.scale[g] < 64 && block.minimum[g] >= 0 &&
                        block.minimum[g] < 64);
    }
}

static void types_are_known_by_number_and_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < TYPES; i++) {
        assert_int_equal(block_type_of_ggml(types[i].number), types[i].type);
        assert_string_equal(block_ggml_name(types[i].number), types[i].name);
    }
    assert_int_equal(block_type_of_ggml(0), WEIGHT_F32);
    assert_int_equal(block_type_of_ggml(1), WEIGHT_F16);
    assert_int_equal(block_type_of_ggml(30), WEIGHT_BF16);
    assert_int_equal(block_type_of_ggml(20), -1); /* known by name only */
    assert_string_equal(block_ggml_name(20), "IQ4_NL");
    static const uint32_t unknown[] = {4, 5, 31, 32, 33, 36, 40, 1000, UINT32_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        assert_int_equal(block_type_of_ggml(unknown[i]), -1);
        assert_string_equal(block_ggml_name(unknown[i]), "unknown");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_those_of_the_reference),
        cmocka_unit_test(codes_and_scales_stay_in_their_bits),
        cmocka_unit_test(types_are_known_by_number_and_name),
    };
    return cmocka_run_group_tests_name("block", tests, NULL, NULL);
}
