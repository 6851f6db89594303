/* The loops of sample.h in v16, included by kernels_body.h. */
#include <limits.h>

#include "model/kernels/sample.h"

/* The vector at x + i, what is behind `end` as `fill`; reads nothing there. */
V16_INLINE v16 load_until(const float *x, int i, int end, float fill)
{
    if (i + 16 <= end)
        return v16_load(x + i);
    float some[16];
    for (int j = 0; j < 16; j++)
        some[j] = i + j < end ? x[i + j] : fill;
    return v16_load(some);
}

/* Bits of the lanes i, i + 1, ... that lie before `end`. */
V16_INLINE unsigned lanes_until(int i, int end)
{
    return end - i >= 16 ? 0xffff : end > i ? (1u << (end - i)) - 1 : 0;
}

static float sample_maxima(const float *logits, int begin, int end, float *maxima)
{
    float top = -INFINITY;
    for (int at = begin; at < end; at += SAMPLE_BLOCK) {
        v16 highest = v16_set(-INFINITY);
        if (at + SAMPLE_BLOCK <= end)
            for (int i = at; i < at + SAMPLE_BLOCK; i += 16)
                highest = v16_max(v16_load(logits + i), highest);
        else
            for (int i = at; i < end; i += 16)
                highest = v16_max(load_until(logits, i, end, -INFINITY), highest);
        float most = v16_largest(highest);
        maxima[at / SAMPLE_BLOCK] = most;
        top = most > top ? most : top;
    }
    return top;
}

static void sample_mask(const float *logits, const uint64_t *allowed, int begin, int end, float *to)
{
    v16 none = v16_set(NAN);
    for (int i = begin; i < end; i += 16) {
        unsigned mask = (unsigned)(allowed[i / 64] >> i % 64) & 0xffff;
        v16_store(to + i, v16_select(mask, load_until(logits, i, end, NAN), none));
    }
}

/* The vector twin of sample_score. */
V16_INLINE v16 sample_scores(const struct sample_cut *cut, v16 logits)
{
    v16 below = v16_sub(logits, v16_set(cut->top));
    return v16_mul(v16_min(below, v16_set(0.0f)), v16_set(cut->inverse));
}

V16_INLINE v16i sample_masses(v16 score)
{
    return v16_round(v16_mul(v16_exp(score), v16_set((float)(1 << SAMPLE_MASS_SHIFT))));
}

static uint32_t sample_mass(float score)
{
    int32_t mass[16];
    v16i_store(mass, sample_masses(v16_set(score)));
    return (uint32_t)mass[0];
}

V16_INLINE v16i sample_keys(v16 x)
{
    v16i bits = v16_bits(x);
    v16i sign = v16i_sub(v16i_set(0), v16i_shift_right(bits, 31)); /* -1 or 0 */
    return v16i_sub(v16i_xor(v16i_and(bits, v16i_set(0x7fffffff)), sign), sign);
}

/* The vector twin of sample_bucket. */
V16_INLINE v16i sample_buckets(const struct sample_cut *cut, const struct sample_range *range,
                               v16 logits, v16 score)
{
    if (range->by_key)
        return v16i_shift_right(v16i_sub(v16i_set(sample_key(range->high)), sample_keys(logits)),
                                range->shift);
    v16 steps = v16_sub(v16_set(sample_score(cut, range->high)), score);
    steps = v16_mul(steps, v16_set(range->scale));
    return v16_round(v16_min(steps, v16_set(SAMPLE_BUCKETS - 1)));
}

/* Which of the lanes from index i on are kept and lie in low..high. */
V16_INLINE unsigned sample_kept(const struct sample_cut *cut, v16 x, float low, float high, int i,
                                int end)
{
    unsigned mask = v16_ge(x, v16_set(low)) & v16_ge(v16_set(high), x) & lanes_until(i, end);
    if (mask && i + 15 > cut->last)
        mask &= ~v16_ge(v16_set(cut->edge), x) | lanes_until(i, cut->last + 1);
    return mask;
}

/* Adds weights to buckets; where most lanes take part, all do, the others with weight 0. */
V16_INLINE void sample_tally(unsigned mask, v16i buckets, v16i weights, uint64_t *sums)
{
    int32_t bucket[16], weight[16];
    v16 none = v16_set(0.0f);
    if (__builtin_popcount(mask) > 4) {
        v16i_store(bucket, v16_bits(v16_select(mask, v16_of_bits(buckets), none)));
        v16i_store(weight, v16_bits(v16_select(mask, v16_of_bits(weights), none)));
        for (int j = 0; j < 16; j++)
            sums[bucket[j] * SAMPLE_COPIES + j % SAMPLE_COPIES] += (uint32_t)weight[j];
        return;
    }
    v16i_store(bucket, buckets);
    v16i_store(weight, weights);
    for (; mask; mask &= mask - 1) {
        int j = __builtin_ctz(mask);
        sums[bucket[j] * SAMPLE_COPIES + j % SAMPLE_COPIES] += (uint32_t)weight[j];
    }
}

static void sample_count(const struct sample_row *row, const struct sample_cut *cut,
                         const struct sample_range *range, uint64_t *sums, float *extent)
{
    float low = range->low > cut->edge ? range->low : cut->edge;
    v16 lowest = v16_set(extent[0]), highest = v16_set(extent[1]);
    for (int at = row->begin; at < row->end; at += SAMPLE_BLOCK) {
        if (row->maxima && !(row->maxima[at / SAMPLE_BLOCK] >= low))
            continue;
        int stop = row->end - at < SAMPLE_BLOCK ? row->end : at + SAMPLE_BLOCK;
        for (int i = at; i < stop; i += 16) {
            v16 x = v16_load(row->logits + i);
            unsigned mask = sample_kept(cut, x, low, range->high, i, stop);
            if (!mask)
                continue;
            v16 score = sample_scores(cut, x);
            lowest = v16_min(v16_select(mask, x, lowest), lowest);
            highest = v16_max(v16_select(mask, x, highest), highest);
            sample_tally(mask, sample_buckets(cut, range, x, score),
                         range->weighted ? sample_masses(score) : v16i_set(1), sums);
        }
    }
    extent[0] = -v16_largest(v16_sub(v16_set(-0.0f), lowest));
    extent[1] = v16_largest(highest);
}

static int sample_nth(const struct sample_row *row, float value, int nth)
{
    v16 same = v16_set(value);
    for (int at = row->begin; at < row->end; at += SAMPLE_BLOCK) {
        if (!(row->maxima[at / SAMPLE_BLOCK] >= value))
            continue;
        int stop = row->end - at < SAMPLE_BLOCK ? row->end : at + SAMPLE_BLOCK;
        for (int i = at; i < stop; i += 16) {
            v16 x = v16_load(row->logits + i);
            unsigned mask = v16_ge(x, same) & v16_ge(same, x) & lanes_until(i, stop);
            int n = __builtin_popcount(mask);
            if (n < nth) {
                nth -= n;
                continue;
            }
            for (; nth > 1; nth--)
                mask &= mask - 1;
            return i + __builtin_ctz(mask);
        }
    }
    return -1;
}

/* ---- noise ---- */

/* A bijection of 32 bits in which every bit of the input changes about half of the output: the
 * form of Murmur3's finaliser, with shifts and factors found by search (C. Wellons, "hash
 * prospector", 2018 and later). */
V16_INLINE v16i noise_mix(v16i x)
{
    x = v16i_mul(v16i_xor(x, v16i_shift_right(x, 16)), v16i_set(0x21f0aaad));
    x = v16i_mul(v16i_xor(x, v16i_shift_right(x, 15)), v16i_set(0x735a2d97));
    return v16i_xor(x, v16i_shift_right(x, 15));
}

/* Random bits of tokens; one round alone would only shift the sequence from key to key. */
V16_INLINE v16i noise_hash(v16i tokens, const uint32_t key[2])
{
    v16i x = noise_mix(v16i_add(tokens, v16i_set((int32_t)key[0])));
    return noise_mix(v16i_xor(x, v16i_set((int32_t)key[1])));
}

/* -log(-log(1 - v)) for v uniform in (0, 1), so that large noise comes from v near 0: 24 bits of v
 * are those of `lead`, and 31 more come from the second hash. */
V16_INLINE v16 gumbel(v16 lead, v16i tokens, const uint32_t key[4])
{
    v16 more = v16i_float(v16i_shift_right(noise_hash(tokens, key + 2), 1));
    more = v16_fma(more, v16_set(0x1p-55f), v16_set(0x1p-56f));
    v16 most = v16_fma(lead, v16_set(-0x1p-24f), v16_set(1.0f)); /* exact */
    v16 rest = v16_max(v16_sub(most, more), v16_set(0x1p-56f));  /* 1 - v */
    /* What rounding took from rest counts when v is small, and to first order is enough. */
    v16 lost = v16_sub(v16_sub(most, rest), more);
    v16 log1 = v16_add(v16_log(rest), v16_div(lost, rest));
    return v16_sub(v16_set(0.0f), v16_log(v16_sub(v16_set(0.0f), log1)));
}

/* The noise lies below -log(v), and the bits of a float as a number lie below its logarithm to base
 * 2 (log2(1 + m) >= m): with lead for v, from which the rest of v only takes away, and some room
 * for rounding, it is below this. */
#define BOUND_PER_BIT (0.69314718f / (1 << 23))
#define BOUND (0.69314718f * (127 + 24) + 0.001f)

V16_INLINE void draw_block(const struct sample_row *row, const struct sample_cut *cut,
                           const uint32_t key[4], int at, struct sample_best *best)
{
    static const int32_t count[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    int stop = row->end - at < SAMPLE_BLOCK ? row->end : at + SAMPLE_BLOCK;
    for (int i = at; i < stop; i += 16) {
        int32_t tokens[16];
        v16i token = v16i_add(v16i_load(count), v16i_set(i));
        if (row->ids && i + 16 <= stop)
            token = v16i_load(row->ids + i);
        else if (row->ids) {
            for (int j = 0; j < 16; j++)
                tokens[j] = row->ids[i + j < stop ? i + j : i];
            token = v16i_load(tokens);
        }
        v16 x = v16_load(row->logits + i), score = sample_scores(cut, x);
        v16 lead = v16i_float(v16i_shift_right(noise_hash(token, key), 8));
        v16 bound = v16_fma(v16i_float(v16_bits(lead)), v16_set(-BOUND_PER_BIT),
                            v16_add(score, v16_set(BOUND)));
        unsigned mask = v16_ge(bound, v16_set(sample_worst(best)));
        if (!mask || !(mask &= sample_kept(cut, x, cut->edge, INFINITY, i, stop)))
            continue;
        float value[16];
        v16_store(value, v16_add(score, gumbel(lead, token, key)));
        v16i_store(tokens, token);
        for (; mask; mask &= mask - 1) {
            int j = __builtin_ctz(mask);
            sample_add(best, (struct candidate){value[j], tokens[j]});
        }
    }
}

/* The block of the largest logit comes first: then what the others must reach is high from the
 * start, in whatever order the logits stand. */
static void sample_draw(const struct sample_row *row, const struct sample_cut *cut,
                        const uint32_t key[4], struct sample_best *best)
{
    int first = row->begin / SAMPLE_BLOCK, blocks = (row->end + SAMPLE_BLOCK - 1) / SAMPLE_BLOCK;
    int start = first;
    for (int b = first; b < blocks; b++)
        start = row->maxima[b] > row->maxima[start] ? b : start;
    for (int turn = first - 1; turn < blocks && first < blocks; turn++) {
        int b = turn < first ? start : turn;
        if (row->maxima[b] >= cut->edge && turn != start)
            draw_block(row, cut, key, b * SAMPLE_BLOCK, best);
    }
}
