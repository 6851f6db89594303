/* Checkpoints and the exported model. */
#include "train/checkpoint.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/frozen.h"
#include "weights/bf16.h"

#define NAME 80

static int path_of(char *path, size_t size, const char *folder, const char *file, struct err *err)
{
    if ((size_t)snprintf(path, size, "%s/%s", folder, file) < size)
        return 0;
    return err_set(err, ERR_INVALID, "--out is longer than %zu bytes", size);
}

int checkpoint_write(const struct trainer *t, const char *folder, int step, const char *settings,
                     struct err *err)
{
    static const char *const prefix[] = {"value", "m", "v"};
    const float *const source[] = {t->value, t->m, t->v};
    size_t n = (size_t)t->model.params.n, count = 3 * n + 2;
    char path[4096];
    int64_t done = step;
    struct tensor_out *out = calloc(count, sizeof *out);
    char(*names)[NAME] = calloc(count, NAME);
    int rc = !out || !names ? err_set(err, ERR_MEMORY, "no memory to list a checkpoint's tensors")
                            : path_of(path, sizeof path, folder, "checkpoint.safetensors", err);
    for (size_t a = 0; a < 3 && !rc; a++)
        for (size_t i = 0; i < n; i++) {
            const struct param *p = &t->model.params.list[i];
            struct tensor_out *o = &out[a * n + i];
            snprintf(names[a * n + i], NAME, "%s.%s", prefix[a], p->name);
            *o = (struct tensor_out){.name = names[a * n + i],
                                     .dtype = DTYPE_F32,
                                     .n_dims = p->n_dims,
                                     .shape = {p->shape[0], p->shape[1]},
                                     .data = source[a] + p->offset,
                                     .f32_source = 1};
        }
    if (!rc) {
        out[3 * n] = (struct tensor_out){
            .name = "step", .dtype = DTYPE_I64, .n_dims = 1, .shape = {1}, .data = &done};
        out[3 * n + 1] = (struct tensor_out){.name = "settings",
                                             .dtype = DTYPE_U8,
                                             .n_dims = 1,
                                             .shape = {strlen(settings)},
                                             .data = settings};
        rc = safetensors_write(path, out, count, NULL, err);
    }
    free(out);
    free(names);
    return rc;
}

static int word_length(const char *at, const char *end)
{
    int n = 0;
    while (at + n < end && at[n] != ' ')
        n++;
    return n;
}

/* Names the first word in which two settings differ; either may have more words. */
static int settings_differ(const char *was, size_t size, const char *now, struct err *err)
{
    const char *was_end = was + size, *now_end = now + strlen(now);
    int a, b;
    for (;;) {
        a = word_length(was, was_end);
        b = word_length(now, now_end);
        if (a != b || memcmp(was, now, (size_t)a) || (was == was_end && now == now_end))
            break;
        was += was + a < was_end ? a + 1 : a;
        now += now + b < now_end ? b + 1 : b;
    }
    return err_set(err, ERR_INVALID,
                   "--resume: the checkpoint was made with %.*s, this run says %.*s: give the same "
                   "options or another --out",
                   a ? a : 7, a ? was : "nothing", b ? b : 7, b ? now : "nothing");
}

static int read_floats(const struct safetensors *st, const char *prefix, const struct param *p,
                       float *to, struct err *err)
{
    char name[NAME];
    const struct tensor *tensor;
    snprintf(name, sizeof name, "%s%s", prefix, p->name);
    int rc = safetensors_get(st, name, p->n_dims, p->shape, &tensor, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < p->count; i++) {
        uint16_t bits;
        if (tensor->dtype == DTYPE_F32) {
            memcpy(to, tensor->data, p->count * sizeof(float));
            break;
        }
        memcpy(&bits, (const char *)tensor->data + 2 * i, 2);
        to[i] = bf16_to_float(bits);
    }
    return 0;
}

int checkpoint_read(struct trainer *t, const char *folder, int *step, const char *settings,
                    struct err *err)
{
    struct safetensors st;
    char path[4096];
    int64_t done;
    int rc = path_of(path, sizeof path, folder, "checkpoint.safetensors", err);
    if (rc || (rc = safetensors_open(&st, path, err)))
        return rc;
    const struct tensor *s = safetensors_find(&st, "settings"), *n = safetensors_find(&st, "step");
    if (!s || s->dtype != DTYPE_U8 || !n || n->dtype != DTYPE_I64 || n->size != sizeof done)
        rc = err_set(err, ERR_INVALID, "%s has no 'step' or no 'settings': it is not a checkpoint",
                     path);
    else if (s->size != strlen(settings) || memcmp(s->data, settings, s->size))
        rc = settings_differ(s->data, s->size, settings, err);
    for (int i = 0; i < t->model.params.n && !rc; i++) {
        const struct param *p = &t->model.params.list[i];
        if (!(rc = read_floats(&st, "value.", p, t->value + p->offset, err)) &&
            !(rc = read_floats(&st, "m.", p, t->m + p->offset, err)))
            rc = read_floats(&st, "v.", p, t->v + p->offset, err);
    }
    if (!rc) {
        memcpy(&done, n->data, sizeof done);
        if (done < 0 || done > INT_MAX)
            rc = err_set(err, ERR_INVALID, "%s: 'step' is %lld, but must lie between 0 and %d",
                         path, (long long)done, INT_MAX);
        else
            *step = (int)done;
    }
    safetensors_release(&st);
    return rc;
}

int checkpoint_export(const struct trainer *t, const char *folder, enum dtype type, struct err *err)
{
    size_t n = (size_t)t->model.params.n;
    const struct frozen *f = t->frozen;
    char path[4096];
    struct tensor_out *out = calloc(n + 1, sizeof *out);
    int rc = !out ? err_set(err, ERR_MEMORY, "no memory to list the model's tensors")
                  : path_of(path, sizeof path, folder, "model.safetensors", err);
    for (size_t i = 0; i < n && !rc; i++) {
        const struct param *p = &t->model.params.list[i];
        /* Gains are few and multiply everything: they stay whole. */
        enum dtype kept = p->n_dims == 1 ? DTYPE_F32 : type;
        out[i] = (struct tensor_out){.name = p->name,
                                     .dtype = kept,
                                     .n_dims = p->n_dims,
                                     .shape = {p->shape[0], p->shape[1]},
                                     .data = t->value + p->offset,
                                     .f32_source = 1};
    }
    if (f && f->n_ids < t->model.config.vocab)
        out[n++] = (struct tensor_out){.name = "draft_ids",
                                       .dtype = DTYPE_I32,
                                       .n_dims = 1,
                                       .shape = {(size_t)f->n_ids},
                                       .data = f->ids};
    if (!rc)
        rc = safetensors_write(path, out, n, "{\"format\":\"headway\"}", err);
    if (!rc)
        rc = config_write(&t->model.config, folder, err);
    free(out);
    return rc;
}

int checkpoint_import(struct trainer *t, const char *folder, struct err *err)
{
    struct safetensors st;
    char path[4096];
    int rc = path_of(path, sizeof path, folder, "model.safetensors", err);
    if (rc || (rc = safetensors_open(&st, path, err)))
        return rc;
    for (int i = 0; i < t->model.params.n && !rc; i++) {
        const struct param *p = &t->model.params.list[i];
        rc = read_floats(&st, "", p, t->value + p->offset, err);
    }
    safetensors_release(&st);
    return rc;
}

int checkpoint_draft_ids(const char *folder, int vocab, int32_t *ids, int *n, struct err *err)
{
    struct source source;
    const int32_t *found;
    int rc = source_open_heads(&source, folder, err);
    if (rc)
        return rc;
    rc = source_draft_ids(&source, &found, n, err);
    if (!rc && (rc = source_check_ids(found, *n, vocab, err)))
        err_prefix(err, rc, "%s", folder);
    if (!rc && *n)
        memcpy(ids, found, (size_t)*n * sizeof *ids);
    source_release(&source);
    return rc;
}

int checkpoint_import_heads(struct trainer *t, const char *folder, struct err *err)
{
    const struct config *c = &t->model.config;
    struct source source;
    int rc = source_open_heads(&source, folder, err);
    if (rc)
        return rc;
    if (source.config.trunk != c->trunk || source.config.kind != c->kind)
        rc = err_set(err, ERR_INVALID, "%s has %s heads for %s trunk, wanted are %s heads for this",
                     folder, head_kind_name(source.config.kind),
                     source.config.trunk == c->trunk ? "this" : "another", head_kind_name(c->kind));
    for (int i = 0; i < t->model.params.n && !rc; i++) {
        const struct param *p = &t->model.params.list[i];
        struct matrix matrix;
        rc = source_find(&source, &p->place, p->n_dims, p->shape, &matrix, err);
        for (size_t r = 0; !rc && r < matrix.rows; r++)
            matrix_row(&matrix, r, t->value + p->offset + r * matrix.inputs);
    }
    source_release(&source);
    return rc;
}
