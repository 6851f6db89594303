/* Loops that do nothing but load, or nothing but multiply. Only functions marked with a target use
 * more than the base instruction set, and only where kernels_init found that the processor has it.
 */
#include "tools/bench_peak.h"

#include <stdint.h>
#include <string.h>

#include "base/clock.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Claims to look at the result of a loop, so that it isn't dropped for want of a use. */
static void keep(const void *result)
{
    __asm__ volatile("" : : "r"(result) : "memory");
}

/* ---- memory ---- */

/* STREAMS at once a lane, and lines asked for ahead: of what was tried the fastest, by a tenth over
 * plain loads. `size` is a multiple of READ_STEP. */
#define STREAMS 4
#define READ_STEP ((size_t)STREAMS * 256)
#define READ_AHEAD 2048

static void read_generic(const char *from, size_t size)
{
    uint64_t sum[STREAMS] = {0};
    for (size_t i = 0; i < size / STREAMS; i += 64)
        for (size_t s = 0; s < STREAMS; s++) {
            const char *at = from + s * (size / STREAMS) + i;
            __builtin_prefetch(at + READ_AHEAD);
            for (size_t j = 0; j < 8; j++)
                sum[s] += ((const uint64_t *)at)[j];
        }
    keep(sum);
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void read_avx512(const char *from, size_t size)
{
    __m512i sum[STREAMS];
    for (int s = 0; s < STREAMS; s++)
        sum[s] = _mm512_setzero_si512();
    for (size_t i = 0; i < size / STREAMS; i += 256)
        for (size_t s = 0; s < STREAMS; s++)
            for (size_t j = 0; j < 4; j++) {
                const char *at = from + s * (size / STREAMS) + i + 64 * j;
                _mm_prefetch(at + READ_AHEAD, _MM_HINT_T0);
                sum[s] = _mm512_add_epi64(sum[s], _mm512_load_si512(at));
            }
    __m512i all = sum[0];
    for (int s = 1; s < STREAMS; s++)
        all = _mm512_add_epi64(all, sum[s]);
    keep(&all);
}
#endif

struct reading {
    const struct area *areas;
    int n;
    void (*read)(const char *from, size_t size);
};

static void read_lane(struct lane *lane, void *arg)
{
    const struct reading *r = arg;
    for (int i = 0; i < r->n; i++) {
        int begin, end;
        lane_share(lane, (int)(r->areas[i].size / READ_STEP), 1, &begin, &end);
        r->read((const char *)r->areas[i].data + (size_t)begin * READ_STEP,
                (size_t)(end - begin) * READ_STEP);
    }
}

double peak_bandwidth(struct team *team, const struct area *areas, int n)
{
    struct reading r = {areas, n, read_generic};
    size_t bytes = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        r.read = read_avx512;
#endif
    for (int i = 0; i < n; i++)
        bytes += areas[i].size / READ_STEP * READ_STEP;
    double start = clock_seconds();
    team_run(team, read_lane, &r);
    return (double)bytes / (clock_seconds() - start);
}

/* ---- arithmetic: independent sums enough to hide how long one addition takes ---- */

#define SUMS 16
#define SUMS_AVX2 12 /* there are 16 registers */

struct instruction {
    const char *name;
    const char *isas; /* names of the kernels that multiply with it */
    bool (*of)(enum weight_type type);
    void (*run)(size_t rounds);
    double operations; /* of one round */
};

#if defined(__x86_64__)
/* op: what the names of the vector's operations begin with. */
#define RUN_FMA(name, features, vector, op, sums)                                                  \
    __attribute__((target(features))) static void name(size_t rounds)                              \
    {                                                                                              \
        vector s[sums], x = op##_set1_ps(0.5f), y = op##_set1_ps((float)rounds);                   \
        for (int j = 0; j < sums; j++)                                                             \
            s[j] = op##_set1_ps((float)j);                                                         \
        for (size_t i = 0; i < rounds; i++) {                                                      \
            _Pragma("GCC unroll 16") for (int j = 0; j < sums; j++) s[j] =                         \
                op##_fmadd_ps(s[j], x, y);                                                         \
        }                                                                                          \
        vector all = s[0];                                                                         \
        for (int j = 1; j < sums; j++)                                                             \
            all = op##_add_ps(all, s[j]);                                                          \
        keep(&all);                                                                                \
    }
RUN_FMA(run_fma256, "avx2,fma", __m256, _mm256, SUMS_AVX2)
RUN_FMA(run_fma512, "avx512f", __m512, _mm512, SUMS)

/* In assembly, because GCC 12 copies the sums around when it is the intrinsic. Products without the
 * additions that they need besides, where there is no instruction for both. */
#define RUN_BYTES(name, features, vector, op, sums, instruction)                                   \
    __attribute__((target(features))) static void name(size_t rounds)                              \
    {                                                                                              \
        vector s[sums], x = op##_set1_epi8(3), y = op##_set1_epi8((char)rounds);                   \
        for (int j = 0; j < sums; j++)                                                             \
            s[j] = op##_set1_epi32(j);                                                             \
        for (size_t i = 0; i < rounds; i++) {                                                      \
            _Pragma("GCC unroll 16") for (int j = 0; j < sums; j++)                                \
            {                                                                                      \
                vector sum = s[j];                                                                 \
                __asm__(instruction : "+v"(sum) : "v"(x), "v"(y));                                 \
                s[j] = sum;                                                                        \
            }                                                                                      \
        }                                                                                          \
        vector all = s[0];                                                                         \
        for (int j = 1; j < sums; j++)                                                             \
            all = op##_add_epi32(all, s[j]);                                                       \
        keep(&all);                                                                                \
    }
RUN_BYTES(run_maddwd, "avx2", __m256i, _mm256, SUMS_AVX2, "vpmaddwd %2, %0, %0")
RUN_BYTES(run_maddubsw, "avx2", __m256i, _mm256, SUMS_AVX2, "vpmaddubsw %2, %0, %0")
RUN_BYTES(run_dpbusd256, "avx2,avxvnni", __m256i, _mm256, SUMS_AVX2, "%{vex%} vpdpbusd %1, %2, %0")
RUN_BYTES(run_dpbusd512, "avx512f,avx512vnni", __m512i, _mm512, SUMS, "vpdpbusd %1, %2, %0")

/* kernels_init has asked the system for the matrix unit. Tiles 0..3 are the sums. */
__attribute__((target("amx-tile,amx-int8"))) static void run_tiles(size_t rounds)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t colsb[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.colsb[i] = 64;
        config.rows[i] = 16;
    }
    keep(&config); /* GCC 12 believes that the next line reads 8 bytes only */
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    for (size_t i = 0; i < rounds; i++) {
        _tile_dpbsud(0, 4, 5);
        _tile_dpbsud(1, 4, 5);
        _tile_dpbsud(2, 4, 5);
        _tile_dpbsud(3, 4, 5);
    }
    _tile_release();
}
#endif

static bool floats(enum weight_type type)
{
    return type < WEIGHT_Q8;
}

static bool codes(enum weight_type type)
{
    return type >= WEIGHT_Q8;
}

static bool bytes(enum weight_type type)
{
    return type == WEIGHT_Q8;
}

/* A multiplication and an addition count as two. Of several the first is the one. */
static const struct instruction instructions[] = {
#if defined(__x86_64__)
    {"vfmadd", "avx512 vnni amx", floats, run_fma512, SUMS * 16 * 2},
    {"vfmadd", "avx2 avxvnni", floats, run_fma256, SUMS_AVX2 * 8 * 2},
    {"tdpbsud", "amx", codes, run_tiles, 4 * 16 * 16 * 64 * 2},
    {"vpdpbusd", "vnni", codes, run_dpbusd512, SUMS * 64 * 2},
    {"vpdpbusd", "avxvnni", codes, run_dpbusd256, SUMS_AVX2 * 32 * 2},
    {"vpmaddwd", "avx2", bytes, run_maddwd, SUMS_AVX2 * 16 * 2},
    {"vpmaddubsw", "avx2", codes, run_maddubsw, SUMS_AVX2 * 32 * 2},
#endif
    {NULL, "", floats, NULL, 0}};

static const struct instruction *find(enum weight_type type)
{
    const struct instruction *i = instructions;
    while (i->name && !(i->of(type) && strstr(i->isas, kernels.name)))
        i++;
    return i;
}

const char *peak_instruction(enum weight_type type)
{
    return find(type)->name;
}

struct multiplying {
    const struct instruction *instruction;
    size_t rounds;
};

static void multiply_lane(struct lane *lane, void *arg)
{
    const struct multiplying *m = arg;
    (void)lane;
    m->instruction->run(m->rounds);
}

double peak_arithmetic(struct team *team, enum weight_type type)
{
    /* About 10 ms, whichever instruction it is: SUMS of them, or four on tiles, take 8 to 64
     * cycles. */
    struct multiplying m = {find(type), (size_t)1 << 20};
    if (!m.instruction->name)
        return 0;
    double start = clock_seconds();
    team_run(team, multiply_lane, &m);
    return m.instruction->operations * (double)m.rounds * team->n / (clock_seconds() - start);
}
