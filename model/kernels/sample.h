/* Innermost loops over a row of logits, for the sampler: an interface of its own within the kernel
 * table. A row is looked at in blocks of SAMPLE_BLOCK, and each loop passes over the blocks whose
 * maximum says that nothing in them matters. A lane works on a slice of the row; what slices give
 * joins to the same whatever the slices are.
 *
 * In a row, NaN marks what can't be chosen: no comparison with it is true. */
#ifndef MODEL_KERNELS_SAMPLE_H
#define MODEL_KERNELS_SAMPLE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#define SAMPLE_BLOCK 64
#define SAMPLE_BUCKETS 512
#define SAMPLE_COPIES 4 /* of a histogram, so that equal logits don't wait for one another */
#define SAMPLE_BEST_MAX 20
#define SAMPLE_MASS_SHIFT 30 /* the mass of the best token is 2^30 */

struct candidate {
    float score;
    int32_t token;
};

/* The best n seen so far, best first; of equal scores the lower token. */
struct sample_best {
    int n, most; /* 1..SAMPLE_BEST_MAX */
    struct candidate c[SAMPLE_BEST_MAX];
};

/* What a score must at least have to enter the list. */
static inline float sample_worst(const struct sample_best *best)
{
    return best->n < best->most ? -INFINITY : best->c[best->most - 1].score;
}

static inline bool sample_better(struct candidate a, struct candidate b)
{
    return a.score > b.score || (a.score == b.score && a.token < b.token);
}

static inline void sample_add(struct sample_best *best, struct candidate c)
{
    int at = best->n;
    if (at == best->most && !sample_better(c, best->c[--at]))
        return;
    for (; at > 0 && sample_better(c, best->c[at - 1]); at--)
        best->c[at] = best->c[at - 1];
    best->c[at] = c;
    best->n += best->n < best->most;
}

struct sample_row {
    const float *logits; /* readable up to the next multiple of 16 behind `end` */
    const int32_t *ids;  /* the token that each logit stands for, rising; NULL: its index */
    const float *maxima; /* one for each block of the row; NULL: no block is passed over */
    int begin, end;      /* the slice; begin is a multiple of SAMPLE_BLOCK */
};

/* The tokens that are kept: logits above `edge`, and those equal to it up to index `last`. Their
 * scores are (logit - top) / temperature, at most 0. */
struct sample_cut {
    float top;     /* the largest logit, above -infinity */
    float inverse; /* 1 / temperature, finite */
    float edge;
    int last;
};

/* The score as all kernels calculate it. It is monotonic; +infinity stands above all numbers. */
static inline float sample_score(const struct sample_cut *cut, float logit)
{
    float below = logit - cut->top;
    return (below < 0 ? below : 0) * cut->inverse;
}

/* Kept logits in low..high by buckets, the best in bucket 0: by score, in steps of 1 / scale below
 * that of `high`; or by key, 2^shift keys below that of `high` each. */
struct sample_range {
    float low, high;
    float scale;
    int shift;
    bool by_key, weighted;
};

/* Whole numbers in the order of floats: equal ones, also -0 and 0, have equal keys. */
static inline int32_t sample_key(float x)
{
    int32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits < 0 ? -(bits & 0x7fffffff) : bits;
}

static inline float sample_of_key(int32_t key)
{
    float x;
    __builtin_memcpy(&x, &(int32_t){key < 0 ? -key : key}, sizeof x);
    return key < 0 ? -x : x;
}

/* The bucket of a logit in low..high, as all kernels calculate it. */
static inline int sample_bucket(const struct sample_cut *cut, const struct sample_range *range,
                                float logit)
{
    if (range->by_key)
        return (int)((uint32_t)(((int64_t)sample_key(range->high) - sample_key(logit))) >>
                     range->shift);
    float steps = (sample_score(cut, range->high) - sample_score(cut, logit)) * range->scale;
    return (int)lrintf(steps < SAMPLE_BUCKETS - 1 ? steps : SAMPLE_BUCKETS - 1);
}

struct sample_kernels {
    /* The maximum of each block of the slice begin..end-1 at maxima[block], -infinity for a block
     * of NaN; returns the largest. Reads nothing behind `end`. */
    float (*maxima)(const float *logits, int begin, int end, float *maxima);

    /* to[i] = logits[i] where bit i of `allowed` is 1, else NaN, for the slice. */
    void (*mask)(const float *logits, const uint64_t *allowed, int begin, int end, float *to);

    /* e^score in units of 2^-SAMPLE_MASS_SHIFT, to the nearest. */
    uint32_t (*mass)(float score);

    /* Adds each kept logit of the slice in range->low..high to its bucket's sum: its mass, or 1.
     * sums: (SAMPLE_BUCKETS, SAMPLE_COPIES), any copy. Lowers and raises extent[0] and extent[1] to
     * hold these logits. */
    void (*count)(const struct sample_row *row, const struct sample_cut *cut,
                  const struct sample_range *range, uint64_t *sums, float *extent);

    /* Index of the nth (from 1) logit of the slice that equals value; -1 if there is none. */
    int (*nth)(const struct sample_row *row, float value, int nth);

    /* Enters the kept tokens of the slice with score + Gumbel noise. The noise is a function of key
     * and token alone. */
    void (*draw)(const struct sample_row *row, const struct sample_cut *cut, const uint32_t key[4],
                 struct sample_best *best);
};

#endif
