/* See trunk_hash.h. */
#include "model/trunk_hash.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "model/params.h"

#define ROWS 3 /* of a matrix: the first, the middle, the last */

static void add_floats(uint64_t *hash, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        *hash = rng_mix(*hash ^ bits);
    }
}

static int add_tensor(uint64_t *hash, const struct source *source, const struct param *p,
                      struct err *err)
{
    struct matrix matrix;
    int rc = source_find(source, &p->place, p->n_dims, p->shape, &matrix, err);
    if (rc)
        return rc;
    float *row = malloc(matrix.inputs * sizeof *row);
    if (!row)
        return err_set(err, ERR_MEMORY, "no memory for a row of %s", p->name);
    for (size_t i = 0; i < (matrix.rows < ROWS ? matrix.rows : ROWS); i++) {
        matrix_row(&matrix, i * (matrix.rows - 1) / (ROWS - 1), row);
        add_floats(hash, row, matrix.inputs);
    }
    free(row);
    return 0;
}

int trunk_hash(const struct source *source, uint64_t *hash, struct err *err)
{
    const struct config *c = &source->config;
    const float reals[] = {c->norm_eps, c->rope_theta};
    const int sizes[] = {c->dim,    c->n_layers, c->n_heads, c->n_kv_heads,
                         c->hidden, c->vocab,    c->head_dim};
    struct params params;
    int rc = params_init(&params, c, err);
    *hash = 1;
    add_floats(hash, reals, sizeof reals / sizeof *reals);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        *hash = rng_mix(*hash ^ (uint64_t)sizes[i]);
    for (int i = 0; i < params.n && !rc; i++)
        if (params.list[i].place.head < 0)
            rc = add_tensor(hash, source, &params.list[i], err);
    params_release(&params);
    *hash = *hash ? *hash : 1;
    return rc;
}
