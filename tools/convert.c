/* headway-convert: a model of any kind that can be read, as one of headway's folders. Owns the
 * options and what is written; reading is weights/source.h's, what a quantised matrix looks like
 * weights/quant.h's and block.h's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/opts.h"
#include "model/params.h"
#include "model/trunk_hash.h"
#include "tools/convert_eagle3.h"
#include "weights/file.h"
#include "weights/matrix.h"
#include "weights/safetensors.h"
#include "weights/source.h"
#include "weights/vocab_files.h"

static const char about[] =
    "headway-convert writes the model IN (a folder of headway's, of Hugging Face or of Meta, or a\n"
    ".gguf file; or heads that were trained for one) to the folder OUT. Its matrices stay as they "
    "are stored, or get another type: q8 "
    "and\n"
    "q4 have 32 weights to a scale, 8.5 and 4.5 bits per weight; the embedding is then written in\n"
    "f32 or bf16. Norms and biases are f32.\n\n"
    "With --trunk, IN may be a folder of EAGLE-3's heads, which were trained for that model; with\n"
    "--to eagle3 besides, heads of headway's that were trained for it with --eagle3 are written "
    "for\n"
    "other servers, in bf16.\n\n"
    "    headway-convert IN OUT [--type stored|f32|bf16|q8|q4] [--trunk MODEL]\n"
    "    headway-convert IN OUT --to eagle3 --trunk MODEL";

struct convert;

/* One tensor of the output: a parameter, or the scales of one. */
struct part {
    struct convert *convert;
    struct matrix matrix;
    int type; /* enum weight_type: of the output */
    bool scales;
    char name[80];
};

struct convert {
    struct source in;
    struct params params;
    int type; /* enum weight_type, or WEIGHT_STORED */
    struct part *parts;
    struct tensor_out *out; /* two places per parameter: a quantised matrix has its scales too */
    size_t n_out, rows, rows_written;
    float *row;
    uint8_t *codes;
    uint16_t *row_scales;
    bool talks; /* to a terminal */
};

/* ---- writing a tensor ---- */

static void say_progress(struct convert *c)
{
    size_t before = c->rows_written++ * 100 / c->rows, now = c->rows_written * 100 / c->rows;
    if (c->talks && now != before)
        fprintf(stderr, "\r%3zu %%%s", now, now == 100 ? "\n" : "");
}

static bool bits_stay(const struct part *p)
{
    return p->type == (int)p->matrix.type && !p->matrix.scales && p->matrix.rows > 1;
}

/* Row by row: what the file has, or what it is converted to. */
static void write_part(void *arg, FILE *stream)
{
    struct part *p = arg;
    struct convert *c = p->convert;
    const struct matrix *m = &p->matrix;
    size_t groups = (size_t)quant_groups((int)m->inputs);
    for (size_t r = 0; r < m->rows; r++) {
        if (bits_stay(p)) {
            fwrite(matrix_row_data(m, r), 1, matrix_row_bytes(m), stream);
        } else {
            matrix_row(m, r, c->row);
            if (p->type == WEIGHT_F32)
                fwrite(c->row, sizeof(float), m->inputs, stream);
            else if (p->type == WEIGHT_BF16)
                safetensors_put_bf16(c->row, m->inputs, stream);
            else {
                quant_row((enum weight_type)p->type, c->row, m->inputs, c->codes, c->row_scales);
                if (p->scales)
                    fwrite(c->row_scales, sizeof *c->row_scales, groups, stream);
                else
                    fwrite(c->codes, 1, quant_row_bytes((enum weight_type)p->type, m->inputs),
                           stream);
            }
        }
        say_progress(c);
    }
}

/* ---- listing the tensors ---- */

static struct tensor_out *add_part(struct convert *c, const struct param *param,
                                   const struct matrix *m, int type, bool scales)
{
    struct part *p = &c->parts[c->n_out];
    *p = (struct part){c, *m, type, scales, {0}};
    snprintf(p->name, sizeof p->name, "%s%s", param->name, scales ? ".scale" : "");
    c->rows += m->rows;
    struct tensor_out *out = &c->out[c->n_out++];
    *out = (struct tensor_out){.name = p->name, .write = write_part, .write_arg = p};
    return out;
}

static void shape_out(struct tensor_out *out, enum dtype dtype, int n_dims, size_t a, size_t b,
                      size_t size)
{
    out->dtype = dtype;
    out->n_dims = n_dims;
    out->shape[0] = a;
    out->shape[1] = b;
    out->shape[2] = size;
}

/* Vectors are f32; the embedding is looked up, not multiplied with, and is not quantised anew. */
static int type_of(const struct convert *c, int index, const struct matrix *m)
{
    if (c->params.list[index].n_dims == 1)
        return WEIGHT_F32;
    if (c->type == WEIGHT_STORED)
        return (int)m->type;
    if (index == c->params.embed && c->type > WEIGHT_BF16)
        return m->type == WEIGHT_F32 ? WEIGHT_F32 : WEIGHT_BF16;
    return c->type;
}

static int add(struct convert *c, int index, struct err *err)
{
    const struct param *p = &c->params.list[index];
    struct matrix m;
    int rc = source_find(&c->in, &p->place, p->n_dims, p->shape, &m, err);
    if (rc)
        return rc;
    int type = type_of(c, index, &m);
    struct tensor_out *out = add_part(c, p, &m, type, false);
    size_t groups = (size_t)quant_groups((int)m.inputs);
    const struct block_format *f = block_format((enum weight_type)type);
    if (p->n_dims == 1)
        shape_out(out, DTYPE_F32, 1, m.inputs, 0, 0);
    else if (f->inputs == 1)
        shape_out(out,
                  type == WEIGHT_F32    ? DTYPE_F32
                  : type == WEIGHT_BF16 ? DTYPE_BF16
                                        : DTYPE_F16,
                  2, m.rows, m.inputs, 0);
    else if (bits_stay(out->write_arg))
        shape_out(out, DTYPE_U8, 3, m.rows, matrix_blocks(&m), (size_t)f->bytes);
    else {
        shape_out(out, DTYPE_U8, 2, m.rows, quant_row_bytes((enum weight_type)type, m.inputs), 0);
        shape_out(add_part(c, p, &m, type, true), DTYPE_F16, 2, m.rows, groups, 0);
    }
    return 0;
}

static int add_draft_ids(struct convert *c, struct err *err)
{
    const int32_t *ids;
    int n, rc = source_draft_ids(&c->in, &ids, &n, err);
    if (rc || !n)
        return rc;
    struct tensor_out *out = &c->out[c->n_out++];
    *out = (struct tensor_out){.name = "draft_ids", .data = ids};
    shape_out(out, DTYPE_I32, 1, (size_t)n, 0, 0);
    return 0;
}

/* ---- the whole ---- */

/* Heads that do not say which model they were trained for. */
static int open_eagle3(struct convert *c, const char *from, const char *trunk, struct err *err)
{
    struct source model;
    uint64_t hash;
    int rc = source_open(&model, trunk, err);
    if (rc)
        return rc;
    if (model.config.n_predict > 1 || !model.config.next_is_trunk)
        rc = err_set(err, ERR_INVALID, "%s has prediction heads of its own", trunk);
    if (!rc)
        rc = trunk_hash(&model, &hash, err);
    if (!rc)
        rc = source_open_eagle3(&c->in, from, &model.config, hash, err);
    source_release(&model);
    return rc;
}

static int prepare(struct convert *c, const char *from, const char *trunk, struct err *err)
{
    int rc = trunk ? open_eagle3(c, from, trunk, err) : source_open_either(&c->in, from, err);
    if (!rc)
        rc = params_init(&c->params, &c->in.config, err);
    size_t n = (size_t)c->params.n, widest = 0;
    for (size_t i = 0; i < n; i++) {
        const struct param *p = &c->params.list[i];
        size_t width = p->n_dims == 1 ? p->shape[0] : p->shape[1];
        widest = width > widest ? width : widest;
    }
    if (rc)
        return rc;
    c->parts = calloc(2 * n, sizeof *c->parts);
    c->out = calloc(2 * n + 1, sizeof *c->out);
    c->row = malloc(widest * sizeof *c->row);
    c->codes = malloc(widest + GROUP);
    c->row_scales = malloc((widest / GROUP + 1) * sizeof *c->row_scales);
    if (!c->parts || !c->out || !c->row || !c->codes || !c->row_scales)
        return err_set(err, ERR_MEMORY, "no memory to list %zu tensors", n);
    for (int i = 0; i < c->params.n && !rc; i++)
        rc = add(c, i, err);
    return rc ? rc : add_draft_ids(c, err);
}

static int convert(struct convert *c, const char *from, const char *trunk, const char *to,
                   struct err *err)
{
    char *out = file_join(to, "model.safetensors");
    int rc =
        out ? prepare(c, from, trunk, err) : err_set(err, ERR_MEMORY, "%s: no memory left", to);
    if (!rc && mkdir(to, 0777) && errno != EEXIST)
        rc = err_set(err, ERR_IO, "%s could not be made: %s", to, strerror(errno));
    c->talks = isatty(STDERR_FILENO);
    if (!rc)
        rc = safetensors_write(out, c->out, c->n_out, "{\"format\":\"headway\"}", err);
    if (!rc && !trunk)
        rc = source_copy_text(&c->in, to, err);
    if (!rc)
        rc = config_write(&c->in.config, to, err);
    free(out);
    return rc;
}

static int to_eagle3(const char *from, const char *trunk, const char *to, struct err *err)
{
    struct source heads, model;
    if (!trunk)
        return err_set(err, ERR_INVALID, "--to eagle3 needs --trunk, the model of the heads");
    int rc = source_open(&model, trunk, err);
    if (rc)
        return rc;
    if (!(rc = source_open_heads(&heads, from, err))) {
        rc = convert_eagle3(&heads, &model, to, err);
        source_release(&heads);
    }
    source_release(&model);
    return rc;
}

static void convert_release(struct convert *c)
{
    free(c->parts);
    free(c->out);
    free(c->row);
    free(c->codes);
    free(c->row_scales);
    params_release(&c->params);
    source_release(&c->in);
}

/* Whether both name the same place, so that the input would be written over. */
static bool same_place(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int main(int argc, char **argv)
{
    static struct convert c;
    struct err err;
    const char *paths[2], *name = "stored", *trunk = NULL, *to = "headway";
    int n = 0;
    const struct opt table[] = {
        {"type", OPT_CHOICE, &name, 0, 0, WEIGHT_TYPE_NAMES, "of the matrices"},
        {"trunk", OPT_STRING, &trunk, 0, 0, 0, "model that EAGLE-3's heads in IN were trained for"},
        {"to", OPT_CHOICE, &to, 0, 0, "headway|eagle3", "layout of OUT"},
        {0}};
    int rc = opts_parse(table, about, argc, argv, paths, 2, &n, &err);
    if (rc > 0)
        return 0;
    if (!rc && n != 2)
        rc = err_set(&err, ERR_INVALID, "a model and the folder to write it to are needed");
    if (!rc && same_place(paths[0], paths[1]))
        rc = err_set(&err, ERR_INVALID, "IN and OUT are the same folder: name another one");
    if (!rc)
        rc = weight_type_parse(name, &c.type, &err);
    if (!rc && !strcmp(to, "eagle3"))
        rc = to_eagle3(paths[0], trunk, paths[1], &err);
    else if (!rc)
        rc = convert(&c, paths[0], trunk, paths[1], &err);
    convert_release(&c);
    if (rc)
        fprintf(stderr, "headway-convert: %s\n", err.text);
    return rc ? 1 : 0;
}
