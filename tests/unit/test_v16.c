/* The generic v16: its fused multiply-add, made of sums in double, gives the bits of libm's fmaf,
 * and the functions of whole numbers and of f16 those of plain C. CASES=N for N million triples. */
#include "tests/unit/unit.h"

#include <math.h>

#include "model/kernels/v16_generic.h"
#include "tests/unit/numbers.h"
#include "weights/f16.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MILLIONS 4
#else
#define MILLIONS 60
#endif

static float from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* ---- triples ---- */

struct triple {
    float x, y, z;
};

/* A float of that exponent, whose last bits are often all 0 or 1. */
static float of_exponent(uint64_t random, int exponent)
{
    uint32_t mantissa = (uint32_t)random & 0x7fffff, cut = 0x7fffffu << (random >> 32 & 31);
    mantissa = random >> 40 & 1 ? mantissa & cut : mantissa | (0x7fffff & ~cut);
    float f = from_bits(127u << 23 | mantissa);
    return ldexpf(random >> 41 & 1 ? -f : f, exponent);
}

/* A few units beside 1: products of such lie 2^-46 beside half-way. */
static float beside_one(uint64_t random)
{
    uint32_t off = (uint32_t)random & 3;
    return from_bits((127u << 23) + (random >> 2 & 1 ? off : -off));
}

static struct triple any_bits(uint64_t a, uint64_t b)
{
    return (struct triple){from_bits((uint32_t)a), from_bits((uint32_t)(a >> 32)),
                           from_bits((uint32_t)b)};
}

/* The product is about half of z's last place, or up to 8 times more or less. */
static struct triple half_of_last(uint64_t a, uint64_t b)
{
    int exponent = (int)(b >> 48) % 240 - 120, shift = (int)(b >> 44 & 7) - 4;
    float z = of_exponent(a, exponent);
    float x = ldexpf(beside_one(b), exponent - 24 + shift);
    return (struct triple){x, b >> 3 & 1 ? -beside_one(b >> 4) : beside_one(b >> 4), z};
}

/* The product ends half-way between two floats or nearby, and z is far below its last bit. */
static struct triple half_of_product(uint64_t a, uint64_t b)
{
    float x = from_bits(127u << 23 | ((uint32_t)a & 0x7fffff) | 1);
    float y = from_bits(127u << 23 | 1u << (b & 3 ? 22 - b % 3 : b >> 8 & 15));
    int exponent = (int)(b >> 48) % 180 - 90;
    float z = of_exponent(a ^ b, exponent - 20 - (int)(b >> 40 & 63));
    return (struct triple){ldexpf(x, exponent), b >> 4 & 1 ? -y : y, z};
}

/* The result is subnormal, or nearly. */
static struct triple subnormal(uint64_t a, uint64_t b)
{
    int exponent = -126 - (int)(b % 26), part = (int)(b >> 8 & 127);
    float x = b >> 16 & 1 ? beside_one(b >> 17) : of_exponent(a >> 8, 0);
    float y = ldexpf(b >> 20 & 1 ? beside_one(b >> 21) : of_exponent(b >> 24, 0), -75);
    float z = b >> 63 ? of_exponent(a, exponent) : from_bits((uint32_t)a & 0x80ffffff);
    if (b >> 62 == 0) /* one more is no longer subnormal */
        z = from_bits(((uint32_t)a & 0x80000000) | 0x7fffff);
    return (struct triple){ldexpf(x, exponent + 75 - part % 30 + 2), y, part < 16 ? 0 : z};
}

/* z takes away all of the product but its last bits. */
static struct triple cancelling(uint64_t a, uint64_t b)
{
    float x = of_exponent(a, (int)(b % 80) - 60), y = of_exponent(b >> 8, (int)(a >> 50) % 60 - 40);
    uint32_t z = bits_of(-(x * y));
    return (struct triple){x, y, from_bits(z + (uint32_t)(b >> 60) % 5 - 2)};
}

/* About the largest finite number. */
static struct triple overflowing(uint64_t a, uint64_t b)
{
    float x = from_bits(0x7f7fffff - (uint32_t)(a & 3)), y = beside_one(a >> 2);
    float z = ldexpf(beside_one(b), 102 + (int)(b >> 8 & 3));
    return (struct triple){a >> 60 & 1 ? -x : x, y, b >> 60 & 1 ? -z : z};
}

static const float special[] = {0.0f,      1.0f,     1.5f,     0x1p-149f,       0x1.fffffcp-127f,
                                0x1p-126f, 0x1p-75f, 0x1p-74f, 0x1.fffffep127f, 0x1p64f,
                                INFINITY,  NAN};
#define SPECIALS (2 * sizeof special / sizeof *special)

static float special_of(uint64_t i)
{
    return i % SPECIALS % 2 ? -special[i % SPECIALS / 2] : special[i % SPECIALS / 2];
}

static struct triple specials(uint64_t a, uint64_t b)
{
    return (struct triple){special_of(a >> 8), special_of(a >> 32), special_of(b >> 8)};
}

typedef struct triple triple_fn(uint64_t a, uint64_t b);
static const struct family {
    const char *name;
    triple_fn *make;
    bool twice_differs; /* two roundings would be wrong in some of them */
} families[] = {
    {"any bits", any_bits, false},
    {"half of z's last place", half_of_last, true},
    {"half-way products", half_of_product, true},
    {"subnormal results", subnormal, true},
    {"cancellation", cancelling, false},
    {"overflow", overflowing, false},
    {"special values", specials, false},
};
#define FAMILIES (sizeof families / sizeof *families)

/* ---- the fused multiply-add ---- */

static uint64_t millions(void)
{
    const char *cases = getenv("CASES");
    return cases ? (uint64_t)atoi(cases) : MILLIONS;
}

static bool same_number(float a, float b)
{
    return (isnan(a) && isnan(b)) || bits_of(a) == bits_of(b);
}

/* 16 triples; returns how many of them rounded twice are wrong. */
static int check_sixteen(const float *x, const float *y, const float *z)
{
    float ours[16];
    int differ = 0;
    v16_store(ours, v16_fma(v16_load(x), v16_load(y), v16_load(z)));
    for (int i = 0; i < 16; i++) {
        float right = fmaf(x[i], y[i], z[i]);
        if (!same_number(ours[i], right))
            fail_msg("%a * %a + %a gives %a, not %a", x[i], y[i], z[i], ours[i], right);
        differ += !same_number((float)((double)x[i] * y[i] + z[i]), right);
    }
    return differ;
}

static void fma_is_that_of_libm(void **state)
{
    (void)state;
    uint64_t groups = millions() * 1000000 / 16 / FAMILIES + 1;
    for (size_t f = 0; f < FAMILIES; f++) {
        long differ = 0;
        for (uint64_t g = 0; g < groups; g++) {
            float x[16], y[16], z[16];
            uint64_t a = rng_bits(1, f, g), b = rng_mix(a);
            for (int i = 0; i < 16; i++) {
                struct triple t = families[f].make(a, b);
                x[i] = t.x, y[i] = t.y, z[i] = t.z;
                a = (a ^ b >> 29) * 0x9e3779b97f4a7c15u + 1;
                b = (b ^ a >> 31) * 0xbf58476d1ce4e5b9u + 1;
            }
            differ += check_sixteen(x, y, z);
        }
        print_message("%s: %llu triples, of which %ld go wrong when rounded twice\n",
                      families[f].name, (unsigned long long)groups * 16, differ);
        assert_true(!families[f].twice_differs || differ > 0); /* else nothing was tested */
    }
}

/* Just below half-way between the largest subnormal number and the smallest that is not. */
static void fma_at_the_smallest_normal_number(void **state)
{
    (void)state;
    float x[16] = {0x1.000002p-75f}, y[16] = {0x1.fffffcp-76f}, z[16] = {0x0.fffffep-126f};
    assert_int_equal(check_sixteen(x, y, z), 1);
}

/* Lane by lane with quiet neighbours: the slow way is taken for all lanes as soon as one asks, so
 * that above the neighbours hide a lane that should have asked. */
static void fma_finds_every_lane_in_doubt(void **state)
{
    (void)state;
    for (int lane = 0; lane < 16; lane++)
        for (size_t f = 0; f < FAMILIES; f++)
            for (uint64_t i = 0; i < millions() * 400; i++) {
                float x[16], y[16], z[16];
                for (int j = 0; j < 16; j++)
                    x[j] = 1, y[j] = 1.25f, z[j] = (float)j;
                struct triple t = families[f].make(rng_bits(2, f, i), rng_bits(3, f, i));
                x[lane] = t.x, y[lane] = t.y, z[lane] = t.z;
                check_sixteen(x, y, z);
            }
}

/* ---- the rest ---- */

static void f16_is_widened(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h += 16) {
        uint16_t halves[16];
        float out[16];
        for (uint32_t i = 0; i < 16; i++)
            halves[i] = (uint16_t)(h + i);
        v16_store(out, v16_load_f16(halves));
        for (int i = 0; i < 16; i++)
            assert_int_equal(bits_of(out[i]), bits_of(f16_to_float(halves[i])));
    }
}

static void dots_of_bytes(void **state)
{
    (void)state;
    struct draws d = {4, 0};
    for (int n = 0; n < 2000; n++) {
        uint8_t w[64];
        int8_t x[4];
        int32_t out[16], start = draw_below(&d, 1 << 20) - (1 << 19);
        for (int i = 0; i < 64; i++)
            w[i] = (uint8_t)(n % 3 ? draw_below(&d, 256) : 255);
        for (int i = 0; i < 4; i++)
            x[i] = (int8_t)(n % 4 ? draw_below(&d, 256) - 128 : n % 8 ? 127 : -128);
        v16i dot = v16i_dot(v16i_set(start), v64u_of(v64b_load(w)), v4s_load(x));
        v16i low = v16i_dot(v16i_set(0), v64u_of(v64b_load_nibbles(w, 0)), v4s_load(x));
        v16i high = v16i_dot(v16i_set(0), v64u_of(v64b_load_nibbles(w, 1)), v4s_load(x));
        int32_t sum = 0;
        for (int part = 0; part < 3; part++) {
            memcpy(out, part == 0 ? &dot : part == 1 ? &low : &high, sizeof out);
            for (int i = 0; i < 16; i++) {
                int32_t right = part ? 0 : start;
                for (int j = 0; j < 4; j++) {
                    int code = w[4 * i + j];
                    right += (part == 0 ? code : part == 1 ? code & 15 : code >> 4) * x[j];
                }
                assert_int_equal(out[i], right);
                sum += part ? 0 : right;
            }
        }
        assert_int_equal(v16i_sum(dot), sum);
    }
}

static void rounding_goes_to_even(void **state)
{
    (void)state;
    for (int n = -127 * 8; n <= 127 * 8; n++) {
        int8_t out[16];
        float x = (float)n / 8;
        v16i_store_i8(out, v16_round(v16_set(x)));
        for (int i = 0; i < 16; i++)
            assert_int_equal(out[i], (int)rintf(x));
    }
}

/* Each lane in turn holds what is asked for; max and min give the second when they can't compare.
 */
static void extremes(void **state)
{
    (void)state;
    for (int lane = 0; lane < 16; lane++) {
        float x[16], out[16];
        for (int i = 0; i < 16; i++)
            x[i] = (float)-i - 1;
        x[lane] = 3;
        assert_true(v16_largest(v16_load(x)) == 3);
        x[lane] = -99;
        assert_true(v16_magnitude(v16_load(x), v16_set(-98)) == 99);
        assert_true(v16_magnitude(v16_set(98), v16_load(x)) == 99);
        x[lane] = NAN;
        assert_true(isnan(v16_magnitude(v16_load(x), v16_set(INFINITY))));
        v16_store(out, v16_max(v16_load(x), v16_set(-4)));
        for (int i = 0; i < 16; i++)
            assert_true(out[i] == (x[i] > -4 ? x[i] : -4));
        v16_store(out, v16_min(v16_load(x), v16_set(-4)));
        for (int i = 0; i < 16; i++)
            assert_true(out[i] == (x[i] < -4 ? x[i] : -4));
        v16_store(out, v16_max(v16_set(-4), v16_load(x)));
        assert_true(isnan(out[lane]));
        v16_store(out, v16_swap_pairs(v16_load(x)));
        for (int i = 0; i < 16; i++)
            assert_true(same_number(out[i], x[i ^ 1]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fma_is_that_of_libm),
        cmocka_unit_test(fma_at_the_smallest_normal_number),
        cmocka_unit_test(fma_finds_every_lane_in_doubt),
        cmocka_unit_test(f16_is_widened),
        cmocka_unit_test(dots_of_bytes),
        cmocka_unit_test(rounding_goes_to_even),
        cmocka_unit_test(extremes),
    };
    return cmocka_run_group_tests_name("v16", tests, NULL, NULL);
}
