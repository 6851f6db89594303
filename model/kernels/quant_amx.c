/* Products with quantised weights on the processor's 8-bit matrix unit (AMX): whole numbers like
 * those of the other paths, and the same floats from them in the same order.
 *
 * A tile register holds 16 rows of 64 bytes. tdpbssd adds to C (16 rows, 16 channels) the product
 * of A (16 rows, signed codes of one group or sub-group) and B (4 inputs of each of 16 channels a
 * row, the packed group). The unit works beside the vector units, whose part is to scale what comes
 * out: it takes two groups a step, always one step ahead. */
#include "model/kernels/quant_amx.h"

#if defined(__x86_64__)
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "model/kernels/v16_avx512.h"

#include "model/kernels/quant_parts.h"

#define PAIRS 8 /* of groups that all rows pass over together: two blocks */
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

/* Inputs of which the unit makes one whole number. */
V16_INLINE int inputs_of(const enum weight_type type)
{
    return quant_is_block(type) ? quant_sub_group(type) : GROUP;
}

/* Tiles 0, 1 and 2, 3 are C of two steps, 4 and 5 A, 6 and 7 B. */
static void configure(int inputs)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t colsb[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.colsb[i] = i == 4 || i == 5 ? (uint16_t)inputs : 64;
        config.rows[i] = (uint8_t)(i < 6 ? QUANT_BLOCK : inputs / 4);
    }
    /* gcc 12 believes that only 8 bytes are read, and may drop stores to the others. */
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
}

/* A block of rows and up to PAIRS pairs of one panel. */
struct stretch {
    const struct quant_pair *x;
    const int8_t *codes;  /* of weights, (inputs / 4, 16 channels, 4), less their bias */
    const uint8_t *units; /* the same as they stand in memory, with their scales */
    const uint8_t *ahead; /* what memory should bring meanwhile, so many lines with each step */
    int pairs, lines;
};

typedef int32_t products[2][QUANT_BLOCK][PANEL];

/* Gives the unit step `step`: it works on while other things are done. */
V16_INLINE void start(const enum weight_type type, const struct stretch *s, int step, const int set)
{
    const int inputs = inputs_of(type), at = 2 * inputs * step;
    const int8_t *x = s->x[at / (2 * GROUP)].codes[0] + at % (2 * GROUP);
    const int8_t *w = s->codes + at * PANEL;
    _tile_loadd(4, x, 2 * GROUP);
    _tile_loadd(6, w, 64);
    _tile_loadd(5, x + inputs, 2 * GROUP);
    _tile_loadd(7, w + inputs * PANEL, 64);
    if (set == 0) {
        _tile_zero(0);
        _tile_dpbssd(0, 4, 6);
        _tile_zero(1);
        _tile_dpbssd(1, 5, 7);
    } else {
        _tile_zero(2);
        _tile_dpbssd(2, 4, 6);
        _tile_zero(3);
        _tile_dpbssd(3, 5, 7);
    }
}

V16_INLINE void finish(products c, const int set)
{
    if (set == 0) {
        _tile_stored(0, c[0], PANEL * 4);
        _tile_stored(1, c[1], PANEL * 4);
    } else {
        _tile_stored(2, c[0], PANEL * 4);
        _tile_stored(3, c[1], PANEL * 4);
    }
}

/* sum += scaled products of a pair of groups. */
V16_INLINE void scale_pair(const enum weight_type type, const struct stretch *s, int pair,
                           products c, v16 *sum)
{
    const struct quant_pair *x = &s->x[pair];
    const uint16_t *scales = (const uint16_t *)(s->units + (size_t)pair * quant_unit_bytes(type) +
                                                2 * quant_group_bytes(type));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        v16 channel = v16_load_f16(scales + i * PANEL), minimum = channel;
        if (quant_has_minimum(type))
            minimum = v16_load_f16(scales + (2 + i) * PANEL);
#pragma GCC unroll 16
        for (int r = 0; r < QUANT_BLOCK; r++) {
            v16 scale = v16_mul(channel, v16_set(x->of[r].scale[i]));
            sum[r] = v16_fma(v16i_float(v16i_load(c[i][r])), scale, sum[r]);
            if (quant_has_minimum(type))
                sum[r] = v16_fma(minimum, v16_set(x->of[r].sum[i]), sum[r]);
        }
    }
}

/* total += products of two sub-groups of a block, times their whole-number scales. */
V16_INLINE void scale_subs(const enum weight_type type, const uint8_t *block, int two, products c,
                           v16i *total)
{
    v16i subs = load_subs(block + 8 * quant_group_bytes(type), two);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        v16i sub = i ? v16i_pair_second(subs) : v16i_pair_first(subs);
#pragma GCC unroll 16
        for (int r = 0; r < QUANT_BLOCK; r++)
            total[r] = v16i_add(total[r], v16i_mul(v16i_load(c[i][r]), sub));
    }
}

V16_INLINE void scale(const enum weight_type type, const struct stretch *s, int step, products c,
                      v16i *total, v16 *sum)
{
    const int steps = BLOCK / inputs_of(type) / 2; /* of a block */
    const uint8_t *ahead = s->ahead + (size_t)(step * s->lines) * 64;
    for (int i = 0; i < s->lines; i++)
        v16_prefetch(ahead + 64 * i);
    if (!quant_is_block(type)) {
        scale_pair(type, s, step, c, sum);
        return;
    }
    const int block = step / steps;
    const uint8_t *unit = s->units + (size_t)block * quant_unit_bytes(type);
    scale_subs(type, unit, step % steps, c, total);
    if (step % steps < steps - 1)
        return;
    block_scale(type, s->x + block * BLOCK_PAIRS, 0, unit, 0, total, sum, QUANT_BLOCK, 1);
    for (int r = 0; r < QUANT_BLOCK; r++)
        total[r] = v16i_set(0);
}

V16_INLINE void stretch_add(const enum weight_type type, const struct stretch *s,
                            float (*sums)[PANEL])
{
    const int steps = s->pairs * GROUP / inputs_of(type);
    products c[2] __attribute__((aligned(64)));
    v16 sum[QUANT_BLOCK];
    v16i total[QUANT_BLOCK];
    for (int r = 0; r < QUANT_BLOCK; r++) {
        sum[r] = v16_load(sums[r]);
        total[r] = v16i_set(0);
    }
    start(type, s, 0, 0);
    for (int step = 0; step < steps; step += 2) {
        if (step + 1 < steps)
            start(type, s, step + 1, 1);
        finish(c[0], 0);
        scale(type, s, step, c[0], total, sum);
        if (step + 1 == steps)
            break;
        if (step + 2 < steps)
            start(type, s, step + 2, 0);
        finish(c[1], 1);
        scale(type, s, step + 1, c[1], total, sum);
    }
    for (int r = 0; r < QUANT_BLOCK; r++)
        v16_store(sums[r], sum[r]);
}

/* Codes of `pairs` pairs of groups; those whose scale is a group's own less their bias. */
V16_INLINE void unpack(const enum weight_type type, const uint8_t *units, int pairs,
                       int8_t (*to)[64])
{
    const int groups = quant_is_block(type) ? 2 * BLOCK_PAIRS : 2; /* of a unit */
    const v64b bias = _mm512_set1_epi8((char)(quant_is_block(type) ? 0 : quant_bias(type)));
    for (int i = 0; i < 2 * pairs; i++) {
        const uint8_t *group = units + (size_t)(i / groups) * quant_unit_bytes(type) +
                               (size_t)(i % groups) * quant_group_bytes(type);
#pragma GCC unroll 8
        for (int v = 0; v < 8; v++, to++)
            _mm512_store_si512(*to, _mm512_sub_epi8(group_codes(type, group, v), bias));
    }
}

/* sums = one panel times all blocks of rows. */
V16_INLINE void panel_rows(const enum weight_type type, const struct quant_pair *x, int blocks,
                           int pairs, const uint8_t *panel, float (*sums)[PANEL])
{
    const int unit_pairs = quant_is_block(type) ? BLOCK_PAIRS : 1;
    int8_t codes[PAIRS * 2 * GROUP * PANEL / 64][64] __attribute__((aligned(64)));
    memset(sums, 0, (size_t)blocks * QUANT_BLOCK * sizeof *sums);
    for (int first = 0, some; first < pairs; first += some) {
        some = pairs - first < PAIRS ? pairs - first : PAIRS;
        const uint8_t *next = panel + (size_t)(some / unit_pairs) * quant_unit_bytes(type);
        const int steps = blocks * some * GROUP / inputs_of(type);
        struct stretch s = {.codes = codes[0],
                            .units = panel,
                            .ahead = next,
                            .pairs = some,
                            .lines = ((int)(next - panel) / 64 + steps - 1) / steps};
        unpack(type, panel, some, codes);
        for (int b = 0; b < blocks; b++) {
            s.x = x + b * pairs + first;
            stretch_add(type, &s, sums + b * QUANT_BLOCK);
            s.ahead += s.lines * 64 * steps / blocks;
        }
        panel = next;
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
    const size_t panel_bytes = quant_panel_bytes(type, pairs * 2 * GROUP);
    configure(inputs_of(type));
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

#define LINEAR(name, type)                                                                         \
    static void name(const struct quant_pair *x, int rows, int pairs, const void *w, int first,    \
                     int last, const float *residual, float *y, size_t y_stride)                   \
    {                                                                                              \
        linear(type, x, rows, pairs, w, first, last, residual, y, y_stride);                       \
    }

LINEAR(linear_q8, WEIGHT_Q8)
LINEAR(linear_q4, WEIGHT_Q4)
LINEAR(linear_q4_1, WEIGHT_Q4_1)
LINEAR(linear_q5_0, WEIGHT_Q5_0)
LINEAR(linear_q5_1, WEIGHT_Q5_1)
LINEAR(linear_q2_k, WEIGHT_Q2_K)
LINEAR(linear_q3_k, WEIGHT_Q3_K)
LINEAR(linear_q4_k, WEIGHT_Q4_K)
LINEAR(linear_q5_k, WEIGHT_Q5_K)
LINEAR(linear_q6_k, WEIGHT_Q6_K)

void amx_int8_take(struct kernels *table)
{
    static linear_quant_kernel *const products[WEIGHT_TYPES] = {
        [WEIGHT_Q8] = linear_q8,     [WEIGHT_Q4] = linear_q4,     [WEIGHT_Q4_1] = linear_q4_1,
        [WEIGHT_Q5_0] = linear_q5_0, [WEIGHT_Q5_1] = linear_q5_1, [WEIGHT_Q2_K] = linear_q2_k,
        [WEIGHT_Q3_K] = linear_q3_k, [WEIGHT_Q4_K] = linear_q4_k, [WEIGHT_Q5_K] = linear_q5_k,
        [WEIGHT_Q6_K] = linear_q6_k};
    table->name = "amx";
    table->linear_quant = products;
}
#endif
