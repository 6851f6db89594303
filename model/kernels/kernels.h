/* The kernel table: the innermost loops of the model, in generic C, AVX2 and AVX-512, both also
 * with 8-bit dot products, chosen once at start. All give the same bits (v16.h). Every kernel here
 * is row-invariant: a row's result depends on that row, the weights and the row's own cache alone.
 *
 * Packed weights: 16 output channels share a vector. Panel p holds channels 16p..16p+15 for every
 * input k. In f32, element (o, k) stands at [(o / 16) * K + k] * 16 + o % 16; in bf16 two inputs
 * stand side by side, so that one load widens into two vectors: element (o, k) at
 * [((o / 16) * K/2 + k / 2) * 16 + o % 16] * 2 + k % 2. Channels past the last are 0. K is even.
 *
 * The table is written once by kernels_init before threads start and only read afterwards. */
#ifndef MODEL_KERNELS_KERNELS_H
#define MODEL_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/kernels/sample.h"
#include "weights/quant.h"

#define PANEL 16 /* output channels per panel */

/* Quantised weights. In one family GROUP inputs of an output channel share a scale (f16), and in
 * some types a minimum (f16): a weight is scale * (code - bias), or scale * code + minimum. A panel
 * is one stream of pairs of groups, so that a pass over the weights reads memory in order and in
 * whole cache lines:
 *
 *     codes of group 2i, of group 2i + 1
 *     32 scales     16 channels of group 2i, of group 2i + 1
 *     [32 minima]
 *
 * In the other (GGUF's K types) blocks of 256 inputs have a scale d (f16) and groups of 16 or 32 in
 * them whole-number scales s of their own, and in some types a minimum likewise: a weight is
 * d s (code - bias), or d s code - n m. A panel is a stream of blocks:
 *
 *     codes of 8 groups of 32
 *     s of 8 or 16 groups, two and two: 16 channels times (group 2i, group 2i + 1), bytes
 *     [m likewise]
 *     16 d, [16 n], filled up to whole lines
 *
 * Codes of a group of 32, 16 channels: 8 vectors of 64, vector j: inputs 4j..4j+3 of each channel,
 * channel by channel.
 *
 *     8 bits   8 vectors of bytes
 *     4 bits   4 vectors: the low halves of vector j are vector j, the high halves vector j + 4
 *     5 bits   the lower 4 bits like that, then the fifth: 64 bits for each of the 8 vectors
 *     6 bits   the lower 4 bits like that, then 2 vectors: bits 2j of vector h are the upper two
 *              bits of vector j + 4h
 *
 * A group that only fills the last pair has scales of 0. Rows are quantised likewise, each for
 * itself: signed codes, and a scale (f32) per group or block. Dot products of codes are whole
 * numbers, and so are their sums times s: how a path sums them makes no difference. */
#define BLOCK 256
#define BLOCK_PAIRS (BLOCK / (2 * GROUP))

static inline size_t quant_group_bytes(enum weight_type type)
{
    switch (type) {
    case WEIGHT_Q8:
        return GROUP * PANEL;
    case WEIGHT_Q6_K:
        return GROUP * PANEL * 6 / 8;
    case WEIGHT_Q5_0:
    case WEIGHT_Q5_1:
    case WEIGHT_Q5_K:
        return GROUP * PANEL * 5 / 8;
    default:
        return GROUP * PANEL / 2;
    }
}

static inline bool quant_is_block(enum weight_type type)
{
    return type >= WEIGHT_Q2_K;
}

static inline bool quant_has_minimum(enum weight_type type)
{
    return type == WEIGHT_Q4_1 || type == WEIGHT_Q5_1 || type == WEIGHT_Q2_K ||
           type == WEIGHT_Q4_K || type == WEIGHT_Q5_K;
}

/* Inputs that share a whole-number scale, in blocks. */
static inline int quant_sub_group(enum weight_type type)
{
    return type == WEIGHT_Q4_K || type == WEIGHT_Q5_K ? 32 : 16;
}

/* What codes lie above, where there is no minimum. */
static inline int quant_bias(enum weight_type type)
{
    switch (type) {
    case WEIGHT_Q8:
        return Q8_BIAS;
    case WEIGHT_Q4:
        return Q4_BIAS;
    case WEIGHT_Q5_0:
        return 16;
    case WEIGHT_Q3_K:
        return 4;
    case WEIGHT_Q6_K:
        return 32;
    default:
        return 0;
    }
}

/* Bytes of a pair of groups, or of a block. */
static inline size_t quant_unit_bytes(enum weight_type type)
{
    size_t floats = PANEL * sizeof(uint16_t), minimum = quant_has_minimum(type) ? 2 : 1;
    if (!quant_is_block(type))
        return 2 * (quant_group_bytes(type) + minimum * floats);
    size_t subs = minimum * PANEL * (size_t)(BLOCK / quant_sub_group(type));
    return BLOCK / GROUP * quant_group_bytes(type) + subs + 2 * floats;
}

static inline int quant_pairs(int inputs)
{
    return (quant_groups(inputs) + 1) / 2;
}

/* inputs: of blocks a multiple of BLOCK. */
static inline size_t quant_panel_bytes(enum weight_type type, int inputs)
{
    int pairs = quant_pairs(inputs);
    return (size_t)(quant_is_block(type) ? pairs / BLOCK_PAIRS : pairs) * quant_unit_bytes(type);
}

/* Quantised rows, in blocks of as many as the matrix unit takes. A kernel may read rows of a block
 * that nobody has filled, whatever stands there. */
#define QUANT_BLOCK 16
struct quant_pair { /* two groups of a block's rows */
    union {
        int8_t codes[QUANT_BLOCK][2 * GROUP];
        int16_t split[QUANT_BLOCK][2 * GROUP]; /* for q8 where V16_NARROW is 1 (v16.h) */
    };
    union {
        struct { /* for types whose groups have scales */
            float scale[2];
            union {
                int32_t offset[2]; /* -bias times the sum of the group's codes, */
                float sum[2];      /* or, for types with minima, scale times that sum */
            };
        };
        struct {                /* for types of blocks */
            float block_scale;  /* the same in all pairs of a block */
            int16_t sums_32[2]; /* of the codes of 32 inputs each, */
            int16_t sums_16[4]; /* of 16 */
        };
    } of[QUANT_BLOCK];
};

/* Rows that were quantised for a type serve all types of the same form. */
static inline int quant_form(enum weight_type type)
{
    return quant_is_block(type) ? 1 : quant_has_minimum(type) ? 2 : -quant_bias(type);
}

/* Products of `rows` rows with panels first..last-1:
 *   y[r][o] = (residual ? residual[r][o] : 0) + sum over k of x[r][k] w[o][k]
 * The sum runs from k = 0 upwards in one accumulator per output, each step one fma; the residual is
 * added last. x (rows, K) with x_stride floats between rows; y and residual likewise with y_stride.
 * Writes whole panels: y must have room for them. */
typedef void linear_kernel(const float *x, size_t x_stride, int rows, int inputs, const void *w,
                           int first, int last, const float *residual, float *y, size_t y_stride);

/* The same with quantised weights: per group a whole number, then one fma with the product of the
 * two scales (and one with the minimum), groups from 0 upwards in one accumulator per output; of
 * blocks likewise, block by block. x: (ceil(rows / QUANT_BLOCK), pairs), quantised for this form,
 * rows at most QUANT_ROWS. */
#define QUANT_ROWS 64
typedef void linear_quant_kernel(const struct quant_pair *x, int rows, int pairs, const void *w,
                                 int first, int last, const float *residual, float *y,
                                 size_t y_stride);

/* Memory that will be read soon. Kernels that calculate more than they read ask for it line by line
 * meanwhile, and move `at` on. */
struct prefetch {
    const char *at, *end;
};

struct attention_query {
    const float *q; /* (head_dim) */
    float *out;     /* (head_dim) */
    int n;
};

#define ATTENTION_CHUNK 64
#define ATTENTION_MOST 16

/* Keys and values of one head of one sequence, chunk by chunk of ATTENTION_CHUNK positions. A chunk
 * holds its keys, then its values. Keys: blocks of 16 positions, each packed like a panel of
 * weights with positions for output channels and d for inputs. Values: position after position,
 * attention_value_stride(head_dim) elements apart; in bf16 d and d + 16 stand side by side: element
 * d at d / 32 * 32 + d % 16 * 2 + d / 16 % 2. */
struct attention_cache {
    char *const *pages; /* of a chunk of positions each, in order */
    size_t head;        /* bytes into a page at which this head's chunk stands */
    size_t values;      /* bytes from a chunk's keys to its values */
    int tail_chunk;     /* chunks from this one on stand elsewhere (INT_MAX: none): */
    const char *tail;   /* one behind the other, */
    size_t tail_stride; /* so many bytes apart */
    const char *next;   /* a chunk's keys that will be read after all these; a hint */
};

static inline const char *attention_chunk(const struct attention_cache *cache, int chunk)
{
    return chunk < cache->tail_chunk
               ? cache->pages[chunk] + cache->head
               : cache->tail + (size_t)(chunk - cache->tail_chunk) * cache->tail_stride;
}

/* At most ATTENTION_MOST queries that share a cache, each over its positions 0..n-1 of its own n,
 * in chunks from position 0 with a running maximum; sums are f32. */
typedef void attention_kernel(const struct attention_query *queries, int n_queries,
                              const struct attention_cache *cache, int head_dim, float scale,
                              struct prefetch *prefetch);

static inline size_t attention_value_stride(int head_dim)
{
    return ((size_t)head_dim + 31) / 32 * 32;
}

/* Rotates adjacent pairs of n_heads heads in place. cos: each cosine twice, sin: (-s, +s), both
 * head_dim long, for the row's position. head_dim is a multiple of 16. */
typedef void rope_kernel(float *x, const float *cos, const float *sin, int n_heads, int head_dim);

struct kernels {
    const char *name;                         /* one of KERNELS_NAMES */
    linear_kernel *linear[WEIGHT_TYPES];      /* f32, bf16, f16 */
    linear_quant_kernel *const *linear_quant; /* by type, the others */

    /* Quantises rows of `inputs` floats, a multiple of 16 (for blocks: of 256), for weights of that
     * type, as groups first..last-1 (whole blocks) of rows 0..rows-1 of the blocks at `to` (blocks,
     * pairs). Groups past the inputs become 0. */
    void (*quantize)(enum weight_type type, const float *x, size_t x_stride, int rows, int inputs,
                     int first, int last, struct quant_pair *to, int pairs);

    /* y = x / rms(x) * norm_weight; returns 1 / rms(x). width is a multiple of 16. */
    float (*rmsnorm)(const float *x, const float *norm_weight, int width, float eps, float *y);

    rope_kernel *rope;

    /* y = silu(gate) * up; width is a multiple of 16. */
    void (*swiglu)(const float *gate, const float *up, int width, float *y);

    attention_kernel *attention[WEIGHT_TYPES]; /* by the type of keys and values: f32, bf16 */

    /* log(sum(exp(x))) over width values, any width. */
    float (*logsumexp)(const float *x, int width);

    struct sample_kernels sample;
};

extern struct kernels kernels;
extern linear_quant_kernel *const quant_generic[WEIGHT_TYPES],
    *const quant_avx2[WEIGHT_TYPES], *const quant_avxvnni[WEIGHT_TYPES],
                                         *const quant_avx512[WEIGHT_TYPES],
                                             *const quant_vnni[WEIGHT_TYPES];
extern const struct kernels kernels_generic, kernels_avx2, kernels_avxvnni, kernels_avx512,
    kernels_vnni;

#define KERNELS_NAMES "generic", "avx2", "avxvnni", "avx512", "vnni", "amx"
#define KERNELS_CHOICES "generic|avx2|avxvnni|avx512|vnni|amx"

/* Fills the table. isa: "auto" (or NULL) for the best that this processor has, or one by name.
 * ERR_INVALID when the name is unknown or the processor can't. */
int kernels_init(const char *isa, struct err *err);

#endif
