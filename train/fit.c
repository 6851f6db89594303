/* Ridge regression of states further on: see fit.h. */
#include "train/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/frozen.h"

#define RIDGE 1e-3 /* of the mean diagonal */

/* Regressions of y_1..y_targets (D), the states so many positions further on, of the same x
 * (inputs), rows of a batch at a time. */
struct fit {
    struct trainer *t;
    int targets;
    int inputs;     /* D, or 2D: states and embeddings; or raw states */
    bool raw;       /* x is the trunk's states that heads fuse, as they are */
    bool fused;     /* x is what heads take for the state, when that is fitted already */
    int rows;       /* of the batch that have all y */
    float *x, *y;   /* y (targets, rows at most, D) */
    float *xx, *xy; /* (inputs, inputs), (targets, inputs, D), sums over rows */
};

/* ---- the sums ---- */

static void normalise(const float *from, size_t dim, float *to)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++)
        sum += (double)from[d] * from[d];
    float scale = (float)(1 / sqrt(sum / (double)dim + 1e-12));
    for (size_t d = 0; d < dim; d++)
        to[d] = from[d] * scale;
}

static void fill_row(struct fit *f, int r)
{
    const struct trainer *t = f->t;
    size_t dim = (size_t)t->model.config.dim, inputs = (size_t)f->inputs;
    size_t row = (size_t)f->rows++, most = (size_t)t->most_rows;
    float *x = f->x + row * inputs;
    for (int i = 0; f->raw && i < t->aux.n; i++)
        memcpy(x + (size_t)i * dim, t->aux.state[i] + (size_t)r * dim, dim * sizeof *x);
    if (f->fused)
        memcpy(x, t->fused + (size_t)r * dim, dim * sizeof *x);
    else if (!f->raw)
        normalise(t->x[0] + (size_t)r * dim, dim, x);
    if (!f->raw && inputs > dim) {
        matrix_row(&t->model.embed, (size_t)t->tokens[r + 1], x + dim);
        normalise(x + dim, dim, x + dim);
    }
    for (size_t i = 0; i < (size_t)f->targets; i++)
        normalise(t->x[0] + ((size_t)r + i + 1) * dim, dim, f->y + (i * most + row) * dim);
}

static void fill(struct fit *f)
{
    const struct trainer *t = f->t;
    f->rows = 0;
    for (int b = 0; b < t->batch.sequences; b++)
        for (int r = t->first[b]; r + f->targets < t->first[b + 1]; r++)
            if (t->learned[r])
                fill_row(f, r);
}

/* The trunk's states, then the sums, whose rows the lanes share. */
static void sums_lane(struct lane *lane, void *arg)
{
    struct fit *f = arg;
    struct trainer *t = f->t;
    size_t dim = (size_t)t->model.config.dim, inputs = (size_t)f->inputs;
    size_t most = (size_t)t->most_rows;
    int begin, end;
    frozen_forward(lane, t->frozen, t->first, t->batch.sequences, t->tokens, t->x[0], &t->aux);
    if (f->fused)
        trainer_fuse(lane, t);
    if (lane->id == 0)
        fill(f);
    lane_barrier(lane);
    lane_share(lane, f->inputs, 16, &begin, &end);
    if (begin == end || !f->rows)
        return;
    gemm(lane, true, false, end - begin, f->inputs, f->rows, f->x + begin, inputs, f->x, inputs,
         true, f->xx + (size_t)begin * inputs, inputs);
    for (size_t i = 0; i < (size_t)f->targets; i++)
        gemm(lane, true, false, end - begin, (int)dim, f->rows, f->x + begin, inputs,
             f->y + i * most * dim, dim, true, f->xy + (i * inputs + (size_t)begin) * dim, dim);
}

/* ---- solving ---- */

/* a (n, n) = L L^T, L in its lower half. */
static int factor(double *a, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = a[i * n + j];
            for (size_t k = 0; k < j; k++)
                sum -= a[i * n + k] * a[j * n + k];
            if (i == j && !(sum > 0))
                return err_set(err, ERR_INVALID,
                               "the texts are too few to fit heads to: train without --fit");
            a[i * n + j] = i == j ? sqrt(sum) : sum / a[j * n + j];
        }
    return 0;
}

/* w (D, n) of L L^T w^T = xy (n, D), column by column. v: scratch (n). */
static void solve(const double *l, const float *xy, size_t n, size_t dim, double *v, float *w)
{
    for (size_t d = 0; d < dim; d++) {
        for (size_t i = 0; i < n; i++) {
            double sum = (double)xy[i * dim + d];
            for (size_t k = 0; k < i; k++)
                sum -= l[i * n + k] * v[k];
            v[i] = sum / l[i * n + i];
        }
        for (size_t i = n; i-- > 0;) {
            v[i] /= l[i * n + i];
            for (size_t k = 0; k < i; k++)
                v[k] -= l[i * n + k] * v[i];
        }
        for (size_t i = 0; i < n; i++)
            w[d * n + i] = (float)v[i];
    }
}

static int solve_all(const struct fit *f, float *const *w, struct err *err)
{
    size_t n = (size_t)f->inputs, dim = (size_t)f->t->model.config.dim;
    double *a = malloc(n * n * sizeof *a), *v = malloc(n * sizeof *v), mean = 0;
    int rc = a && v ? 0 : err_set(err, ERR_MEMORY, "no memory to fit heads");
    for (size_t i = 0; !rc && i < n; i++)
        mean += (double)f->xx[i * n + i] / (double)n;
    for (size_t i = 0; !rc && i < n * n; i++)
        a[i] = (double)f->xx[i] + (i % (n + 1) ? 0 : RIDGE * mean);
    if (!rc)
        rc = factor(a, n, err);
    for (int i = 0; !rc && i < f->targets; i++)
        solve(a, f->xy + (size_t)i * n * dim, n, dim, v, w[i]);
    free(a);
    free(v);
    return rc;
}

/* w[i] (D, inputs) so that w[i] x is near the state i + 1 positions further on. */
static int fit(struct trainer *t, int targets, bool fused, int inputs, const struct sample *samples,
               int n, float *const *w, struct err *err)
{
    size_t dim = (size_t)t->model.config.dim, x = (size_t)inputs, rows = (size_t)t->most_rows;
    size_t all = (size_t)targets;
    struct fit f = {.t = t,
                    .targets = targets,
                    .fused = fused,
                    .inputs = inputs,
                    .raw = t->model.config.fuse_raw};
    f.x = mem_alloc(rows * x * sizeof(float));
    f.y = mem_alloc(all * rows * dim * sizeof(float));
    f.xx = mem_alloc(x * x * sizeof(float));
    f.xy = mem_alloc(all * x * dim * sizeof(float));
    int rc = f.x && f.y && f.xx && f.xy ? 0 : err_set(err, ERR_MEMORY, "no memory to fit heads");
    for (int at = 0; !rc && at < n; at += t->sequences) {
        trainer_samples(t, samples + at, n - at < t->sequences ? n - at : t->sequences);
        team_run(t->team, sums_lane, &f);
    }
    if (!rc)
        rc = solve_all(&f, w, err);
    free(f.x);
    free(f.y);
    free(f.xx);
    free(f.xy);
    return rc;
}

/* What heads take for the trunk's output, where they know the token behind it: the output there. */
static int fit_next(struct trainer *t, const struct sample *samples, int n, struct err *err)
{
    const struct param *fuse = &t->model.params.list[t->model.params.fuse];
    size_t dim = (size_t)t->model.config.dim, width = fuse->shape[1];
    float *w = mem_alloc(2 * dim * dim * sizeof *w), *to = t->value + fuse->offset;
    int rc = w ? fit(t, 1, false, (int)(2 * dim), samples, n, &w, err)
               : err_set(err, ERR_MEMORY, "no memory to fit heads");
    for (size_t d = 0; !rc && d < dim; d++) {
        memset(to + d * width, 0, width * sizeof *to);
        memcpy(to + d * width, w + d * 2 * dim, dim * sizeof *to);
        memcpy(to + (d + 1) * width - dim, w + (d * 2 + 1) * dim, dim * sizeof *to);
    }
    free(w);
    return rc;
}

bool fit_possible(enum head_kind kind)
{
    return kind == HEAD_LINEAR || kind == HEAD_RECURRENT;
}

int fit_heads(struct trainer *t, const struct sample *samples, int n, struct err *err)
{
    const struct params *p = &t->model.params;
    const struct config *c = &t->model.config;
    float *w[HEADS_MAX] = {NULL};
    int heads = c->n_predict - 1, rc = 0;
    if (c->kind == HEAD_RECURRENT || c->prefix_layer) { /* a layer that adds nothing yet */
        int block = params_of_block(p, 0, 0);
        const int adds[] = {block + BLOCK_WO, block + BLOCK_W2};
        for (int i = 0; i < 2; i++)
            memset(t->value + p->list[adds[i]].offset, 0, p->list[adds[i]].count * sizeof(float));
    }
    if (c->fuse_raw) { /* no projection: the state itself is to be near the next one */
        w[0] = t->value + p->list[p->fuse].offset;
        return fit(t, 1, false, c->n_aux * c->dim, samples, n, w, err);
    }
    if (c->kind == HEAD_RECURRENT) {
        w[0] = t->value + p->list[p->shared + 2].offset;
        return fit(t, 1, false, 2 * c->dim, samples, n, w, err);
    }
    for (int i = 0; i < heads; i++)
        w[i] = t->value + p->list[p->head_linear + i].offset;
    if (c->fuse_next)
        rc = fit_next(t, samples, n, err);
    return rc ? rc : fit(t, heads, c->fuse_next, c->dim, samples, n, w, err);
}
