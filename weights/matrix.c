/* Finding parameters in headway's files, and reading rows of any file's. */
#include "weights/matrix.h"

#include <stdio.h>
#include <string.h>

#include "weights/bf16.h"
#include "weights/f16.h"

/* A U8 tensor of three dimensions holds blocks of GGUF: (rows, blocks, bytes of a block). */
static int find_blocks(const struct safetensors *st, const struct tensor *t, struct matrix *m,
                       struct err *err)
{
    for (int type = 0; type < WEIGHT_TYPES; type++) {
        const struct block_format *f = block_format((enum weight_type)type);
        m->type = (enum weight_type)type;
        if (f->code_bits && t->shape[2] == (size_t)f->bytes && t->shape[0] == m->rows &&
            t->shape[1] * (size_t)f->inputs == m->inputs)
            return 0;
    }
    return err_set(err, ERR_INVALID,
                   "%s: tensor '%s' is U8 of shape [%zu, %zu, %zu], which are not the blocks of a "
                   "matrix [%zu, %zu] in any type",
                   st->path, t->name, t->shape[0], t->shape[1], t->shape[2], m->rows, m->inputs);
}

/* A U8 tensor is quantised if its rows have the length of q8 or of q4. */
static int find_quantised(const struct safetensors *st, const struct tensor *t, struct matrix *m,
                          struct err *err)
{
    char name[160];
    size_t groups = (size_t)quant_groups((int)m->inputs);
    if (t->n_dims == 3)
        return find_blocks(st, t, m, err);
    m->type = WEIGHT_Q8;
    if (t->n_dims == 2 && t->shape[1] == quant_row_bytes(WEIGHT_Q4, m->inputs))
        m->type = WEIGHT_Q4;
    if (t->n_dims != 2 || t->shape[0] != m->rows ||
        t->shape[1] != quant_row_bytes(m->type, m->inputs))
        return err_set(err, ERR_INVALID,
                       "%s: tensor '%s' is U8, which means quantised, and so must have %zu rows of "
                       "%zu (q8) or %zu (q4) bytes",
                       st->path, t->name, m->rows, quant_row_bytes(WEIGHT_Q8, m->inputs),
                       quant_row_bytes(WEIGHT_Q4, m->inputs));
    snprintf(name, sizeof name, "%s.scale", t->name);
    const struct tensor *scale = safetensors_find(st, name);
    if (!scale || scale->dtype != DTYPE_F16 || scale->n_dims != 2 || scale->shape[0] != m->rows ||
        scale->shape[1] != groups)
        return err_set(err, ERR_INVALID,
                       "%s: tensor '%s' of dtype F16 and shape [%zu, %zu], the scales of '%s', is "
                       "missing or has another dtype or shape",
                       st->path, name, m->rows, groups, t->name);
    m->scales = scale->data;
    return 0;
}

int matrix_find(const struct safetensors *st, const char *name, int n_dims, const size_t *shape,
                struct matrix *m, struct err *err)
{
    const struct tensor *t = safetensors_find(st, name);
    if (!t || t->dtype != DTYPE_U8 || n_dims != 2) {
        int rc = t && t->dtype == DTYPE_F16 ? 0 : safetensors_get(st, name, n_dims, shape, &t, err);
        return rc ? rc : matrix_of_tensor(m, t, n_dims, st->path, err);
    }
    *m = (struct matrix){
        .name = t->name, .data = t->data, .rows = shape[0], .inputs = shape[n_dims - 1]};
    return find_quantised(st, t, m, err);
}

int matrix_of_tensor(struct matrix *m, const struct tensor *t, int n_dims, const char *path,
                     struct err *err)
{
    if (t->dtype != DTYPE_F32 && t->dtype != DTYPE_BF16 && t->dtype != DTYPE_F16)
        return err_set(err, ERR_INVALID,
                       "%s: tensor '%s' is of dtype %s, but weights must be F32, BF16 or F16", path,
                       t->name, dtype_name(t->dtype));
    if (t->n_dims != n_dims)
        return err_set(err, ERR_INVALID, "%s: tensor '%s' has %d dimensions, but must have %d",
                       path, t->name, t->n_dims, n_dims);
    *m = (struct matrix){.name = t->name,
                         .type = t->dtype == DTYPE_F32    ? WEIGHT_F32
                                 : t->dtype == DTYPE_BF16 ? WEIGHT_BF16
                                                          : WEIGHT_F16,
                         .data = t->data,
                         .rows = n_dims == 2 ? t->shape[0] : 1,
                         .inputs = t->shape[n_dims - 1]};
    return 0;
}

/* ---- rows ---- */

size_t matrix_blocks(const struct matrix *m)
{
    size_t inputs = (size_t)block_format(m->type)->inputs;
    return (m->inputs + inputs - 1) / inputs;
}

size_t matrix_row_bytes(const struct matrix *m)
{
    if (m->scales)
        return quant_row_bytes(m->type, m->inputs);
    return matrix_blocks(m) * (size_t)block_format(m->type)->bytes;
}

/* In adjacent pairs row 2i is what half-split has at i, row 2i + 1 what it has at i + size/2. */
static size_t place_in_file(const struct matrix *m, size_t r)
{
    size_t size = (size_t)m->half_split;
    return size && m->rows > 1 ? r / size * size + r % size / 2 + r % 2 * (size / 2) : r;
}

const unsigned char *matrix_row_data(const struct matrix *m, size_t r)
{
    return m->data + place_in_file(m, r) * matrix_row_bytes(m);
}

void matrix_block(const struct matrix *m, size_t r, size_t i, struct code_block *block)
{
    const unsigned char *row = matrix_row_data(m, r);
    if (!m->scales) {
        block_read(m->type, row + i * (size_t)block_format(m->type)->bytes, block);
        return;
    }
    size_t bytes = quant_row_bytes(m->type, GROUP);
    size_t at = place_in_file(m, r) * matrix_blocks(m) + i;
    memcpy(&block->d, m->scales + at * 2, 2);
    for (size_t k = 0; k < GROUP; k++)
        block->codes[k] = m->type == WEIGHT_Q8 ? row[i * bytes + k]
                          : k < GROUP / 2      ? row[i * bytes + k] & 15
                                               : row[i * bytes + k - GROUP / 2] >> 4;
}

static void row_numbers(const struct matrix *m, const unsigned char *data, float *to)
{
    uint16_t bits;
    if (m->type == WEIGHT_F32) {
        memcpy(to, data, m->inputs * 4);
        return;
    }
    for (size_t k = 0; k < m->inputs; k++) {
        memcpy(&bits, data + k * 2, 2);
        to[k] = m->type == WEIGHT_BF16 ? bf16_to_float(bits) : f16_to_float(bits);
    }
}

/* A vector's elements, where they stand for rows, into the order of rows. */
static void vector_order(const struct matrix *m, float *x)
{
    size_t size = (size_t)m->half_split;
    float head[1024];
    for (float *end = x + m->inputs; size && size <= 1024 && x + size <= end; x += size) {
        memcpy(head, x, size * sizeof *head);
        for (size_t i = 0; i < size; i++)
            x[i] = head[i / 2 + i % 2 * (size / 2)];
    }
}

void matrix_row(const struct matrix *m, size_t r, float *to)
{
    struct code_block block;
    float w[BLOCK_MOST];
    size_t inputs = (size_t)block_format(m->type)->inputs;
    if (inputs == 1) {
        row_numbers(m, matrix_row_data(m, r), to);
        if (m->rows == 1)
            vector_order(m, to);
        return;
    }
    for (size_t i = 0, at = 0; at < m->inputs; i++, at += inputs) {
        matrix_block(m, r, i, &block);
        block_floats(m->type, &block, w);
        memcpy(to + at, w, (m->inputs - at < inputs ? m->inputs - at : inputs) * sizeof *w);
    }
}

static bool numbers_finite(enum weight_type type, const unsigned char *data, size_t n)
{
    uint32_t word;
    uint16_t bits;
    bool finite = true;
    for (size_t k = 0; type == WEIGHT_F32 && k < n; k++) {
        memcpy(&word, data + k * 4, 4);
        finite &= (word & 0x7f800000) != 0x7f800000;
    }
    uint16_t exponent = type == WEIGHT_BF16 ? 0x7f80 : 0x7c00;
    for (size_t k = 0; type != WEIGHT_F32 && k < n; k++) {
        memcpy(&bits, data + k * 2, 2);
        finite &= (bits & exponent) != exponent;
    }
    return finite;
}

bool matrix_row_finite(const struct matrix *m, size_t r)
{
    size_t blocks = matrix_blocks(m), bytes = (size_t)block_format(m->type)->bytes;
    const unsigned char *row = matrix_row_data(m, r);
    if (m->scales)
        return numbers_finite(WEIGHT_F16, m->scales + place_in_file(m, r) * blocks * 2, blocks);
    if (block_format(m->type)->inputs == 1)
        return numbers_finite(m->type, row, m->inputs);
    bool finite = true;
    for (size_t i = 0; i < blocks; i++)
        finite &= block_finite(m->type, row + i * bytes);
    return finite;
}

int matrix_broken(const struct matrix *m, size_t r, struct err *err)
{
    return err_set(
        err, ERR_INVALID,
        "tensor '%s' has a number in row %zu that is infinite or none (NaN): the file is "
        "broken, or the training that wrote it failed",
        m->name, r);
}
