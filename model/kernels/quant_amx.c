/* Products with quantised weights on the processor's 8-bit matrix unit (AMX): whole numbers like
 * those of the other paths, and the same floats from them in the same order.
 *
 * A tile register holds 16 rows of 64 bytes. tdpbsud adds to C (16 rows, 16 channels) the product
 * of A (16 rows, 32 signed codes of one group) and B (8 vectors of the packed group: 4 inputs of
 * each of 16 channels). The unit works beside the vector units, whose part is to scale each group:
 * every step multiplies one pair of groups and scales the pair before it. */
#include "model/kernels/quant_amx.h"

#if defined(__x86_64__)
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "model/kernels/v16_avx512.h"

#define PAIRS 8 /* of groups that all rows pass over together */
/* Rows that are quicker without the unit. */
#define FEW(type) ((type) == WEIGHT_Q8 ? 16 : 12)

bool amx_int8_available(void)
{
    const long request_permission = 0x1023, tile_data = 18;
    unsigned eax = 7, ebx, ecx = 0, edx;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    bool has = (edx >> 24 & 1) && (edx >> 25 & 1) && __builtin_cpu_supports("avx512vnni");
    return has && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

/* Tiles 0 and 1 are C, 2 and 3 A, 4 and 5 B, each of both groups of a pair. */
static void configure(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t colsb[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 6; i++) {
        config.colsb[i] = i == 2 || i == 3 ? GROUP : 64;
        config.rows[i] = i < 4 ? QUANT_BLOCK : 8;
    }
    /* gcc 12 believes that only 8 bytes are read, and may drop stores to the others. */
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
}

/* A block of rows and a stretch of up to PAIRS pairs of one panel. */
struct stretch {
    const struct quant_pair *x;
    const uint8_t *codes;  /* of weights, as in q8 */
    size_t code_step;      /* from pair to pair */
    const uint8_t *scales; /* of channels */
    size_t scale_step;     /* from pair to pair */
    const uint8_t *ahead;  /* what memory should bring meanwhile */
    size_t pairs;
};

typedef int32_t products[2][QUANT_BLOCK][PANEL];

V16_INLINE void multiply(const struct stretch *s, size_t pair, products c)
{
    const int8_t *x = s->x[pair].codes[0];
    const uint8_t *w = s->codes + pair * s->code_step;
    _tile_loadd(2, x, 2 * GROUP);
    _tile_loadd(4, w, 64);
    _tile_zero(0);
    _tile_dpbsud(0, 2, 4);
    _tile_loadd(3, x + GROUP, 2 * GROUP);
    _tile_loadd(5, w + GROUP * PANEL, 64);
    _tile_zero(1);
    _tile_dpbsud(1, 3, 5);
    _tile_stored(0, c[0], PANEL * 4);
    _tile_stored(1, c[1], PANEL * 4);
}

/* sums += scaled products of one pair. With each row a line of what comes next is asked for. */
V16_INLINE void scale(const struct stretch *s, size_t pair, products c, v16 *sum,
                      const size_t pair_bytes)
{
    const struct quant_pair *x = &s->x[pair];
    const uint8_t *ahead = s->ahead + pair * pair_bytes;
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        v16 channel =
            v16_load_f16((const uint16_t *)(s->scales + pair * s->scale_step) + i * PANEL);
#pragma GCC unroll 16
        for (int r = 0; r < QUANT_BLOCK; r++) {
            size_t line = (size_t)(i * QUANT_BLOCK + r) * 64;
            if (line < pair_bytes)
                v16_prefetch(ahead + line);
            v16i dot = _mm512_add_epi32(v16i_set(x->of[r].offset[i]), _mm512_load_si512(c[i][r]));
            v16 scale = v16_mul(channel, v16_set(x->of[r].scale[i]));
            sum[r] = v16_fma(v16i_float(dot), scale, sum[r]);
        }
    }
}

V16_INLINE void stretch_add(const struct stretch *s, float (*sums)[PANEL], const size_t pair_bytes)
{
    products c[2] __attribute__((aligned(64)));
    v16 sum[QUANT_BLOCK];
    for (int r = 0; r < QUANT_BLOCK; r++)
        sum[r] = v16_load(sums[r]);
    multiply(s, 0, c[0]);
    for (size_t pair = 0; pair < s->pairs; pair++) {
        if (pair + 1 < s->pairs)
            multiply(s, pair + 1, c[(pair + 1) % 2]);
        scale(s, pair, c[pair % 2], sum, pair_bytes);
    }
    for (int r = 0; r < QUANT_BLOCK; r++)
        v16_store(sums[r], sum[r]);
}

/* n pairs of q4 as codes of q8. */
static void unpack(const uint8_t *pairs, size_t n, uint8_t (*to)[2 * GROUP * PANEL])
{
    for (size_t i = 0; i < n; i++, pairs += quant_unit_bytes(WEIGHT_Q4))
        for (size_t j = 0; j < 8; j++) {
            uint8_t *group = to[i] + j / 4 * GROUP * PANEL + 64 * (j % 4);
            _mm512_store_si512(group, v64b_load_nibbles(pairs + 64 * j, 0));
            _mm512_store_si512(group + 256, v64b_load_nibbles(pairs + 64 * j, 1));
        }
}

/* sums = one panel times all blocks. */
V16_INLINE void panel_rows(const enum weight_type type, const struct quant_pair *x, int blocks,
                           int pairs, const uint8_t *panel, float (*sums)[PANEL])
{
    uint8_t unpacked[PAIRS][2 * GROUP * PANEL] __attribute__((aligned(64)));
    const size_t pair_bytes = quant_unit_bytes(type);
    memset(sums, 0, (size_t)blocks * QUANT_BLOCK * sizeof *sums);
    for (int first = 0; first < pairs; first += PAIRS, panel += PAIRS * pair_bytes) {
        struct stretch s = {.codes = panel,
                            .code_step = pair_bytes,
                            .scales = panel + 2 * quant_group_bytes(type),
                            .scale_step = pair_bytes,
                            .ahead = panel + PAIRS * pair_bytes,
                            .pairs = (size_t)(pairs - first < PAIRS ? pairs - first : PAIRS)};
        if (type == WEIGHT_Q4) {
            unpack(panel, s.pairs, unpacked);
            s.codes = unpacked[0];
            s.code_step = sizeof *unpacked;
        }
        for (int b = 0; b < blocks; b++) {
            s.x = x + b * pairs + first;
            stretch_add(&s, sums + b * QUANT_BLOCK, pair_bytes);
        }
    }
}

V16_INLINE void linear(const enum weight_type type, const struct quant_pair *x, int rows, int pairs,
                       const void *w, int first, int last, const float *residual, float *y,
                       size_t y_stride)
{
    if (rows <= FEW(type)) {
        quant_vnni[type](x, rows, pairs, w, first, last, residual, y, y_stride);
        return;
    }
    float sums[QUANT_ROWS][PANEL] __attribute__((aligned(64)));
    const size_t panel_bytes = (size_t)pairs * quant_unit_bytes(type);
    configure();
    for (int panel = first; panel < last; panel++) {
        panel_rows(type, x, (rows + QUANT_BLOCK - 1) / QUANT_BLOCK, pairs,
                   (const uint8_t *)w + (size_t)panel * panel_bytes, sums);
        for (int r = 0; r < rows; r++) {
            size_t at = (size_t)r * y_stride + (size_t)panel * PANEL;
            v16 sum = v16_load(sums[r]);
            v16_store(y + at, residual ? v16_add(v16_load(residual + at), sum) : sum);
        }
    }
    _tile_release();
}

static void linear_q8(const struct quant_pair *x, int rows, int pairs, const void *w, int first,
                      int last, const float *residual, float *y, size_t y_stride)
{
    linear(WEIGHT_Q8, x, rows, pairs, w, first, last, residual, y, y_stride);
}

static void linear_q4(const struct quant_pair *x, int rows, int pairs, const void *w, int first,
                      int last, const float *residual, float *y, size_t y_stride)
{
    linear(WEIGHT_Q4, x, rows, pairs, w, first, last, residual, y, y_stride);
}

void amx_int8_take(struct kernels *table)
{
    static linear_quant_kernel *products[WEIGHT_TYPES];
    for (int type = 0; type < WEIGHT_TYPES; type++)
        products[type] = quant_vnni[type];
    products[WEIGHT_Q8] = linear_q8;
    products[WEIGHT_Q4] = linear_q4;
    table->name = "amx";
    table->linear_quant = products;
}
#endif
