/* A parameter as a model file holds it, whatever its type and the order of its rows. Borrowed from
 * the reader, whose mapping it points into; any thread. */
#ifndef WEIGHTS_MATRIX_H
#define WEIGHTS_MATRIX_H

#include <stdbool.h>

#include "base/err.h"
#include "weights/block.h"
#include "weights/quant.h"
#include "weights/safetensors.h"

struct matrix {
    const char *name; /* in its file, for sentences */
    enum weight_type type;
    const unsigned char *data;   /* rows one behind the other, only byte-aligned: numbers, blocks
                                    (block.h), or the codes of quant.h */
    const unsigned char *scales; /* of quant.h's codes, else NULL */
    size_t rows, inputs;         /* a norm weight is one row */
    int half_split; /* 0, or the size of heads whose rows stand in the order of half-split rotation
                       (i, i + size/2): they are read in the order of adjacent pairs. Of a
                       vector (one row): its elements */
};

/* The parameter of that name and shape (n_dims 1 or 2) in one of headway's own files, only matrices
 * quantised. ERR_INVALID names the tensor, what was expected and what was found. */
int matrix_find(const struct safetensors *st, const char *name, int n_dims, const size_t *shape,
                struct matrix *matrix, struct err *err);

/* The parameter that a tensor of numbers (F32, BF16, F16) holds. ERR_INVALID for other dtypes and
 * another number of dimensions; `path` names its file. */
int matrix_of_tensor(struct matrix *matrix, const struct tensor *tensor, int n_dims,
                     const char *path, struct err *err);

/* Row r as floats, without a rounding but that of q4_1 and q5_1 (code times scale plus minimum). */
void matrix_row(const struct matrix *matrix, size_t r, float *to);

/* Whether all numbers of row r, or its scales and minima, are finite; the sentence, ERR_INVALID,
 * where they are not. */
bool matrix_row_finite(const struct matrix *matrix, size_t r);
int matrix_broken(const struct matrix *matrix, size_t r, struct err *err);

/* Blocks of a row of a quantised matrix, and one of them: block i of row r. */
size_t matrix_blocks(const struct matrix *matrix);
void matrix_block(const struct matrix *matrix, size_t r, size_t i, struct code_block *block);

/* The bytes of row r in the file, scales apart: how many, and where. */
size_t matrix_row_bytes(const struct matrix *matrix);
const unsigned char *matrix_row_data(const struct matrix *matrix, size_t r);

#endif
