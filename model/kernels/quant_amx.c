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

#define PAIRS 12 /* of groups that all rows pass over together, at most: three blocks */
/* Rows of a block that are quicker without the unit. */
V16_INLINE int few_rows(const enum weight_type type)
{
    return type == WEIGHT_Q4 ? 9 : quant_is_block(type) && quant_sub_group(type) == 16 ? 14 : 11;
}

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

/* Up to PAIRS pairs of one panel, for all blocks of rows. A step is two groups (or sub-groups) of
 * one block. */
struct stretch {
    const struct quant_pair *x,
        *end;             /* its first pair, of the first block of rows; behind the last */
    int x_pairs;          /* from block to block of rows */
    const int8_t *codes;  /* of weights, (inputs / 4, 16 channels, 4), less their bias */
    const uint8_t *units; /* the same as they stand in memory, with their scales */
    const uint8_t *ahead; /* what memory should bring meanwhile, */
    int lines;            /* so many lines with each step */
    int steps;            /* of a block of rows */
};

/* A step: where it reads rows, and which of its block's it is. */
struct cursor {
    const struct quant_pair *x; /* the first pair of its block of rows */
    int step;
};

/* Behind the last step comes the first again: what the unit does with it is not looked at. */
V16_INLINE bool next_block(const struct stretch *s, struct cursor *at)
{
    if (++at->step < s->steps)
        return false;
    at->step = 0;
    at->x += s->x_pairs;
    at->x = at->x < s->end ? at->x : s->x;
    return true;
}

typedef int32_t products[2][QUANT_BLOCK][PANEL];

/* What the unit does in a turn: begins a step in one set of tiles and hands over the products of
 * the one before from the other. */
struct turn {
    const int8_t *x, *w; /* codes of the step that begins */
    int32_t (*done)[QUANT_BLOCK][PANEL];
};

V16_INLINE struct turn turn_begin(const enum weight_type type, const struct stretch *s,
                                  struct cursor *next, products done)
{
    const int at = 2 * inputs_of(type) * next->step;
    struct turn turn = {next->x[at / (2 * GROUP)].codes[0] + at % (2 * GROUP),
                        s->codes + at * PANEL, done};
    next_block(s, next);
    return turn;
}

#define TURN_PARTS 8

/* One of the 8 parts of a turn. Tiles are numbered in the instructions, hence the macro. */
#define PARTS(begun, begun_too, other, other_too)                                                  \
    switch (part) {                                                                                \
    case 0:                                                                                        \
        _tile_loadd(4, t->x, 2 * GROUP);                                                           \
        break;                                                                                     \
    case 1:                                                                                        \
        _tile_loadd(6, t->w, 64);                                                                  \
        _tile_zero(begun);                                                                         \
        break;                                                                                     \
    case 2:                                                                                        \
        _tile_dpbssd(begun, 4, 6);                                                                 \
        break;                                                                                     \
    case 3:                                                                                        \
        _tile_stored(other, t->done[0], PANEL * 4);                                                \
        break;                                                                                     \
    case 4:                                                                                        \
        _tile_loadd(5, t->x + inputs, 2 * GROUP);                                                  \
        break;                                                                                     \
    case 5:                                                                                        \
        _tile_loadd(7, t->w + inputs * PANEL, 64);                                                 \
        _tile_zero(begun_too);                                                                     \
        break;                                                                                     \
    case 6:                                                                                        \
        _tile_dpbssd(begun_too, 5, 7);                                                             \
        break;                                                                                     \
    default:                                                                                       \
        _tile_stored(other_too, t->done[1], PANEL * 4);                                            \
    }

V16_INLINE void take_part(const enum weight_type type, const struct turn *t, const int part,
                          const int set)
{
    const int inputs = inputs_of(type);
    if (set == 0) {
        PARTS(0, 1, 2, 3)
    } else {
        PARTS(2, 3, 0, 1)
    }
}

/* sum += scaled products of a pair of groups. Between the rows the unit is kept busy: a processor
 * looks too few instructions ahead to do so itself. */
V16_INLINE void scale_pair(const enum weight_type type, const struct quant_pair *x,
                           const uint8_t *unit, products c, v16 *sum, const struct turn *turn,
                           const int set)
{
    const uint16_t *scales = (const uint16_t *)(unit + 2 * quant_group_bytes(type));
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
            if (r % 4 == 3)
                take_part(type, turn, 4 * i + r / 4, set);
        }
    }
}

/* total += products of two sub-groups of a block, times their whole-number scales. */
V16_INLINE void scale_subs(const enum weight_type type, const uint8_t *block, int two, products c,
                           v16i *total, const struct turn *turn, const int set)
{
    v16i subs = load_subs(block + 8 * quant_group_bytes(type), two);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        v16i sub = i ? v16i_pair_second(subs) : v16i_pair_first(subs);
#pragma GCC unroll 16
        for (int r = 0; r < QUANT_BLOCK; r++) {
            total[r] = v16i_add(total[r], v16i_mul(v16i_load(c[i][r]), sub));
            if (r % 4 == 3)
                take_part(type, turn, 4 * i + r / 4, set);
        }
    }
}

/* What is summed: a block of rows, in registers. */
struct totals {
    v16 sum[QUANT_BLOCK];
    v16i block[QUANT_BLOCK]; /* of the block of weights so far */
};

V16_INLINE void scale(const enum weight_type type, const struct stretch *s, const struct cursor *at,
                      products c, struct totals *t, const struct turn *turn, const int set)
{
    const int steps = quant_is_block(type) ? BLOCK / inputs_of(type) / 2 : 1; /* of a unit */
    const int unit_pairs = quant_is_block(type) ? BLOCK_PAIRS : 1;
    const uint8_t *unit = s->units + (size_t)(at->step / steps) * quant_unit_bytes(type);
    const struct quant_pair *x = at->x + at->step / steps * unit_pairs;
    if (!quant_is_block(type)) {
        scale_pair(type, x, unit, c, t->sum, turn, set);
        return;
    }
    scale_subs(type, unit, at->step % steps, c, t->block, turn, set);
    if (at->step % steps < steps - 1)
        return;
    block_scale(type, x, 0, unit, 0, t->block, t->sum, QUANT_BLOCK, 1);
    for (int r = 0; r < QUANT_BLOCK; r++)
        t->block[r] = v16i_set(0);
}

/* sums += the stretch times all blocks of rows. In a turn one step begins, the one before is handed
 * over and the one before that is scaled. */
V16_INLINE void stretch_add(const enum weight_type type, const struct stretch *s,
                            float (*sums)[PANEL])
{
    products c[2] __attribute__((aligned(64)));
    struct totals t;
    struct cursor next = {s->x, 0}, at = {s->x, 0};
    const uint8_t *ahead = s->ahead;
    int left = (int)((s->end - s->x) / s->x_pairs) * s->steps;
    for (int r = 0; r < QUANT_BLOCK; r++) {
        t.sum[r] = v16_load(sums[r]);
        t.block[r] = v16i_set(0);
    }
    for (int set = 0; set < 2; set++) {
        struct turn turn = turn_begin(type, s, &next, c[1 - set]);
#pragma GCC unroll 8
        for (int part = 0; part < TURN_PARTS; part++)
            take_part(type, &turn, part, set);
    }
    for (;;)
#pragma GCC unroll 2
        for (int set = 0; set < 2; set++) {
            struct turn turn = turn_begin(type, s, &next, c[1 - set]);
            for (int i = 0; i < s->lines; i++, ahead += 64)
                v16_prefetch(ahead);
            scale(type, s, &at, c[set], &t, &turn, set);
            bool last = --left == 0;
            if (!next_block(s, &at))
                continue;
#pragma GCC unroll 16
            for (int r = 0; r < QUANT_BLOCK; r++)
                v16_store(sums[r], t.sum[r]);
            if (last)
                return;
            sums += QUANT_BLOCK;
#pragma GCC unroll 16
            for (int r = 0; r < QUANT_BLOCK; r++)
                t.sum[r] = v16_load(sums[r]);
        }
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
    const int units = pairs / unit_pairs, most = PAIRS / unit_pairs;
    memset(sums, 0, (size_t)blocks * QUANT_BLOCK * sizeof *sums);
    /* Stretches of about the same length: what a turn costs at both ends is the same for a short
     * one. */
    for (int first = 0, some; first < pairs; first += some) {
        const int left = units - first / unit_pairs, stretches = (left + most - 1) / most;
        some = (left + stretches - 1) / stretches * unit_pairs;
        const uint8_t *next = panel + (size_t)(some / unit_pairs) * quant_unit_bytes(type);
        const int steps = some * GROUP / inputs_of(type), all = blocks * steps;
        const struct stretch s = {.x = x + first,
                                  .end = x + first + blocks * pairs,
                                  .x_pairs = pairs,
                                  .codes = codes[0],
                                  .units = panel,
                                  .ahead = next,
                                  .lines = ((int)(next - panel) / 64 + all - 1) / all,
                                  .steps = steps};
        unpack(type, panel, some, codes);
        stretch_add(type, &s, sums);
        panel = next;
    }
}

V16_INLINE void linear(const enum weight_type type, const struct quant_pair *x, int rows, int pairs,
                       const void *w, int first, int last, const float *residual, float *y,
                       size_t y_stride)
{
    const int last_rows = (rows - 1) % QUANT_BLOCK + 1;
    const int few = last_rows <= few_rows(type) ? last_rows : 0, most = rows - few;
    if (!most) {
        quant_vnni[type](x, rows, pairs, w, first, last, residual, y, y_stride);
        return;
    }
    float sums[QUANT_ROWS][PANEL] __attribute__((aligned(64)));
    const int blocks = (most + QUANT_BLOCK - 1) / QUANT_BLOCK;
    const size_t panel_bytes = quant_panel_bytes(type, pairs * 2 * GROUP);
    const size_t skipped = (size_t)most * y_stride;
    configure(inputs_of(type));
    for (int panel = first; panel < last; panel++) {
        panel_rows(type, x, blocks, pairs, (const uint8_t *)w + (size_t)panel * panel_bytes, sums);
        for (int r = 0; r < most; r++) {
            size_t at = (size_t)r * y_stride + (size_t)panel * PANEL;
            v16 sum = v16_load(sums[r]);
            v16_store(y + at, residual ? v16_add(v16_load(residual + at), sum) : sum);
        }
        if (few) /* while the panel is in the cache */
            quant_vnni[type](x + blocks * pairs, few, pairs, w, panel, panel + 1,
                             residual ? residual + skipped : NULL, y + skipped, y_stride);
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
