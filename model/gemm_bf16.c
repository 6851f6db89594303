/* Products of bf16: f32 in, rounded to bf16 while packing, f32 sums, f32 out. On the matrix unit
 * (AMX), else on the vector unit (AVX512_BF16), which takes twice as many such values as floats.
 *
 * A tile register holds 16 rows of 64 bytes. tdpbf16ps adds to C (16, 16 floats) the product of
 * A (16 rows m, 32 values k) and B (16 rows of k pairs, 16 columns n, each a pair of k values):
 *
 *     A tile  [m][k 0..31]            B tile  [k / 2][n][k % 2]
 *
 * Both kinds are packed from floats in two steps: rows or row pairs become 32-bit words holding two
 * neighbouring k, then, where the words stand the wrong way round, a 16 x 16 transpose of words.
 * Columns and rows past an edge are packed as zeros. */
#include "model/gemm.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TILE 16
#define TILE_K 32
#define TILE_VALUES (TILE * TILE_K) /* bf16 values of a tile: 1 KiB */
#define K_BLOCK 1024                /* summed without going back to C */
#define N_BLOCK 512                 /* columns packed at a time */

bool gemm_bf16_available(enum gemm_unit unit)
{
    const long request_permission = 0x1023, tile_data = 18;
    unsigned eax = 7, ebx, ecx = 0, edx;
    bool has = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (unit == GEMM_VECTORS || !has)
        return has;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    has = (edx >> 22 & 1) && (edx >> 24 & 1);
    return has && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

/* 16 rows of up to 32 floats each, rounded: word (i, j) = row i, values 2j and 2j+1. */
static inline __attribute__((always_inline)) void words_from_rows(__m512i w[16], const float *x,
                                                                  size_t ld, int rows, int cols)
{
    __mmask16 low = cols >= 16 ? 0xffff : (__mmask16)((1u << cols) - 1);
    __mmask16 high = cols >= 32 ? 0xffff : cols > 16 ? (__mmask16)((1u << (cols - 16)) - 1) : 0;
    for (int i = 0; i < 16; i++) {
        if (i >= rows) {
            w[i] = _mm512_setzero_si512();
            continue;
        }
        __m512 a = _mm512_maskz_loadu_ps(low, x + (size_t)i * ld);
        __m512 b = _mm512_maskz_loadu_ps(high, x + (size_t)i * ld + 16);
        w[i] = (__m512i)_mm512_cvtne2ps_pbh(b, a);
    }
}

/* 32 rows (the k) of up to 16 floats: word (i, j) = column j of rows 2i and 2i+1. */
static inline __attribute__((always_inline)) void words_from_pairs(__m512i w[16], const float *x,
                                                                   size_t ld, int rows, int cols)
{
    __mmask16 mask = cols >= 16 ? 0xffff : (__mmask16)((1u << cols) - 1);
    const __m512i interleave =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (int i = 0; i < 16; i++) {
        __m512 a = 2 * i < rows ? _mm512_maskz_loadu_ps(mask, x + (size_t)(2 * i) * ld)
                                : _mm512_setzero_ps();
        __m512 b = 2 * i + 1 < rows ? _mm512_maskz_loadu_ps(mask, x + (size_t)(2 * i + 1) * ld)
                                    : _mm512_setzero_ps();
        w[i] = _mm512_permutexvar_epi16(interleave, (__m512i)_mm512_cvtne2ps_pbh(b, a));
    }
}

static inline __attribute__((always_inline)) void transpose(__m512i w[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(w[i], w[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(w[i], w[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        w[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        w[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        w[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        w[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(w[i], w[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(w[i], w[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(w[i + 8], w[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(w[i + 8], w[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        w[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        w[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

static inline __attribute__((always_inline)) void store_tile(uint16_t *to, const __m512i w[16])
{
    for (int i = 0; i < 16; i++)
        _mm512_store_si512(to + i * TILE_K, w[i]);
}

static int min(int a, int b)
{
    return a < b ? a : b;
}

/* Packs op(A) (m, k), panel after panel of 16 rows. Either way memory is read along its rows. */
static void pack_a(uint16_t *to, bool ta, const float *a, size_t lda, int m, int k)
{
    size_t panel = (size_t)((k + TILE_K - 1) / TILE_K) * TILE_VALUES;
    __m512i w[16];
    for (int i = 0; !ta && i < m; i += TILE)
        for (int j = 0; j < k; j += TILE_K) {
            words_from_rows(w, a + (size_t)i * lda + (size_t)j, lda, m - i, k - j);
            store_tile(to + (size_t)(i / TILE) * panel + (size_t)(j / TILE_K) * TILE_VALUES, w);
        }
    for (int j = 0; ta && j < k; j += TILE_K)
        for (int i = 0; i < m; i += TILE) {
            words_from_pairs(w, a + (size_t)j * lda + (size_t)i, lda, k - j, m - i);
            transpose(w);
            store_tile(to + (size_t)(i / TILE) * panel + (size_t)(j / TILE_K) * TILE_VALUES, w);
        }
}

/* Packs op(B) (k, n), panel after panel of 16 columns. */
static void pack_b(uint16_t *to, bool tb, const float *b, size_t ldb, int k, int n)
{
    size_t panel = (size_t)((k + TILE_K - 1) / TILE_K) * TILE_VALUES;
    __m512i w[16];
    for (int i = 0; tb && i < n; i += TILE)
        for (int j = 0; j < k; j += TILE_K) {
            words_from_rows(w, b + (size_t)i * ldb + (size_t)j, ldb, n - i, k - j);
            transpose(w);
            store_tile(to + (size_t)(i / TILE) * panel + (size_t)(j / TILE_K) * TILE_VALUES, w);
        }
    for (int j = 0; !tb && j < k; j += TILE_K)
        for (int i = 0; i < n; i += TILE) {
            words_from_pairs(w, b + (size_t)j * ldb + (size_t)i, ldb, k - j, n - i);
            store_tile(to + (size_t)(i / TILE) * panel + (size_t)(j / TILE_K) * TILE_VALUES, w);
        }
}

/* The part of a tile that exists goes between C and a whole tile in memory. */
static void edge_copy(float *to, size_t to_ld, const float *from, size_t from_ld, int m, int n)
{
    for (int i = 0; i < m; i++)
        memcpy(to + (size_t)i * to_ld, from + (size_t)i * from_ld, (size_t)n * sizeof(float));
}

/* Tile registers: 0..3 sums of a 32 x 32 piece, 4 and 5 A, 6 and 7 B. Register numbers are part of
 * the instructions, hence the macros. A sum begins with C, in whole tiles and at the edge alike:
 * where an element stands depends on how lanes share the rows. */
#define BEGIN(t, i, j)                                                                             \
    if (!accumulate || m <= (i) || n <= (j)) {                                                     \
        _tile_zero(t);                                                                             \
    } else if (m - (i) >= TILE && n - (j) >= TILE) {                                               \
        _tile_loadd(t, c + (size_t)(i)*ldc + (j), ldc * sizeof(float));                            \
    } else {                                                                                       \
        float sums[TILE * TILE] __attribute__((aligned(64))) = {0};                                \
        edge_copy(sums, TILE, c + (size_t)(i)*ldc + (j), ldc, min(m - (i), TILE),                  \
                  min(n - (j), TILE));                                                             \
        _tile_loadd(t, sums, TILE * sizeof(float));                                                \
    }

#define END(t, i, j)                                                                               \
    if (m - (i) >= TILE && n - (j) >= TILE) {                                                      \
        _tile_stored(t, c + (size_t)(i)*ldc + (j), ldc * sizeof(float));                           \
    } else if (m > (i) && n > (j)) {                                                               \
        float sums[TILE * TILE] __attribute__((aligned(64)));                                      \
        _tile_stored(t, sums, TILE * sizeof(float));                                               \
        edge_copy(c + (size_t)(i)*ldc + (j), ldc, sums, TILE, min(m - (i), TILE),                  \
                  min(n - (j), TILE));                                                             \
    }

/* C piece (up to 32, up to 32) from two A panels and two B panels of kt tiles each. */
static void piece_tiles(const uint16_t *a0, const uint16_t *a1, const uint16_t *b0,
                        const uint16_t *b1, int kt, float *c, size_t ldc, int m, int n,
                        bool accumulate)
{
    /* C is often cold: ask for its lines now, they are written after the sums. */
    for (int i = 0; i < min(m, 2 * TILE); i++) {
        __builtin_prefetch(c + (size_t)i * ldc, 1);
        if (n > TILE)
            __builtin_prefetch(c + (size_t)i * ldc + TILE, 1);
    }
    BEGIN(0, 0, 0)
    BEGIN(1, 0, TILE)
    BEGIN(2, TILE, 0)
    BEGIN(3, TILE, TILE)
    for (int i = 0; i < kt; i++) {
        _tile_loadd(6, b0 + i * TILE_VALUES, 64);
        _tile_loadd(7, b1 + i * TILE_VALUES, 64);
        _tile_loadd(4, a0 + i * TILE_VALUES, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a1 + i * TILE_VALUES, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    END(0, 0, 0)
    END(1, 0, TILE)
    END(2, TILE, 0)
    END(3, TILE, TILE)
}

#define GROUP_ROWS 8 /* rows of a piece whose sums stay in registers */

/* Rows first..first+7 of such a piece, from one A panel. */
static void group_vectors(const uint16_t *a, const uint16_t *b0, const uint16_t *b1, int kt,
                          float *c, size_t ldc, int m, int n, bool accumulate)
{
    __mmask16 left = (__mmask16)((1u << min(n, TILE)) - 1);
    __mmask16 right = (__mmask16)(n > TILE ? (1u << min(n - TILE, TILE)) - 1 : 0);
    __m512 sum[GROUP_ROWS][2];
    for (int i = 0; i < GROUP_ROWS; i++) {
        bool add = accumulate && i < m;
        sum[i][0] = _mm512_maskz_loadu_ps(add ? left : 0, c + (size_t)i * ldc);
        sum[i][1] = _mm512_maskz_loadu_ps(add ? right : 0, c + (size_t)i * ldc + TILE);
    }
    for (int t = 0; t < kt; t++)
        for (int p = 0; p < TILE; p++) { /* a pair of k of each of the 8 rows and 32 columns */
            size_t at = (size_t)t * TILE_VALUES + (size_t)p * 2;
            size_t columns = (size_t)t * TILE_VALUES + (size_t)p * TILE_K;
            __m512bh l = (__m512bh)_mm512_load_si512(b0 + columns);
            __m512bh r = (__m512bh)_mm512_load_si512(b1 + columns);
            for (int i = 0; i < GROUP_ROWS; i++) {
                int pair;
                memcpy(&pair, a + at + (size_t)i * TILE_K, sizeof pair);
                __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
                sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, l);
                sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, r);
            }
        }
    for (int i = 0; i < GROUP_ROWS && i < m; i++) {
        _mm512_mask_storeu_ps(c + (size_t)i * ldc, left, sum[i][0]);
        _mm512_mask_storeu_ps(c + (size_t)i * ldc + TILE, right, sum[i][1]);
    }
}

static void piece_vectors(const uint16_t *a0, const uint16_t *a1, const uint16_t *b0,
                          const uint16_t *b1, int kt, float *c, size_t ldc, int m, int n,
                          bool accumulate)
{
    for (int i = 0; i < min(m, 2 * TILE); i += GROUP_ROWS)
        group_vectors((i < TILE ? a0 : a1) + (size_t)(i % TILE) * TILE_K, b0, b1, kt,
                      c + (size_t)i * ldc, ldc, m - i, n, accumulate);
}

static void tiles_configure(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes_per_row[16];
        uint8_t rows[16];
    } config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int i = 0; i < 8; i++) {
        config.bytes_per_row[i] = 64;
        config.rows[i] = 16;
    }
    /* gcc 12 believes that only 8 bytes are read, and may drop stores to the others. */
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
}

void gemm_bf16(struct lane *lane, enum gemm_unit unit, bool ta, bool tb, int m, int n, int k,
               const float *a, size_t lda, const float *b, size_t ldb, bool accumulate, float *c,
               size_t ldc)
{
    bool tiles = unit == GEMM_TILES;
    /* Panels come in pairs: an odd last one gets a partner, whatever it holds is not stored. */
    size_t k_tiles_max = (size_t)(min(k, K_BLOCK) + TILE_K - 1) / TILE_K;
    size_t m_panels = ((size_t)(m + TILE - 1) / TILE + 1) & ~(size_t)1;
    size_t n_panels = ((size_t)(min(n, N_BLOCK) + TILE - 1) / TILE + 1) & ~(size_t)1;
    uint16_t *pa = lane_scratch(lane, (m_panels + n_panels) * k_tiles_max * TILE_VALUES * 2);
    uint16_t *pb = pa + m_panels * k_tiles_max * TILE_VALUES;

    if (tiles)
        tiles_configure();
    for (int k0 = 0; k0 < k; k0 += K_BLOCK) {
        int kn = min(k - k0, K_BLOCK), kt = (kn + TILE_K - 1) / TILE_K;
        size_t panel = (size_t)kt * TILE_VALUES;
        bool add = accumulate || k0 > 0;
        pack_a(pa, ta, ta ? a + (size_t)k0 * lda : a + k0, lda, m, kn);
        for (int n0 = 0; n0 < n; n0 += N_BLOCK) {
            int nn = min(n - n0, N_BLOCK);
            size_t at = tb ? (size_t)n0 * ldb + (size_t)k0 : (size_t)k0 * ldb + (size_t)n0;
            pack_b(pb, tb, b + at, ldb, kn, nn);
            for (int j = 0; j < nn; j += 2 * TILE)
                for (int i = 0; i < m; i += 2 * TILE)
                    (tiles ? piece_tiles : piece_vectors)(
                        pa + (size_t)(i / TILE) * panel, pa + (size_t)(i / TILE + 1) * panel,
                        pb + (size_t)(j / TILE) * panel, pb + (size_t)(j / TILE + 1) * panel, kt,
                        c + (size_t)i * ldc + (size_t)(n0 + j), ldc, m - i, nn - j, add);
        }
    }
    if (tiles)
        _tile_release();
}

#else

bool gemm_bf16_available(enum gemm_unit unit)
{
    (void)unit;
    return false;
}

void gemm_bf16(struct lane *lane, enum gemm_unit unit, bool ta, bool tb, int m, int n, int k,
               const float *a, size_t lda, const float *b, size_t ldb, bool accumulate, float *c,
               size_t ldc)
{
    (void)lane, (void)unit, (void)ta, (void)tb, (void)m, (void)n, (void)k, (void)a, (void)lda,
        (void)b, (void)ldb, (void)accumulate, (void)c, (void)ldc;
}
#endif
