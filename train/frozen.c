/* See frozen.h. */
#include "train/frozen.h"

#include <stdlib.h>
#include <string.h>

#include "model/trunk_hash.h"

int frozen_config(struct config *c, const struct model *trunk, enum head_kind kind, int n_predict,
                  int layers, int context, struct err *err)
{
    const struct config *own = &trunk->config;
    const char *path = trunk->source.path;
    *c = *own;
    c->n_layers = 0;
    c->tied = c->qkv_bias = c->qk_norm = c->rope_factors = c->head_norms = false;
    c->next_is_trunk = true;
    c->kind = kind;
    c->n_predict = n_predict;
    c->head_layers = head_kind_tensors(kind) == HEAD_MATRIX ? 0 : layers;
    c->context = context;
    if (head_kind_tensors(kind) == HEAD_UNEMBEDDING || kind == HEAD_ANTICAUSAL)
        return err_set(err, ERR_INVALID,
                       "heads of kind %s cannot be had on a frozen trunk; parallel, causal, linear "
                       "and recurrent ones can",
                       head_kind_name(kind));
    if (!own->next_is_trunk)
        return err_set(
            err, ERR_INVALID,
            "%s has prediction heads of its own, the next token's among them: other heads "
            "cannot be put on it",
            path);
    if (context > own->context)
        return err_set(err, ERR_INVALID, "texts of %d tokens are more than the %d positions of %s",
                       context, own->context, path);
    int rc = trunk_hash(&trunk->source, &c->trunk, err);
    return rc ? rc : config_check(c, err);
}

/* The rows of the unembedding that drafts are chosen from, as floats. */
static int take_unembedding(struct frozen *f, const int32_t *ids, int n_ids, struct err *err)
{
    const struct model *m = f->trunk;
    const struct param *p = &m->params.list[m->config.tied ? m->params.embed : m->params.output];
    size_t dim = (size_t)m->config.dim, vocab = (size_t)m->config.vocab;
    size_t n = n_ids ? (size_t)n_ids : vocab;
    struct matrix matrix;
    int rc = source_find(&m->source, &p->place, p->n_dims, p->shape, &matrix, err);
    if (rc)
        return rc;
    f->unembedding = mem_alloc(n * dim * sizeof(float));
    f->ids = malloc(n * sizeof *f->ids);
    f->slot = malloc(vocab * sizeof *f->slot);
    if (!f->unembedding || !f->ids || !f->slot)
        return err_set(err, ERR_MEMORY, "no memory for the unembedding of %zu tokens", n);
    f->n_ids = (int)n;
    for (size_t i = 0; i < vocab; i++)
        f->slot[i] = -1;
    for (size_t i = 0; i < n; i++) {
        f->ids[i] = n_ids ? ids[i] : (int32_t)i;
        f->slot[f->ids[i]] = (int32_t)i;
        matrix_row(&matrix, (size_t)f->ids[i], f->unembedding + i * dim);
    }
    return 0;
}

static void take(struct frozen *f)
{
    f->rows = arena_take(&f->arena, FROZEN_ROWS, sizeof *f->rows);
    block_acts_take(&f->acts, &f->arena, &f->trunk->config, FROZEN_ROWS, false);
}

int frozen_init(struct frozen *f, const struct model *trunk, const int32_t *ids, int n_ids,
                int sequences, int context, struct team *team, struct err *err)
{
    memset(f, 0, sizeof *f);
    f->trunk = trunk;
    take(f);
    int rc = arena_init(&f->arena, err);
    if (rc)
        return rc;
    take(f);
    if ((rc = take_unembedding(f, ids, n_ids, err)) ||
        (rc = kv_pool_init(&f->pool, &trunk->config, trunk->n_blocks, sequences * kv_pages(context),
                           WEIGHT_BF16, err)) ||
        (rc = team_reserve(team, model_lane_bytes(trunk), err)))
        return rc;
    f->kv = calloc((size_t)sequences, sizeof *f->kv);
    if (!f->kv)
        return err_set(err, ERR_MEMORY, "no memory for %d sequences", sequences);
    for (; f->sequences < sequences && !rc; f->sequences++)
        rc = kv_init(&f->kv[f->sequences], &f->pool, context, err);
    return rc;
}

void frozen_release(struct frozen *f)
{
    for (int i = 0; i < f->sequences; i++)
        kv_release(&f->kv[i]);
    free(f->kv);
    kv_pool_release(&f->pool);
    arena_release(&f->arena);
    free(f->unembedding);
    free(f->ids);
    free(f->slot);
    memset(f, 0, sizeof *f);
}

void frozen_begin(struct frozen *f, const int *first, int sequences)
{
    for (int i = 0; i < f->sequences; i++)
        kv_truncate(&f->kv[i], 0);
    for (int i = 0; i < sequences; i++)
        kv_reserve(&f->kv[i], first[i + 1] - first[i]);
}

void frozen_forward(struct lane *lane, struct frozen *f, const int *first, int sequences,
                    const int32_t *tokens, float *z, const struct aux_states *aux)
{
    size_t dim = (size_t)f->trunk->config.dim;
    int all = first[sequences], q = 0;
    for (int at = 0; at < all; at += FROZEN_ROWS) {
        int n = all - at < FROZEN_ROWS ? all - at : FROZEN_ROWS;
        struct pass pass = {f->trunk, f->rows, n, attend_cached, NULL, NULL};
        for (int r = at; r < at + n; r++) {
            while (r >= first[q + 1])
                q++;
            if (lane->id == 0)
                f->rows[r - at] = row_in_place(&f->kv[q], r - first[q]);
        }
        struct aux_states part = aux ? *aux : (struct aux_states){0};
        for (int i = 0; i < part.n; i++)
            part.state[i] += (size_t)at * dim;
        lane_barrier(lane);
        trunk_forward(lane, &pass, &f->acts, tokens + at, z + (size_t)at * dim, &part);
    }
}
