/* headway-convert: a model folder with its matrices in another type. Owns the options and the
 * writing; what a quantised matrix looks like is weights/quant.h's, how one is read
 * model/linear.c's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/opts.h"
#include "model/linear.h"
#include "model/params.h"
#include "weights/file.h"
#include "weights/matrix.h"

static const char about[] =
    "headway-convert writes the model folder IN to OUT with its matrices in another type.\n"
    "q8 and q4 have 32 weights to a scale, 8.5 and 4.5 bits per weight. The embedding is then\n"
    "written in f32 or bf16 as it was, also where it is the unembedding; norms are f32.\n\n"
    "    headway-convert IN OUT --type f32|bf16|q8|q4";

struct convert {
    struct config config;
    struct params params;
    struct safetensors in;
    struct tensor_out *out; /* two places per parameter: a quantised matrix has its scales too */
    size_t n_out;
    char (*names)[80]; /* of the scales */
};

/* The floats of one parameter, as data that the caller frees. */
static int read_param(struct convert *c, const struct param *p, float **values, struct err *err)
{
    struct matrix m;
    int rc = matrix_find(&c->in, p->name, p->n_dims, p->shape, &m, err);
    if (rc)
        return rc;
    *values = malloc(p->count * sizeof **values);
    if (!*values)
        return err_set(err, ERR_MEMORY, "no memory for %s", p->name);
    size_t width = p->n_dims == 1 ? p->count : p->shape[1];
    for (size_t r = 0; r < p->count / width; r++)
        matrix_row(&m, r, *values + r * width);
    return 0;
}

static void put(struct convert *c, const char *name, enum dtype dtype, int n_dims, size_t rows,
                size_t cols, const void *data, int f32_source)
{
    c->out[c->n_out++] = (struct tensor_out){name, dtype, n_dims, {rows, cols}, data, f32_source};
}

/* Adds a parameter to the output. What tensor_out points to lives until the end. */
static int add(struct convert *c, int index, enum weight_type type, struct err *err)
{
    const struct param *p = &c->params.list[index];
    float *values = NULL;
    int rc = read_param(c, p, &values, err);
    if (rc)
        return rc;
    if (p->n_dims == 1 || type == WEIGHT_F32 || type == WEIGHT_BF16) {
        enum dtype dtype = p->n_dims == 2 && type == WEIGHT_BF16 ? DTYPE_BF16 : DTYPE_F32;
        put(c, p->name, dtype, p->n_dims, p->shape[0], p->shape[1], values, 1);
        return 0;
    }
    size_t rows = p->shape[0], inputs = p->shape[1], groups = (size_t)quant_groups((int)inputs);
    size_t width = quant_row_bytes(type, inputs);
    uint8_t *bytes = malloc(rows * width);
    uint16_t *scales = malloc(rows * groups * sizeof *scales);
    if (!bytes || !scales) {
        free(values);
        free(bytes);
        free(scales);
        return err_set(err, ERR_MEMORY, "no memory for %s", p->name);
    }
    for (size_t r = 0; r < rows; r++)
        quant_row(type, values + r * inputs, inputs, bytes + r * width, scales + r * groups);
    free(values);
    snprintf(c->names[index], sizeof *c->names, "%s.scale", p->name);
    put(c, p->name, DTYPE_U8, 2, rows, width, bytes, 0);
    put(c, c->names[index], DTYPE_F16, 2, rows, groups, scales, 0);
    return 0;
}

/* The embedding is looked up, not multiplied with: it stays f32 or bf16. */
static enum weight_type embedding_type(const struct convert *c, enum weight_type type)
{
    const struct tensor *t = safetensors_find(&c->in, c->params.list[c->params.embed].name);
    if (type <= WEIGHT_BF16)
        return type;
    return t && t->dtype == DTYPE_F32 ? WEIGHT_F32 : WEIGHT_BF16;
}

static int convert(struct convert *c, const char *from, const char *to, enum weight_type type,
                   struct err *err)
{
    char *in = file_join(from, "model.safetensors"), *out = file_join(to, "model.safetensors");
    int rc = in && out ? config_read(&c->config, from, err)
                       : err_set(err, ERR_MEMORY, "%s: no memory left", from);
    if (!rc)
        rc = params_init(&c->params, &c->config, err);
    if (!rc)
        rc = safetensors_open(&c->in, in, err);
    size_t n = (size_t)c->params.n;
    if (!rc &&
        (!(c->out = calloc(2 * n, sizeof *c->out)) || !(c->names = calloc(n, sizeof *c->names))))
        rc = err_set(err, ERR_MEMORY, "no memory to list %zu tensors", n);
    for (int i = 0; i < c->params.n && !rc; i++)
        rc = add(c, i, i == c->params.embed ? embedding_type(c, type) : type, err);
    if (!rc && mkdir(to, 0777) && errno != EEXIST)
        rc = err_set(err, ERR_IO, "%s could not be made: %s", to, strerror(errno));
    if (!rc)
        rc = safetensors_write(out, c->out, c->n_out, "{\"format\":\"headway\"}", err);
    if (!rc)
        rc = config_write(&c->config, to, err);
    free(in);
    free(out);
    return rc;
}

static void convert_release(struct convert *c)
{
    for (size_t i = 0; i < c->n_out; i++)
        free((void *)(uintptr_t)c->out[i].data);
    free(c->out);
    free(c->names);
    params_release(&c->params);
    safetensors_release(&c->in);
}

int main(int argc, char **argv)
{
    static struct convert c;
    struct err err;
    const char *folders[2], *name = NULL;
    int n = 0, type = 0;
    const struct opt table[] = {
        {"type", OPT_CHOICE, &name, 0, 0, "f32|bf16|q8|q4", "of the matrices"}, {0}};
    int rc = opts_parse(table, about, argc, argv, folders, 2, &n, &err);
    if (rc > 0)
        return 0;
    if (!rc && n != 2)
        rc = err_set(&err, ERR_INVALID, "two folders are needed, the model and where to write it");
    if (!rc && !name)
        rc = err_set(&err, ERR_INVALID, "--type is missing: f32, bf16, q8 or q4");
    if (!rc && !strcmp(folders[0], folders[1]))
        rc = err_set(&err, ERR_INVALID, "IN and OUT are the same folder: name another one");
    if (!rc)
        rc = weight_type_parse(name, &type, &err);
    if (!rc)
        rc = convert(&c, folders[0], folders[1], (enum weight_type)type, &err);
    convert_release(&c);
    if (rc)
        fprintf(stderr, "headway-convert: %s\n", err.text);
    return rc ? 1 : 0;
}
