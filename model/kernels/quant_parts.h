/* Parts of the products with quantised weights that the matrix unit's functions need as well: codes
 * as they stand in memory, and how a block is scaled. Written in v16; included after its header.
 * The formats are in kernels.h; `type`, R and P are constants after inlining. */
#ifndef MODEL_KERNELS_QUANT_PARTS_H
#define MODEL_KERNELS_QUANT_PARTS_H

#include "model/kernels/kernels.h"
#include "model/kernels/v16.h"

/* Bits of a code in memory. */
V16_INLINE int code_bits(const enum weight_type type)
{
    return (int)quant_group_bytes(type) * 8 / (GROUP * PANEL);
}

/* Vector v of a group: inputs 4v..4v+3 of 16 channels. */
V16_INLINE v64b group_codes(const enum weight_type type, const uint8_t *group, int v)
{
    const int j = v % 4, h = v / 4;
    const uint8_t *low = group + 64 * j, *high = group + GROUP * PANEL / 2;
    return code_bits(type) == 8   ? v64b_load(group + 64 * v)
           : code_bits(type) == 5 ? v64b_load_5(low, h, high + 8 * v)
           : code_bits(type) == 6 ? v64b_load_6(low, h, high + 64 * h, 2 * j)
                                  : v64b_load_nibbles(low, h);
}

/* The whole-number scales, or minima, of two groups: 16 pairs of 16 bits. */
V16_INLINE v16i load_subs(const uint8_t *subs, int two)
{
    return v16i_load_pairs_i8((const int8_t *)subs + two * 2 * PANEL);
}

/* The sum over a block's groups of their minima (or, without minima, scales) times the sums of the
 * row's codes. */
V16_INLINE v16i block_minima(const enum weight_type type, const struct quant_pair *x, int row,
                             const uint8_t *subs)
{
    v16i all = v16i_set(0);
#pragma GCC unroll 8
    for (int two = 0; two < BLOCK / quant_sub_group(type) / 2; two++) {
        const int16_t *sums = quant_sub_group(type) == 32
                                  ? x[two].of[row].sums_32
                                  : x[two / 2].of[row].sums_16 + two % 2 * 2;
        all = v16i_dot_pairs(all, load_subs(subs, two), sums);
    }
    return all;
}

/* sum += total of a block, scaled, for R rows. */
V16_INLINE void block_scale(const enum weight_type type, const struct quant_pair *x, int row,
                            const uint8_t *block, size_t panel_bytes, const v16i *total, v16 *sum,
                            const int R, const int P)
{
    const size_t sub_bytes = (size_t)(BLOCK / quant_sub_group(type)) * PANEL;
    const size_t subs = 8 * quant_group_bytes(type), floats = PANEL * sizeof(uint16_t);
    const size_t minima = subs + (quant_has_minimum(type) ? sub_bytes : 0);
    for (int p = 0; p < P; p++) {
        const uint8_t *at = block + (size_t)p * panel_bytes;
        v16 d = v16_load_f16((const uint16_t *)(at + minima + sub_bytes));
        v16 n = v16_load_f16((const uint16_t *)(at + minima + sub_bytes + floats));
        for (int r = 0; r < R; r++) {
            v16 scale = v16_set(x->of[row + r].block_scale), *to = &sum[r * P + p];
            v16i least = block_minima(type, x, row + r, at + minima), all = total[r * P + p];
            if (!quant_has_minimum(type))
                all = v16i_sub(all, v16i_mul(least, v16i_set(quant_bias(type))));
            *to = v16_fma(v16i_float(all), v16_mul(d, scale), *to);
            if (quant_has_minimum(type))
                *to = v16_fma(v16i_float(least), v16_mul(n, v16_sub(v16_set(0.0f), scale)), *to);
        }
    }
}

#endif
