/* Products with quantised weights, written in v16 like kernels_body.h. Included by quant_NAME.c
 * after their v16 header; QUANT_TABLE names the table of functions by type, QUANT_TILE_1 the most
 * rows of which a tile of one panel keeps all sums in registers, QUANT_TILE_2 those of a tile of
 * two panels, or 0 for none. The formats are in kernels.h; `type` is a constant after inlining, and
 * so are R rows and P panels. */
#include "model/kernels/quant_parts.h"

/* The most rows of a tile of P panels. Blocks need twice the registers: theirs are of one. */
V16_INLINE int tile_rows(const enum weight_type type, const int P)
{
    return P == 1 ? QUANT_TILE_1 : quant_is_block(type) ? 0 : QUANT_TILE_2;
}

/* Arrays of a tile. */
#define TILE_PANELS (QUANT_TILE_2 ? 2 : 1)
#define TILE_SUMS (QUANT_TILE_1 > 2 * QUANT_TILE_2 ? QUANT_TILE_1 : 2 * QUANT_TILE_2)

/* Memory answers late, and reads while the arithmetic goes on: lines are asked for with each step
 * of it. A tile that holds all rows asks this many bytes before it needs them. Where several tiles
 * pass over a panel, each asks for its share of the next one, so that memory never rests. */
#define PREFETCH_DISTANCE 6720

struct ahead {
    const uint8_t *at;
    size_t step; /* at most a line: some are asked for twice */
};

V16_INLINE void ask_ahead(struct ahead *ahead)
{
    v16_prefetch(ahead->at);
    ahead->at += ahead->step;
}

/* How often a unit's tile asks. */
V16_INLINE size_t unit_asks(const enum weight_type type)
{
    return (quant_is_block(type) ? 8 : 2) * (quant_group_bytes(type) / 64 + 1);
}

/* Which vector a step takes: low and high halves of the same bytes follow each other. */
V16_INLINE int vector_of(int step, const int steps)
{
    return steps == 8 ? step / 2 + step % 2 * 4 : step;
}

/* What all functions for one group work on: its codes (of the first panel), the rows' codes, and
 * which of the group's 8 vectors. */
struct group_work {
    const struct quant_pair *x;
    int row, i;           /* first row; half of the pair */
    const uint8_t *codes; /* weights */
    size_t panel_bytes;
    const uint8_t *subs; /* of a block: scales of its groups, of which `sub` counts here; or NULL */
    int sub;
    struct ahead *ahead; /* what is asked for meanwhile */
};

#if V16_NARROW
/* group_dots for codes of at most 6 bits. In 16 bits there is room for the pairs of products of
 * 2^15 / (2 * 127 * largest code) steps. */
V16_INLINE void narrow_dots(const enum weight_type type, const struct group_work *g, v16i *total,
                            const int R, const int P, const int first, const int last)
{
    const int room = code_bits(type) == 4 ? 8 : code_bits(type) == 5 ? 4 : 2;
    const int run = room < last - first ? room : last - first;
    v16i times[TILE_PANELS];
    for (int p = 0; p < P; p++)
        times[p] =
            g->subs ? v16i_pair_twice(load_subs(g->subs + (size_t)p * g->panel_bytes, g->sub / 2),
                                      g->sub % 2)
                    : v16i_set(0x10001);
#pragma GCC unroll 4
    for (int begin = first; begin < last; begin += run) {
        v16n part[TILE_SUMS];
        for (int d = 0; d < R * P; d++)
            part[d] = v16i_set(0);
#pragma GCC unroll 8
        for (int s = 0; s < run; s++) {
            const int step = begin + s, v = vector_of(step, last - first);
            v64b w[TILE_PANELS];
            if (step < (int)quant_group_bytes(type) / 64)
                ask_ahead(g->ahead);
            for (int p = 0; p < P; p++)
                w[p] = group_codes(type, g->codes + (size_t)p * g->panel_bytes, v);
            for (int r = 0; r < R; r++)
                for (int p = 0; p < P; p++)
                    part[r * P + p] = v16n_dot(part[r * P + p], w[p],
                                               g->x->codes[g->row + r] + g->i * GROUP + 4 * v);
        }
        for (int r = 0; r < R; r++)
            for (int p = 0; p < P; p++)
                total[r * P + p] = v16n_madd(total[r * P + p], part[r * P + p], times[p]);
    }
}
#endif

#if V16_NARROW
typedef int16_t row_code; /* of q8: all others are narrow */
#define ROW_CODES split
#else
typedef int8_t row_code;
#define ROW_CODES codes
#endif

/* dot += products of vectors first..last-1 (of 8) of one group with codes of R rows. */
V16_INLINE void wide_dots(const enum weight_type type, const struct group_work *g, v16i *dot,
                          const int R, const int P, const int first, const int last)
{
    /* Addresses are hidden from the compiler at each step: gcc 12 would keep one for each row, and
     * halves of codes from one step to the next, where registers are needed for sums. */
    const row_code *x = g->x->ROW_CODES[g->row] + g->i * GROUP;
#pragma GCC unroll 8
    for (int step = first; step < last; step++) {
        v64u w[TILE_PANELS];
        const int v = vector_of(step, last - first);
        __asm__("" : "+r"(x));
        if (step < (int)quant_group_bytes(type) / 64)
            ask_ahead(g->ahead);
        for (int p = 0; p < P; p++) {
            const uint8_t *at = g->codes + (size_t)p * g->panel_bytes;
            __asm__("" : "+r"(at));
            w[p] = v64u_of(group_codes(type, at, v));
        }
        for (int r = 0; r < R; r++) {
            v4s four = v4s_load(x + r * 2 * GROUP + 4 * v);
            for (int p = 0; p < P; p++)
                dot[r * P + p] = v16i_dot(dot[r * P + p], w[p], four);
        }
    }
}

/* total += the same products, of a block times the scale of their sub-group. */
V16_INLINE void group_dots(const enum weight_type type, const struct group_work *g, v16i *total,
                           const int R, const int P, const int first, const int last)
{
#if V16_NARROW
    if (code_bits(type) < 8) {
        narrow_dots(type, g, total, R, P, first, last);
        return;
    }
#endif
    if (!g->subs) {
        wide_dots(type, g, total, R, P, first, last);
        return;
    }
    v16i dot[TILE_SUMS];
    for (int d = 0; d < R * P; d++)
        dot[d] = v16i_set(0);
    wide_dots(type, g, dot, R, P, first, last);
    for (int p = 0; p < P; p++) {
        v16i two = load_subs(g->subs + (size_t)p * g->panel_bytes, g->sub / 2);
        v16i scale = g->sub % 2 ? v16i_pair_second(two) : v16i_pair_first(two);
        for (int r = 0; r < R; r++)
            total[r * P + p] = v16i_add(total[r * P + p], v16i_mul(dot[r * P + p], scale));
    }
}

/* ---- groups with scales of their own ---- */

/* Group i of a pair: sum += dot * scales (+ minimum * sum of the row's codes). */
V16_INLINE void group_add(const enum weight_type type, const struct quant_pair *x, int row, int i,
                          const uint8_t *pair, size_t panel_bytes, v16 *sum, const int R,
                          const int P, struct ahead *ahead)
{
    const size_t group_bytes = quant_group_bytes(type), floats = PANEL * sizeof(uint16_t);
    const uint8_t *scales = pair + 2 * group_bytes + (size_t)i * floats;
    v16i dot[TILE_SUMS];
    for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++)
            dot[r * P + p] = v16i_set(quant_has_minimum(type) ? 0 : x->of[row + r].offset[i]);
    const struct group_work g = {x,           row,  i, pair + (size_t)i * group_bytes,
                                 panel_bytes, NULL, 0, ahead};
    ask_ahead(ahead);
    group_dots(type, &g, dot, R, P, 0, 8);
    for (int p = 0; p < P; p++) {
        v16 channel = v16_load_f16((const uint16_t *)(scales + (size_t)p * panel_bytes));
        for (int r = 0; r < R; r++) {
            v16 scale = v16_mul(channel, v16_set(x->of[row + r].scale[i]));
            sum[r * P + p] = v16_fma(v16i_float(dot[r * P + p]), scale, sum[r * P + p]);
        }
        if (!quant_has_minimum(type))
            continue;
        v16 minimum =
            v16_load_f16((const uint16_t *)(scales + 2 * floats + (size_t)p * panel_bytes));
        for (int r = 0; r < R; r++)
            sum[r * P + p] = v16_fma(minimum, v16_set(x->of[row + r].sum[i]), sum[r * P + p]);
    }
}

/* ---- blocks ---- */

/* Group i of pair `pair` of a block: total += dot * s, for each of its sub-groups. */
V16_INLINE void block_group(const enum weight_type type, const struct quant_pair *x, int row,
                            int pair, int i, const uint8_t *block, size_t panel_bytes, v16i *total,
                            const int R, const int P, struct ahead *ahead)
{
    const size_t group_bytes = quant_group_bytes(type);
    const int subs = GROUP / quant_sub_group(type), group = 2 * pair + i;
    const uint8_t *scales = block + 8 * group_bytes;
    ask_ahead(ahead);
#pragma GCC unroll 2
    for (int s = 0; s < subs; s++) {
        const struct group_work g = {
            x + pair,         row,  i, block + (size_t)group * group_bytes, panel_bytes, scales,
            group * subs + s, ahead};
        group_dots(type, &g, total, R, P, s * 8 / subs, (s + 1) * 8 / subs);
    }
}

/* ---- tiles ---- */

/* R rows from `row` on of the block at x times P panels. With each unit it asks for `share` bytes
 * from `next` on. */
V16_INLINE void quant_tile(const enum weight_type type, const struct quant_pair *x, int row,
                           int pairs, const uint8_t *panel, const float *residual, float *y,
                           size_t y_stride, const uint8_t *next, size_t share, const int R,
                           const int P)
{
    const size_t unit_bytes = quant_unit_bytes(type);
    const int unit_pairs = quant_is_block(type) ? BLOCK_PAIRS : 1;
    const size_t panel_bytes = (size_t)(pairs / unit_pairs) * unit_bytes;
    struct ahead ahead = {next, (share + unit_asks(type) - 1) / unit_asks(type)};
    v16 sum[TILE_SUMS];
    for (int i = 0; i < R * P; i++)
        sum[i] = v16_set(0.0f);
    for (const struct quant_pair *end = x + pairs; x < end; x += unit_pairs, panel += unit_bytes) {
        ahead.at = next;
        next += share;
        v16i total[TILE_SUMS];
        for (int i = 0; i < R * P; i++)
            total[i] = v16i_set(0);
#pragma GCC unroll 1
        for (int i = 0; i < 2 * unit_pairs; i++)
            if (quant_is_block(type))
                block_group(type, x, row, i / 2, i % 2, panel, panel_bytes, total, R, P, &ahead);
            else
                group_add(type, x, row, i, panel, panel_bytes, sum, R, P, &ahead);
        if (quant_is_block(type))
            block_scale(type, x, row, panel, panel_bytes, total, sum, R, P);
    }
    for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++) {
            size_t at = (size_t)r * y_stride + (size_t)p * PANEL;
            v16 all = sum[r * P + p];
            v16_store(y + at, residual ? v16_add(v16_load(residual + at), all) : all);
        }
}

/* With up to so many rows, memory is what a panel waits for, and one stream of it is faster than
 * two; with more, panels share what is loaded of the rows. */
#define QUANT_ROWS_ALONE 12

/* A function for each size of a tile. */
typedef void quant_tile_fn(const struct quant_pair *x, int row, int pairs, const uint8_t *panel,
                           const float *residual, float *y, size_t y_stride, const uint8_t *next,
                           size_t share);

/* Sizes beyond the most are never called: kept small. */
#define QUANT_TILE(R, P, name, type)                                                               \
    static __attribute__((noinline)) void name##_##P##_##R(                                        \
        const struct quant_pair *x, int row, int pairs, const uint8_t *panel,                      \
        const float *residual, float *y, size_t y_stride, const uint8_t *next, size_t share)       \
    {                                                                                              \
        quant_tile(type, x, row, pairs, panel, residual, y, y_stride, next, share,                 \
                   (R) <= tile_rows(type, P) ? (R) : 1, (R) <= tile_rows(type, P) ? (P) : 1);      \
    }

/* How many tiles of at most so many rows; none has rows of two blocks. */
V16_INLINE int tiles_of(int rows, int most)
{
    int last = rows % QUANT_BLOCK;
    return rows / QUANT_BLOCK * ((QUANT_BLOCK + most - 1) / most) + (last + most - 1) / most;
}

/* A panel, or two, stay in the cache while all rows pass over them, as many in a tile as go, and
 * about the same number in each. */
V16_INLINE void quant_rows(const enum weight_type type, quant_tile_fn *const tiles[2][9],
                           const struct quant_pair *x, int rows, int pairs, const uint8_t *w,
                           int first, int last, const float *residual, float *y, size_t y_stride)
{
    const size_t panel_bytes = quant_panel_bytes(type, pairs * 2 * GROUP);
    const size_t unit_bytes = quant_unit_bytes(type), units = panel_bytes / unit_bytes;
    for (int p = first, n; p < last; p += n) {
        n = !tile_rows(type, 2) || rows <= QUANT_ROWS_ALONE || last - p < 2 ? 1 : 2;
        const int most = tile_rows(type, n), all = tiles_of(rows, most);
        const uint8_t *panel = w + (size_t)p * panel_bytes;
        const uint8_t *next = panel + (all == 1 ? PREFETCH_DISTANCE : (size_t)n * panel_bytes);
        const size_t share = ((size_t)n * unit_bytes + (size_t)all - 1) / (size_t)all;
        for (int r = 0, some; r < rows; r += some, next += share * units) {
            const int in_block = QUANT_BLOCK - r % QUANT_BLOCK;
            const int left = rows - r < in_block ? rows - r : in_block;
            const int tiles_left = (left + most - 1) / most;
            some = (left + tiles_left - 1) / tiles_left;
            size_t at = (size_t)r * y_stride + (size_t)p * PANEL;
            tiles[n - 1][some - 1](x + r / QUANT_BLOCK * pairs, r % QUANT_BLOCK, pairs, panel,
                                   residual ? residual + at : NULL, y + at, y_stride, next, share);
        }
    }
}

#define LINEAR_QUANT(name, type)                                                                   \
    QUANT_TILE(1, 1, name, type)                                                                   \
    QUANT_TILE(2, 1, name, type)                                                                   \
    QUANT_TILE(3, 1, name, type)                                                                   \
    QUANT_TILE(4, 1, name, type)                                                                   \
    QUANT_TILE(5, 1, name, type)                                                                   \
    QUANT_TILE(6, 1, name, type)                                                                   \
    QUANT_TILE(7, 1, name, type)                                                                   \
    QUANT_TILE(8, 1, name, type)                                                                   \
    QUANT_TILE(9, 1, name, type)                                                                   \
    QUANT_TILE(1, 2, name, type)                                                                   \
    QUANT_TILE(2, 2, name, type)                                                                   \
    QUANT_TILE(3, 2, name, type)                                                                   \
    QUANT_TILE(4, 2, name, type)                                                                   \
    QUANT_TILE(5, 2, name, type)                                                                   \
    QUANT_TILE(6, 2, name, type)                                                                   \
    static quant_tile_fn *const name##_tiles[2][9] = {                                             \
        {name##_1_1, name##_1_2, name##_1_3, name##_1_4, name##_1_5, name##_1_6, name##_1_7,       \
         name##_1_8, name##_1_9},                                                                  \
        {name##_2_1, name##_2_2, name##_2_3, name##_2_4, name##_2_5, name##_2_6}};                 \
    static void name(const struct quant_pair *x, int rows, int pairs, const void *w, int first,    \
                     int last, const float *residual, float *y, size_t y_stride)                   \
    {                                                                                              \
        quant_rows(type, name##_tiles, x, rows, pairs, w, first, last, residual, y, y_stride);     \
    }

LINEAR_QUANT(linear_q8, WEIGHT_Q8)
LINEAR_QUANT(linear_q4, WEIGHT_Q4)
LINEAR_QUANT(linear_q4_1, WEIGHT_Q4_1)
LINEAR_QUANT(linear_q5_0, WEIGHT_Q5_0)
LINEAR_QUANT(linear_q5_1, WEIGHT_Q5_1)
LINEAR_QUANT(linear_q2_k, WEIGHT_Q2_K)
LINEAR_QUANT(linear_q3_k, WEIGHT_Q3_K)
LINEAR_QUANT(linear_q4_k, WEIGHT_Q4_K)
LINEAR_QUANT(linear_q5_k, WEIGHT_Q5_K)
LINEAR_QUANT(linear_q6_k, WEIGHT_Q6_K)

linear_quant_kernel *const QUANT_TABLE[WEIGHT_TYPES] = {
    [WEIGHT_Q8] = linear_q8,     [WEIGHT_Q4] = linear_q4,     [WEIGHT_Q4_1] = linear_q4_1,
    [WEIGHT_Q5_0] = linear_q5_0, [WEIGHT_Q5_1] = linear_q5_1, [WEIGHT_Q2_K] = linear_q2_k,
    [WEIGHT_Q3_K] = linear_q3_k, [WEIGHT_Q4_K] = linear_q4_k, [WEIGHT_Q5_K] = linear_q5_k,
    [WEIGHT_Q6_K] = linear_q6_k,
};
