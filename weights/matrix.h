/* A parameter as a model file holds it, whatever its type: f32, bf16, or quantised (quant.h).
 * Borrowed from the reader; any thread. */
#ifndef WEIGHTS_MATRIX_H
#define WEIGHTS_MATRIX_H

#include "base/err.h"
#include "weights/quant.h"
#include "weights/safetensors.h"

struct matrix {
    const struct tensor *data, *scale; /* scale NULL unless quantised */
    enum weight_type type;
    size_t rows, inputs; /* a norm weight is one row */
};

/* The parameter of that name and shape (n_dims 1 or 2), only matrices quantised. ERR_INVALID names
 * the tensor, what was expected and what was found. */
int matrix_find(const struct safetensors *st, const char *name, int n_dims, const size_t *shape,
                struct matrix *matrix, struct err *err);

/* Row r as floats. */
void matrix_row(const struct matrix *matrix, size_t r, float *to);

#endif
