/* Finding parameters in a file, and reading their rows. */
#include "weights/matrix.h"

#include <stdio.h>
#include <string.h>

#include "weights/bf16.h"

/* A U8 tensor is quantised if its rows have the length of q8 or of q4. */
static int find_quantised(const struct safetensors *st, struct matrix *m, struct err *err)
{
    const struct tensor *t = m->data;
    char name[160];
    size_t groups = (size_t)quant_groups((int)m->inputs);
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
    m->scale = safetensors_find(st, name);
    if (!m->scale || m->scale->dtype != DTYPE_F16 || m->scale->n_dims != 2 ||
        m->scale->shape[0] != m->rows || m->scale->shape[1] != groups)
        return err_set(err, ERR_INVALID,
                       "%s: tensor '%s' of dtype F16 and shape [%zu, %zu], the scales of '%s', is "
                       "missing or has another dtype or shape",
                       st->path, name, m->rows, groups, t->name);
    return 0;
}

int matrix_find(const struct safetensors *st, const char *name, int n_dims, const size_t *shape,
                struct matrix *m, struct err *err)
{
    *m = (struct matrix){.rows = n_dims == 2 ? shape[0] : 1, .inputs = shape[n_dims - 1]};
    m->data = safetensors_find(st, name);
    if (m->data && m->data->dtype == DTYPE_U8 && n_dims == 2)
        return find_quantised(st, m, err);
    int rc = safetensors_get(st, name, n_dims, shape, &m->data, err);
    if (!rc)
        m->type = m->data->dtype == DTYPE_BF16 ? WEIGHT_BF16 : WEIGHT_F32;
    return rc;
}

/* Tensors are only byte-aligned in the mapping. */
void matrix_row(const struct matrix *m, size_t r, float *to)
{
    const unsigned char *data = m->data->data;
    uint16_t bits;
    switch (m->type) {
    case WEIGHT_F32:
        memcpy(to, data + r * m->inputs * 4, m->inputs * 4);
        break;
    case WEIGHT_BF16:
        for (size_t k = 0; k < m->inputs; k++) {
            memcpy(&bits, data + (r * m->inputs + k) * 2, 2);
            to[k] = bf16_to_float(bits);
        }
        break;
    default:
        for (size_t at = 0; at < m->inputs; at += GROUP) {
            size_t groups = (size_t)quant_groups((int)m->inputs), g = at / GROUP;
            size_t n = m->inputs - at < GROUP ? m->inputs - at : GROUP;
            size_t bytes = quant_row_bytes(m->type, GROUP);
            memcpy(&bits, (const char *)m->scale->data + (r * groups + g) * 2, 2);
            quant_row_floats(m->type, data + (r * groups + g) * bytes, &bits, n, to + at);
        }
    }
}
