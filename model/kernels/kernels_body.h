/* The kernels themselves, written in v16. Included by kernels_generic.c, kernels_avx2.c and
 * kernels_avx512.c after their v16 header; KERNELS names the table, KERNELS_NAME its string,
 * KERNELS_QUANT the products with quantised weights (quant_body.h), TILE_ROWS is 5 or 8 rows that a
 * tile holds in registers at most, TILE_PANELS(rows) says how many panels of so many rows it holds,
 * and ATTENTION_QUERIES how many queries go over the keys together. */
#include <math.h>
#include <stdbool.h>

#include "model/kernels/kernels.h"
#include "model/kernels/v16.h"

/* One of two vectors of weights, or of cached keys or values, which stand side by side from element
 * i on: of a panel those for inputs k and k + 1, k even, i = k * PANEL. */
typedef v16 load_half(const void *w, size_t i, int odd);

V16_INLINE v16 half_f32(const void *w, size_t i, int odd)
{
    return v16_load((const float *)w + i + odd * PANEL);
}

V16_INLINE v16 half_f16(const void *w, size_t i, int odd)
{
    return v16_load_f16((const uint16_t *)w + i + odd * PANEL);
}

V16_INLINE v16 half_bf16(const void *w, size_t i, int odd)
{
    return v16_load_bf16_half((const uint16_t *)w + i, odd);
}

/* R rows times P panels, all accumulators in registers. R, P and load are constants after
 * inlining. */
V16_INLINE void tile(const float *x, size_t x_stride, int inputs, const void *w, int panel,
                     const float *residual, float *y, size_t y_stride, const int R, const int P,
                     load_half *load)
{
    v16 acc[TILE_ROWS * 8];
    size_t panel_size = (size_t)inputs * PANEL;
    for (int i = 0; i < R * P; i++)
        acc[i] = v16_set(0.0f);
    for (int k = 0; k < inputs; k += 2)
        for (int odd = 0; odd < 2; odd++) {
            v16 wk[8];
            for (int p = 0; p < P; p++)
                wk[p] = load(w, (size_t)(panel + p) * panel_size + (size_t)k * PANEL, odd);
            for (int r = 0; r < R; r++) {
                v16 xk = v16_set(x[(size_t)r * x_stride + k + odd]);
                for (int p = 0; p < P; p++)
                    acc[r * P + p] = v16_fma(xk, wk[p], acc[r * P + p]);
            }
        }
    for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++) {
            size_t at = (size_t)r * y_stride + (size_t)(panel + p) * PANEL;
            v16 sum = acc[r * P + p];
            v16_store(y + at, residual ? v16_add(v16_load(residual + at), sum) : sum);
        }
}

/* Panels for R rows: as many at a time as fit, then half as many, then one by one, for a sum by
 * itself waits for every product. */
#define TILES(R, P, weights)                                                                       \
    for (; panel + (P) <= last; panel += (P))                                                      \
        tile(x, x_stride, inputs, w, panel, residual, y, y_stride, R, P, weights);
#define PART_OF_TILE(R, n) ((TILE_PANELS(R) + (n)-1) / (n))
#define TILE_CASE(R, weights)                                                                      \
    case R:                                                                                        \
        TILES(R, TILE_PANELS(R), weights)                                                          \
        TILES(R, PART_OF_TILE(R, 2), weights)                                                      \
        TILES(R, PART_OF_TILE(R, 4), weights)                                                      \
        TILES(R, 1, weights)                                                                       \
        break;
#if TILE_ROWS == 8
#define TILE_CASES_TO_8(weights) TILE_CASE(6, weights) TILE_CASE(7, weights) TILE_CASE(8, weights)
#else
#define TILE_CASES_TO_8(weights)
#endif

#define LINEAR(name, weights)                                                                      \
    static void name##_rows(const float *x, size_t x_stride, int rows, int inputs, const void *w,  \
                            int panel, int last, const float *residual, float *y, size_t y_stride) \
    {                                                                                              \
        switch (rows) {                                                                            \
            TILE_CASE(1, weights)                                                                  \
            TILE_CASE(2, weights)                                                                  \
            TILE_CASE(3, weights)                                                                  \
            TILE_CASE(4, weights)                                                                  \
            TILE_CASE(5, weights)                                                                  \
            TILE_CASES_TO_8(weights)                                                               \
        }                                                                                          \
    }                                                                                              \
    static void name(const float *x, size_t x_stride, int rows, int inputs, const void *w,         \
                     int first, int last, const float *residual, float *y, size_t y_stride)        \
    {                                                                                              \
        /* Groups of panels that stay in the cache while all rows pass over them. */               \
        int group = rows > TILE_ROWS ? 8 : last - first;                                           \
        for (int panel = first; panel < last; panel += group) {                                    \
            int end = panel + group < last ? panel + group : last;                                 \
            for (int r = 0; r < rows; r += TILE_ROWS) {                                            \
                int n = rows - r < TILE_ROWS ? rows - r : TILE_ROWS;                               \
                size_t at = (size_t)r * y_stride;                                                  \
                name##_rows(x + (size_t)r * x_stride, x_stride, n, inputs, w, panel, end,          \
                            residual ? residual + at : NULL, y + at, y_stride);                    \
            }                                                                                      \
        }                                                                                          \
    }

LINEAR(linear_f32, half_f32)
LINEAR(linear_bf16, half_bf16)
LINEAR(linear_f16, half_f16)

/* ---- quantising rows ---- */

/* The factor that brings the largest of n vectors at x to 127, and the scale that undoes it. Not a
 * number, or too large to have a scale: a factor of 0 with a scale that says so. */
V16_INLINE v16 quant_factor(const float *x, int n, float *scale, bool *sane)
{
    v16 zero = v16_set(0.0f);
    float most = 0;
    for (int i = 0; i < n && most <= 1e38f; i += 2) {
        float some = v16_magnitude(v16_load(x + i * PANEL),
                                   i + 1 < n ? v16_load(x + (i + 1) * PANEL) : zero);
        most = some <= most ? most : some; /* a NaN stays */
    }
    *sane = most <= 1e38f;
    *scale = *sane ? most / 127.0f : NAN;
    return v16_set(*sane && most > 1e-30f ? 127.0f / most : 0.0f);
}

V16_INLINE v16i quant_codes(const float *x, v16 factor, bool sane)
{
    return v16_round(sane ? v16_mul(v16_load(x), factor) : v16_set(0.0f));
}

/* Codes of a row from input k of the pair on. */
V16_INLINE void quant_put(enum weight_type type, struct quant_pair *pair, int row, int k, v16i some)
{
#if V16_NARROW
    if (type == WEIGHT_Q8) {
        v16i_store_split(pair->split[row] + k, some);
        return;
    }
#endif
    (void)type;
    v16i_store_i8(pair->codes[row] + k, some);
}

V16_INLINE void quantize_group(enum weight_type type, const float *x, int left,
                               struct quant_pair *pair, int row, int half)
{
    int n = left <= 0 ? 0 : left > PANEL ? 2 : 1;
    float scale;
    bool sane;
    v16 factor = quant_factor(x, n, &scale, &sane);
    v16i first = v16i_set(0), second = first;
    if (n > 0)
        first = quant_codes(x, factor, sane);
    if (n > 1)
        second = quant_codes(x + PANEL, factor, sane);
    quant_put(type, pair, row, half * GROUP, first);
    quant_put(type, pair, row, half * GROUP + PANEL, second);
    int sum = v16i_sum(v16i_add(first, second));
    pair->of[row].scale[half] = scale;
    if (quant_has_minimum(type))
        pair->of[row].sum[half] = scale * (float)sum;
    else
        pair->of[row].offset[half] = -quant_bias(type) * sum;
}

static void quantize_block(enum weight_type type, const float *x, struct quant_pair *pairs, int row)
{
    float scale;
    bool sane;
    v16 factor = quant_factor(x, BLOCK / PANEL, &scale, &sane);
    for (int p = 0; p < BLOCK_PAIRS; p++) {
        struct quant_pair *pair = &pairs[p];
        pair->of[row].block_scale = scale;
        for (int i = 0; i < 4; i++, x += PANEL) {
            v16i some = quant_codes(x, factor, sane);
            quant_put(type, pair, row, i * PANEL, some);
            pair->of[row].sums_16[i] = (int16_t)v16i_sum(some);
        }
        for (int i = 0; i < 2; i++)
            pair->of[row].sums_32[i] =
                (int16_t)(pair->of[row].sums_16[2 * i] + pair->of[row].sums_16[2 * i + 1]);
    }
}

static void quantize(enum weight_type type, const float *x, size_t x_stride, int rows, int inputs,
                     int first, int last, struct quant_pair *to, int pairs)
{
    for (int r = 0; r < rows; r++, x += x_stride) {
        struct quant_pair *row = &to[r / QUANT_BLOCK * pairs];
        if (quant_is_block(type))
            for (int p = first / 2, k = 0; p < last / 2; p += BLOCK_PAIRS, k += BLOCK)
                quantize_block(type, x + k, &row[p], r % QUANT_BLOCK);
        else
            for (int g = first, k = 0; g < last; g++, k += GROUP)
                quantize_group(type, x + k, inputs - k, &row[g / 2], r % QUANT_BLOCK, g % 2);
    }
}

/* ---- rows ---- */

static float rmsnorm(const float *x, const float *norm_weight, int width, float eps, float *y)
{
    v16 squares = v16_set(0.0f);
    for (int i = 0; i < width; i += 16) {
        v16 v = v16_load(x + i);
        squares = v16_fma(v, v, squares);
    }
    float scale = 1.0f / sqrtf(v16_sum(squares) / (float)width + eps);
    for (int i = 0; i < width; i += 16)
        v16_store(y + i,
                  v16_mul(v16_mul(v16_load(x + i), v16_set(scale)), v16_load(norm_weight + i)));
    return scale;
}

static void rope(float *x, const float *cos, const float *sin, int n_heads, int head_dim)
{
    for (int h = 0; h < n_heads; h++, x += head_dim)
        for (int i = 0; i < head_dim; i += 16) {
            v16 v = v16_load(x + i);
            v16 rotated = v16_mul(v16_swap_pairs(v), v16_load(sin + i));
            v16_store(x + i, v16_fma(v, v16_load(cos + i), rotated));
        }
}

static void swiglu(const float *gate, const float *up, int width, float *y)
{
    for (int i = 0; i < width; i += 16) {
        v16 g = v16_load(gate + i);
        v16_store(y + i, v16_mul(v16_mul(g, v16_sigmoid(g)), v16_load(up + i)));
    }
}

#define CHUNK_BLOCKS (ATTENTION_CHUNK / 16)

/* Scores of Q queries against B blocks of 16 positions: Q * B chains of additions side by side,
 * which hide the latency of each, and each key is read once for all queries. The values of those
 * positions are asked for meanwhile. */
V16_INLINE void scores(const struct attention_query *queries, const void *k, int head_dim,
                       float scale, const int Q, const int B, float p[][ATTENTION_CHUNK],
                       const char *values, load_half *load)
{
    v16 s[ATTENTION_QUERIES * CHUNK_BLOCKS];
    for (int i = 0; i < Q * B; i++)
        s[i] = v16_set(0.0f);
    for (int d = 0; d < head_dim; d += 2) {
        for (int b = 0; b < B; b++, values += 64)
            v16_prefetch_far(values);
        for (int odd = 0; odd < 2; odd++) {
            v16 q[ATTENTION_QUERIES];
            for (int i = 0; i < Q; i++)
                q[i] = v16_set(queries[i].q[d + odd]);
            for (int b = 0; b < B; b++) {
                v16 kd = load(k, ((size_t)b * (size_t)head_dim + (size_t)d) * 16, odd);
                for (int i = 0; i < Q; i++)
                    s[i * B + b] = v16_fma(q[i], kd, s[i * B + b]);
            }
        }
    }
    for (int i = 0; i < Q; i++)
        for (int b = 0; b < B; b++)
            v16_store(p[i] + b * 16, v16_mul(s[i * B + b], v16_set(scale)));
}

/* Asked for at a time: fewer than the requests that a core can have under way. */
#define PREFETCH_LINES 8

struct running {
    float top, sum;
};

/* Scores of Q queries, of which query i sees count[i], become weights exp(s - top) with the new
 * running maximum. keep: the factors on what was summed before. */
V16_INLINE void weigh(float p[][ATTENTION_CHUNK], const int *count, struct running *running,
                      int blocks, bool first, float *keep, struct prefetch *prefetch, const int Q)
{
    float moved[16] = {0};
    for (int i = 0; i < Q; i++) {
        v16 highest = v16_set(running[i].top);
        for (int j = count[i]; j < blocks * 16; j++)
            p[i][j] = -INFINITY;
        for (int b = 0; b < blocks; b++)
            highest = v16_max(v16_load(p[i] + b * 16), highest);
        float top = v16_largest(highest);
        moved[i] = running[i].top - top;
        running[i].top = top;
    }
    v16_store(moved, v16_exp(v16_load(moved)));
    for (int i = 0; i < Q; i++) {
        v16 total = v16_set(0.0f);
        prefetch_lines(prefetch, PREFETCH_LINES);
        for (int b = 0; b < blocks; b++) {
            v16 e = v16_exp(v16_sub(v16_load(p[i] + b * 16), v16_set(running[i].top)));
            v16_store(p[i] + b * 16, e);
            if (count[i] < (b + 1) * 16) { /* exp never gives 0 */
                for (int j = count[i] > b * 16 ? count[i] : b * 16; j < (b + 1) * 16; j++)
                    p[i][j] = 0;
                e = v16_load(p[i] + b * 16);
            }
            total = v16_add(total, e);
        }
        keep[i] = moved[i];
        running[i].sum = first ? v16_sum(total) : fmaf(running[i].sum, keep[i], v16_sum(total));
    }
}

/* out[d..] = out[d..] keep + sum over positions of p v, for Q queries and 16 D values. The keys of
 * the next chunk are asked for meanwhile. */
V16_INLINE void mix(const struct attention_query *queries, float p[][ATTENTION_CHUNK],
                    const void *v, size_t stride, int from, int to, int d, const float *keep,
                    const char *next, const int Q, const int D, load_half *load)
{
    v16 a[ATTENTION_QUERIES * 4];
    for (int i = 0; i < Q; i++)
        for (int e = 0; e < D; e++)
            a[i * D + e] = v16_mul(v16_load(queries[i].out + d + e * 16), v16_set(keep[i]));
    for (int j = from; j < to; j++) {
        v16 value[4];
        for (int e = 0; e < D; e += 2)
            v16_prefetch_far(next + ((size_t)j * stride + (size_t)(d + e * 16)) * 2);
        for (int e = 0; e < D; e++)
            value[e] = load(v, (size_t)j * stride + (size_t)(d + e / 2 * 32), e % 2);
        for (int i = 0; i < Q; i++) {
            v16 weight = v16_set(p[i][j]);
            for (int e = 0; e < D; e++)
                a[i * D + e] = v16_fma(weight, value[e], a[i * D + e]);
        }
    }
    for (int i = 0; i < Q; i++)
        for (int e = 0; e < D; e++)
            v16_store(queries[i].out + d + e * 16, a[i * D + e]);
}

V16_INLINE void mix_all(const struct attention_query *queries, float p[][ATTENTION_CHUNK],
                        const void *v, int from, int to, int head_dim, const float *keep,
                        const char *next, const int Q, load_half *load)
{
    int d = 0;
    size_t stride = attention_value_stride(head_dim);
    for (; d + 64 <= head_dim; d += 64)
        mix(queries, p, v, stride, from, to, d, keep, next, Q, 4, load);
    for (; d + 32 <= head_dim; d += 32)
        mix(queries, p, v, stride, from, to, d, keep, next, Q, 2, load);
    if (d < head_dim)
        mix(queries, p, v, stride, from, to, d, keep, next, Q, 1, load);
}

/* One chunk of positions, from `start` on, for Q queries that all see some of it. k, v: its own;
 * next: the keys that are read after it. */
V16_INLINE void chunk(const struct attention_query *queries, struct running *running, const void *k,
                      const void *v, const char *next, int start, int head_dim, float scale,
                      struct prefetch *prefetch, const int Q, load_half *load)
{
    float p[ATTENTION_QUERIES][ATTENTION_CHUNK], keep[ATTENTION_QUERIES];
    const float one = 1;
    int count[ATTENTION_QUERIES] = {0}, least = ATTENTION_CHUNK, most = 0;
    for (int i = 0; i < Q; i++) {
        int left = queries[i].n - start;
        count[i] = left < ATTENTION_CHUNK ? left : ATTENTION_CHUNK;
        least = count[i] < least ? count[i] : least;
        most = count[i] > most ? count[i] : most;
    }
    prefetch_lines(prefetch, PREFETCH_LINES);
    int blocks = (most + 15) / 16;
    switch (blocks) {
    case 1:
        scores(queries, k, head_dim, scale, Q, 1, p, v, load);
        break;
    case 2:
        scores(queries, k, head_dim, scale, Q, 2, p, v, load);
        break;
    case 3:
        scores(queries, k, head_dim, scale, Q, 3, p, v, load);
        break;
    default:
        scores(queries, k, head_dim, scale, Q, 4, p, v, load);
    }
    weigh(p, count, running, blocks, start == 0, keep, prefetch, Q);
    prefetch_lines(prefetch, PREFETCH_LINES);
    mix_all(queries, p, v, 0, least, head_dim, keep, next, Q, load);
    for (int i = 0; i < Q; i++) /* what the others do not see */
        if (count[i] > least)
            mix_all(queries + i, p + i, v, least, count[i], head_dim, &one, next, 1, load);
}

typedef void chunk_fn(const struct attention_query *queries, struct running *running, const void *k,
                      const void *v, const char *next, int start, int head_dim, float scale,
                      struct prefetch *prefetch);

/* One chunk for Q queries, of which some may end before it. */
static void chunk_some(const struct attention_query *queries, struct running *running,
                       const void *k, const void *v, const char *next, int start, int head_dim,
                       float scale, struct prefetch *prefetch, int Q, chunk_fn *all, chunk_fn *one)
{
    int seeing = 0;
    for (int i = 0; i < Q; i++)
        seeing += start < queries[i].n;
    if (seeing == Q) {
        all(queries, running, k, v, next, start, head_dim, scale, prefetch);
        return;
    }
    for (int i = 0; i < Q; i++)
        if (start < queries[i].n)
            one(queries + i, running + i, k, v, next, start, head_dim, scale, prefetch);
}

/* Chunk by chunk, so that its keys and values are in the nearest cache for all queries. */
V16_INLINE void attention(const struct attention_query *queries, int n_queries,
                          const struct attention_cache *cache, int head_dim, float scale,
                          struct prefetch *prefetch, chunk_fn *const *chunks)
{
    struct running running[ATTENTION_MOST];
    int longest = 0;
    for (int i = 0; i < n_queries; i++) {
        running[i] = (struct running){-INFINITY, 0};
        longest = queries[i].n > longest ? queries[i].n : longest;
        for (int d = 0; d < head_dim; d++)
            queries[i].out[d] = 0;
    }
    for (int start = 0; start < longest; start += ATTENTION_CHUNK) {
        const char *k = attention_chunk(cache, start / ATTENTION_CHUNK), *v = k + cache->values;
        const char *next = start + ATTENTION_CHUNK < longest
                               ? attention_chunk(cache, start / ATTENTION_CHUNK + 1)
                           : cache->next ? cache->next
                                         : k;
        for (int i = 0, n; i < n_queries; i += n) {
            n = n_queries - i < ATTENTION_QUERIES ? n_queries - i : ATTENTION_QUERIES;
            chunk_some(queries + i, running + i, k, v, next, start, head_dim, scale, prefetch, n,
                       chunks[n - 1], chunks[0]);
        }
    }
    for (int i = 0; i < n_queries; i++)
        for (int d = 0; d < head_dim; d += 16) {
            float *at = queries[i].out + d;
            v16_store(at, v16_div(v16_load(at), v16_set(running[i].sum)));
        }
}

#define CHUNK(name, Q, load)                                                                       \
    static __attribute__((noinline)) void name(                                                    \
        const struct attention_query *queries, struct running *running, const void *k,             \
        const void *v, const char *next, int start, int head_dim, float scale,                     \
        struct prefetch *prefetch)                                                                 \
    {                                                                                              \
        chunk(queries, running, k, v, next, start, head_dim, scale, prefetch,                      \
              Q < ATTENTION_QUERIES ? Q : ATTENTION_QUERIES, load);                                \
    }

#define ATTENTION(name, load)                                                                      \
    CHUNK(name##_four, 4, load)                                                                    \
    CHUNK(name##_three, 3, load)                                                                   \
    CHUNK(name##_two, 2, load)                                                                     \
    CHUNK(name##_one, 1, load)                                                                     \
    static void name(const struct attention_query *queries, int n_queries,                         \
                     const struct attention_cache *cache, int head_dim, float scale,               \
                     struct prefetch *prefetch)                                                    \
    {                                                                                              \
        static chunk_fn *const chunks[] = {name##_one, name##_two, name##_three, name##_four};     \
        attention(queries, n_queries, cache, head_dim, scale, prefetch, chunks);                   \
    }

ATTENTION(attention_f32, half_f32)
ATTENTION(attention_bf16, half_bf16)

static float logsumexp(const float *x, int width)
{
    float tail[16];
    int whole = width & ~15;
    v16 highest = v16_set(-INFINITY), total = v16_set(0.0f);
    for (int i = whole; i < whole + 16; i++)
        tail[i - whole] = i < width ? x[i] : -INFINITY;
    for (int i = 0; i < whole; i += 16)
        highest = v16_max(v16_load(x + i), highest);
    float top = v16_largest(v16_max(v16_load(tail), highest));
    for (int i = 0; i < whole; i += 16)
        total = v16_add(total, v16_exp(v16_sub(v16_load(x + i), v16_set(top))));
    float sum = v16_sum(total);
    for (int i = whole; i < width; i++) {
        float e[16];
        v16_store(e, v16_exp(v16_set(tail[i - whole] - top)));
        sum += e[0];
    }
    return top + logf(sum);
}

#include "model/kernels/sample_body.h"

const struct kernels KERNELS = {
    .name = KERNELS_NAME,
    .linear = {[WEIGHT_F32] = linear_f32, [WEIGHT_BF16] = linear_bf16, [WEIGHT_F16] = linear_f16},
    .linear_quant = KERNELS_QUANT,
    .quantize = quantize,
    .rmsnorm = rmsnorm,
    .rope = rope,
    .swiglu = swiglu,
    .attention = {[WEIGHT_F32] = attention_f32, [WEIGHT_BF16] = attention_bf16},
    .logsumexp = logsumexp,
    .sample = {sample_maxima, sample_mask, sample_mass, sample_count, sample_nth, sample_draw},
};
