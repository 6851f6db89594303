/* Matrices as files have them, of every type and at any address, with random contents, and what
 * they mean: the weights in double precision, read without the code that packs them. */
#ifndef TESTS_UNIT_MATRICES_H
#define TESTS_UNIT_MATRICES_H

#include "tests/unit/numbers.h"
#include "tests/unit/unit.h"
#include "weights/bf16.h"
#include "weights/f16.h"
#include "weights/matrix.h"

struct drawn {
    struct matrix m;
    unsigned char *bytes, *scales;
    double *w; /* (rows, inputs), in the order in which a model wants them */
};

/* What inputs of that type must be a multiple of. */
static inline int inputs_of_type(enum weight_type type)
{
    int inputs = block_format(type)->inputs;
    return inputs > 1 ? inputs : 2;
}

static inline void half_draw(struct draws *d, unsigned char *to, double size)
{
    double some = size * (0.2 + 0.8 * rng_uniform(d->seed, 3, d->at++));
    uint16_t bits = f16_from_float((float)(draw_below(d, 2) ? some : -some));
    memcpy(to, &bits, sizeof bits);
}

/* Any bytes, with scales and minima of a real size. */
static inline void block_draw(struct draws *d, enum weight_type type, unsigned char *to)
{
    const struct block_format *f = block_format(type);
    for (int i = 0; i < f->bytes; i += 8) {
        uint64_t word = rng_mix(d->seed + d->at++);
        memcpy(to + i, &word, (size_t)(f->bytes - i < 8 ? f->bytes - i : 8));
    }
    int at = type == WEIGHT_Q2_K ? 80 : type == WEIGHT_Q3_K ? 108 : type == WEIGHT_Q6_K ? 208 : 0;
    half_draw(d, to + at, f->sub_group ? 2e-4 : 0.1 / (1 << f->code_bits));
    if (f->minimum)
        half_draw(d, to + at + 2, f->sub_group ? 1e-3 : 0.05);
}

static inline void number_draw(struct draws *d, enum weight_type type, unsigned char *to)
{
    float f = (float)(0.05 * draw_normal(d));
    uint16_t bits = type == WEIGHT_BF16 ? bf16_from_float(f) : f16_from_float(f);
    memcpy(to, type == WEIGHT_F32 ? (void *)&f : &bits, type == WEIGHT_F32 ? 4 : 2);
}

static inline void number_read(enum weight_type type, const unsigned char *from, float *to)
{
    uint16_t bits;
    memcpy(&bits, from, 2);
    if (type == WEIGHT_F32)
        memcpy(to, from, 4);
    else
        *to = type == WEIGHT_BF16 ? bf16_to_float(bits) : f16_to_float(bits);
}

/* Row r of the file. */
static inline void file_row(const struct drawn *x, size_t r, float *to)
{
    const struct matrix *m = &x->m;
    const struct block_format *f = block_format(m->type);
    size_t each = (size_t)f->inputs, blocks = m->inputs / each;
    if (x->scales) {
        quant_row_floats(m->type, m->data + r * quant_row_bytes(m->type, m->inputs),
                         (const uint16_t *)(void *)x->scales +
                             r * (size_t)quant_groups((int)m->inputs),
                         m->inputs, to);
        return;
    }
    for (size_t b = 0; b < blocks; b++) {
        const unsigned char *at = m->data + (r * blocks + b) * (size_t)f->bytes;
        struct code_block block;
        if (each == 1) {
            number_read(m->type, at, to + b);
            continue;
        }
        block_read(m->type, at, &block);
        block_floats(m->type, &block, to + b * each);
    }
}

/* Where half-split rotation has pair (i, i + size/2), adjacent pairs have (2i, 2i + 1). */
static inline size_t adjacent(size_t file, size_t size)
{
    size_t head = file / size * size, i = file % size;
    return head + (i < size / 2 ? 2 * i : 2 * (i - size / 2) + 1);
}

static inline void drawn_weights(struct drawn *x)
{
    const struct matrix *m = &x->m;
    float *row = malloc(m->inputs * sizeof *row);
    x->w = malloc(m->rows * m->inputs * sizeof *x->w);
    assert_true(row && x->w);
    for (size_t r = 0; r < m->rows; r++) {
        size_t to = m->half_split ? adjacent(r, (size_t)m->half_split) : r;
        file_row(x, r, row);
        for (size_t k = 0; k < m->inputs; k++)
            x->w[to * m->inputs + k] = (double)row[k];
    }
    free(row);
}

/* A file's bytes alone, without their meaning. */
static inline void drawn_bytes(struct drawn *x, struct draws *d, enum weight_type type, size_t rows,
                               size_t inputs)
{
    *x = (struct drawn){.m = {.name = "w", .type = type, .rows = rows, .inputs = inputs}};
    const struct block_format *f = block_format(type);
    size_t size = rows * matrix_row_bytes(&x->m);
    x->bytes = malloc(size + 1);
    assert_non_null(x->bytes);
    x->m.data = x->bytes + 1;
    for (size_t i = 0; i < size; i += (size_t)f->bytes)
        if (f->inputs > 1)
            block_draw(d, type, x->bytes + 1 + i);
        else
            number_draw(d, type, x->bytes + 1 + i);
}

/* q8 and q4 as headway's files have them, whose inputs need not be whole groups. */
static inline void drawn_own(struct drawn *x, struct draws *d, enum weight_type type, size_t rows,
                             size_t inputs)
{
    *x = (struct drawn){.m = {.name = "w", .type = type, .rows = rows, .inputs = inputs}};
    size_t groups = (size_t)quant_groups((int)inputs), size = rows * quant_row_bytes(type, inputs);
    x->bytes = malloc(size + 1);
    x->scales = malloc(rows * groups * 2);
    assert_true(x->bytes && x->scales);
    x->m.data = x->bytes + 1;
    x->m.scales = x->scales;
    for (size_t i = 0; i < size; i++)
        x->bytes[i + 1] = (unsigned char)(1 + draw_below(d, 255));
    for (size_t i = 0; i < rows * groups; i++)
        half_draw(d, x->scales + 2 * i, type == WEIGHT_Q8 ? 4e-4 : 6e-3);
}

/* half_split: 0, or what divides rows. own: drawn_own. */
static inline void drawn_make(struct drawn *x, struct draws *d, enum weight_type type, size_t rows,
                              size_t inputs, int half_split, bool own)
{
    if (own)
        drawn_own(x, d, type, rows, inputs);
    else
        drawn_bytes(x, d, type, rows, inputs);
    x->m.half_split = half_split;
    drawn_weights(x);
}

static inline void drawn_free(struct drawn *x)
{
    free(x->bytes);
    free(x->scales);
    free(x->w);
    memset(x, 0, sizeof *x);
}

/* The weights once more, as linear_pack with that type makes them (WEIGHT_STORED: as they are). */
static inline void drawn_convert(const struct drawn *x, int type, double *w)
{
    size_t inputs = x->m.inputs, groups = (size_t)quant_groups((int)inputs);
    float *row = malloc(inputs * sizeof *row);
    uint8_t *codes = malloc(groups * GROUP);
    uint16_t *scales = malloc(groups * sizeof *scales);
    assert_true(row && codes && scales);
    for (size_t r = 0; r < x->m.rows; r++, w += inputs) {
        for (size_t k = 0; k < inputs; k++)
            row[k] = (float)x->w[r * inputs + k];
        if ((type == WEIGHT_Q8 || type == WEIGHT_Q4) && x->m.type != (enum weight_type)type) {
            quant_row((enum weight_type)type, row, inputs, codes, scales);
            quant_row_floats((enum weight_type)type, codes, scales, inputs, row);
        }
        for (size_t k = 0; k < inputs; k++)
            w[k] = (double)(type == WEIGHT_BF16 ? bf16_to_float(bf16_from_float(row[k])) : row[k]);
    }
    free(row);
    free(codes);
    free(scales);
}

#endif
