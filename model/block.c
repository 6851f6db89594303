/* One transformer layer forward, for serving and training alike; attention over the cache. */
#include <assert.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#include "model/kv.h"
#include "model/model.h"

/* Of the next matrix, asked for while attention calculates: half of a small second-level cache. */
#define PREFETCH_BYTES ((size_t)512 << 10)

void block_acts_take(struct block_acts *acts, struct arena *arena, const struct config *c, int rows,
                     bool training)
{
    size_t n = (size_t)rows, dim = (size_t)c->dim, hidden = (size_t)config_widest_hidden(c);
    size_t qkv = (size_t)(c->n_heads + 2 * c->n_kv_heads) * (size_t)c->head_dim;
    acts->norm1 = arena_take(arena, n * dim, sizeof(float));
    acts->scale1 = arena_take(arena, n, sizeof(float));
    acts->qkv = arena_take(arena, n * qkv, sizeof(float));
    acts->lse = training ? arena_take(arena, n * (size_t)c->n_heads, sizeof(float)) : NULL;
    acts->att = arena_take(arena, n * (size_t)(c->n_heads * c->head_dim), sizeof(float));
    acts->mid = arena_take(arena, n * dim, sizeof(float));
    acts->norm2 = arena_take(arena, n * dim, sizeof(float));
    acts->scale2 = arena_take(arena, n, sizeof(float));
    acts->gate_up = training ? arena_take(arena, n * 2 * hidden, sizeof(float)) : NULL;
    acts->act = arena_take(arena, linear_act_bytes(rows, (int)hidden), 1);
}

void rows_norm(struct lane *lane, const struct config *config, const float *x,
               const float *norm_weight, int rows, float *y, float *scale)
{
    int begin, end;
    size_t dim = (size_t)config->dim;
    lane_share(lane, rows, 1, &begin, &end);
    for (int r = begin; r < end; r++) {
        float s = kernels.rmsnorm(x + (size_t)r * dim, norm_weight, config->dim, config->norm_eps,
                                  y + (size_t)r * dim);
        if (scale)
            scale[r] = s;
    }
}

void rows_gather(struct lane *lane, const struct config *config, const float *x,
                 const int *out_rows, int n, float *y)
{
    int begin, end;
    size_t dim = (size_t)config->dim;
    lane_share(lane, n, 1, &begin, &end);
    for (int i = begin; i < end; i++)
        memcpy(y + (size_t)i * dim, x + (size_t)(out_rows ? out_rows[i] : i) * dim,
               dim * sizeof(float));
}

static void rows_swiglu(struct lane *lane, int hidden, const float *gate_up, int rows, float *act)
{
    size_t width = (size_t)hidden;
    int begin, end;
    lane_share(lane, rows, 1, &begin, &end);
    for (int r = begin; r < end; r++) {
        const float *row = gate_up + (size_t)r * 2 * width;
        kernels.swiglu(row, row + width, hidden, act + (size_t)r * width);
    }
}

/* Rows that attend to the same memory stand together: those of a sequence that are in place, or a
 * path of rows that are not. Index behind the last of them among the output rows. */
static int attend_together(const struct pass *pass, const int *out_rows, int first, int n_out)
{
    int last = out_rows ? out_rows[first] : first, next = first + 1;
    for (; next < n_out; next++) {
        int r = out_rows ? out_rows[next] : next;
        const struct row *before = &pass->rows[last], *row = &pass->rows[r];
        bool in_place = row->slot == row->pos;
        if (row->kv != before->kv || in_place != (before->slot == before->pos) ||
            (!in_place && row->parent != last))
            break;
        last = r;
    }
    return next;
}

/* The cache of head g as row r sees it. When the end of its path is not in place, a copy is made,
 * as it would stand if it were: the same chunks, the same additions, the same bits. */
static struct attention_cache path_cache(const struct pass *pass, int r, int block, int g,
                                         char *scratch)
{
    const struct kv *kv = pass->rows[r].kv;
    struct attention_cache cache = {.pages = kv->pages,
                                    .head = kv_head(kv->pool, block, g),
                                    .values = kv->pool->values,
                                    .tail_chunk = INT_MAX,
                                    .tail = scratch,
                                    .tail_stride = kv->pool->head_bytes};
    int slots[2 * ATTENTION_CHUNK], last = pass->rows[r].pos, top = r;
    if (pass->rows[r].slot == last)
        return cache;
    while (pass->rows[top].parent >= 0)
        top = pass->rows[top].parent;
    cache.tail_chunk = pass->rows[top].pos / ATTENTION_CHUNK;
    int first = cache.tail_chunk * ATTENTION_CHUNK, n = last + 1 - first;
    assert(last - pass->rows[top].pos < PATH_MOST);
    for (int i = 0; i < n; i++)
        slots[i] = first + i;
    for (int a = r; a >= 0; a = pass->rows[a].parent)
        slots[pass->rows[a].pos - first] = pass->rows[a].slot;
    for (int i = 0; i < n; i += ATTENTION_CHUNK, scratch += cache.tail_stride)
        kv_copy_chunk(kv, block, g, slots + i, n - i < ATTENTION_CHUNK ? n - i : ATTENTION_CHUNK,
                      scratch);
    return cache;
}

/* The keys that are read after those of head g: the next head's, or the next sequence's. */
static const char *read_after(const struct pass *pass, const int *out_rows, int next, int n_out,
                              int block, int g)
{
    int row = next - 1;
    if (++g == pass->model->config.n_kv_heads) {
        row = next;
        g = 0;
    }
    if (row == n_out)
        return NULL;
    const struct kv *kv = pass->rows[out_rows ? out_rows[row] : row].kv;
    return kv->pages[0] + kv_head(kv->pool, block, g);
}

/* Queries are taken in the order of rows that attend together, key/value head, row, head: those
 * that read the same keys and values stand together, whichever row they are of. Lanes share them in
 * that order by the positions that they attend to, for sequences may be of any length. */
static void attend_rows(struct lane *lane, const struct pass *pass, int block,
                        struct block_acts *acts, const int *out_rows, int n_out)
{
    const struct config *c = &pass->model->config;
    int per_group = c->n_heads / c->n_kv_heads;
    size_t k = (size_t)c->head_dim, width = (size_t)c->n_heads * k;
    size_t stride = width + 2 * (size_t)c->n_kv_heads * k;
    float scale = 1.0f / sqrtf((float)c->head_dim);
    long all = 0, at = 0;
    struct prefetch prefetch =
        linear_prefetch(lane, &pass->model->blocks[block].wo, PREFETCH_BYTES);
    for (int i = 0; i < n_out; i++)
        all += (long)c->n_heads * (pass->rows[out_rows ? out_rows[i] : i].pos + 1);
    long begin = all * lane->id / lane->n, end = all * (lane->id + 1) / lane->n;
    for (int first = 0, next; first < n_out && at < end; first = next) {
        next = attend_together(pass, out_rows, first, n_out);
        int deepest = out_rows ? out_rows[next - 1] : next - 1;
        for (int g = 0; g < c->n_kv_heads; g++) {
            struct attention_query queries[ATTENTION_MOST];
            struct attention_cache cache = {0};
            int n = 0;
            for (int i = 0; i < (next - first) * per_group; i++) {
                int to = first + i / per_group, r = out_rows ? out_rows[to] : to;
                size_t head = (size_t)(g * per_group + i % per_group) * k;
                bool mine = at >= begin && at < end;
                at += pass->rows[r].pos + 1;
                if (mine && !cache.pages) {
                    cache = path_cache(pass, deepest, block, g, lane->scratch);
                    cache.next = read_after(pass, out_rows, next, n_out, block, g);
                }
                if (mine)
                    queries[n++] = (struct attention_query){acts->qkv + (size_t)r * stride + head,
                                                            acts->att + (size_t)to * width + head,
                                                            pass->rows[r].pos + 1};
                if (n == ATTENTION_MOST || (n && i + 1 == (next - first) * per_group)) {
                    kernels.attention[pass->rows[r].kv->pool->type](queries, n, &cache, c->head_dim,
                                                                    scale, &prefetch);
                    n = 0;
                }
            }
        }
    }
}

/* Heads begin..end-1 of a row's queries, keys and values get what some models add to them. */
static void adjust_heads(const struct config *c, const struct block *b, float *heads, int begin,
                         int end)
{
    int size = c->head_dim, queries = c->n_heads, keys = c->n_kv_heads;
    for (int i = begin * size; b->qkv_bias && i < end * size; i++)
        heads[i] += b->qkv_bias[i];
    for (int h = begin; b->q_norm && h < end && h < queries + keys; h++)
        kernels.rmsnorm(heads + h * size, h < queries ? b->q_norm : b->k_norm, size, c->norm_eps,
                        heads + h * size);
}

/* Lanes share the heads of queries, keys and values, each for all rows: neighbouring positions of a
 * cache share its lines. */
static void rotate_and_cache(struct lane *lane, const struct pass *pass, int block, float *qkv)
{
    const struct model *m = pass->model;
    const struct config *c = &m->config;
    int begin, end, queries = c->n_heads, keys = c->n_kv_heads;
    size_t size = (size_t)c->head_dim, stride = (size_t)(queries + 2 * keys) * size;
    lane_share(lane, queries + 2 * keys, 1, &begin, &end);
    for (int r = 0; r < pass->n; r++) {
        const struct row *row = &pass->rows[r];
        size_t at = (size_t)row->pos * size;
        float *heads = qkv + (size_t)r * stride;
        int rotated = end < queries + keys ? end : queries + keys;
        adjust_heads(c, &m->blocks[block], heads, begin, end);
        if (begin < rotated)
            kernels.rope(heads + (size_t)begin * size, m->rope_cos + at, m->rope_sin + at,
                         rotated - begin, c->head_dim);
        for (int h = begin > queries ? begin : queries; h < end; h++) {
            const float *head = heads + (size_t)h * size;
            if (h < queries + keys)
                kv_put_key(row->kv, block, h - queries, row->slot, head);
            else
                kv_put_value(row->kv, block, h - queries - keys, row->slot, head);
        }
    }
}

void attend_cached(struct lane *lane, const struct pass *pass, int block, struct block_acts *acts,
                   const int *out_rows, int n_out)
{
    rotate_and_cache(lane, pass, block, acts->qkv);
    lane_barrier(lane);
    attend_rows(lane, pass, block, acts, out_rows, n_out);
}

void attend_ahead(struct lane *lane, const struct pass *pass, int block, struct block_acts *acts,
                  const int *out_rows, int n_out)
{
    const struct model *m = pass->model;
    const struct config *c = &m->config;
    int begin, end, ahead = *(const int *)pass->attend_arg;
    size_t size = (size_t)c->head_dim;
    size_t stride = (size_t)(c->n_heads + 2 * c->n_kv_heads) * size;
    lane_share(lane, c->n_heads, 1, &begin, &end);
    for (int r = 0; r < pass->n && begin < end; r++) {
        int pos = pass->rows[r].pos + ahead;
        size_t at = (size_t)(pos < m->positions ? pos : m->positions - 1) * size;
        float *heads = acts->qkv + (size_t)r * stride;
        adjust_heads(c, &m->blocks[block], heads, begin, end);
        kernels.rope(heads + (size_t)begin * size, m->rope_cos + at, m->rope_sin + at, end - begin,
                     c->head_dim);
    }
    lane_barrier(lane);
    attend_rows(lane, pass, block, acts, out_rows, n_out);
}

/* Normalises rows for a product. Whoever needs them next does it: the trainer's lanes share rows in
 * the product too; few rows are normalised by every lane for itself, which is quicker than to meet,
 * in its scratch; many are shared. *normed comes as where they go and leaves as where they are.
 * Returns the lane for the product: `behind` is one with the rest of the scratch. */
static struct lane *normalise(struct lane *lane, const struct config *c, const float *x,
                              const float *norm_weight, int rows, bool dense, float **normed,
                              float *scale, struct lane *behind)
{
    size_t dim = (size_t)c->dim;
    if (!dense && rows <= LANE_ROWS && lane->n > 1) {
        *normed = lane->scratch;
        *behind = *lane;
        behind->scratch = *normed + LANE_ROWS * dim;
        for (int r = 0; r < rows; r++)
            kernels.rmsnorm(x + (size_t)r * dim, norm_weight, c->dim, c->norm_eps,
                            *normed + (size_t)r * dim);
        return behind;
    }
    rows_norm(lane, c, x, norm_weight, rows, *normed, scale);
    if (!dense)
        lane_barrier(lane);
    return lane;
}

/* y = mid + W2 swiglu(W13 norm(mid)) */
static void feed_forward(struct lane *lane, const struct config *c, const struct block *b,
                         struct block_acts *acts, int rows, float *y)
{
    struct lane behind, *product;
    size_t dim = (size_t)c->dim, hidden = (size_t)b->w2.inputs;
    float *normed = acts->norm2;
    product = normalise(lane, c, acts->mid, b->ffn_norm, rows, b->w13.dense, &normed, acts->scale2,
                        &behind);
    if (b->w13.dense) {
        linear_forward(product, &b->w13, normed, dim, rows, NULL, acts->gate_up, 2 * hidden);
        rows_swiglu(lane, b->w2.inputs, acts->gate_up, rows, acts->act);
        lane_barrier(lane);
        linear_forward(lane, &b->w2, acts->act, hidden, rows, acts->mid, y, dim);
    } else {
        linear_swiglu(product, &b->w13, normed, dim, rows, &b->w2, acts->act);
        lane_barrier(lane);
        linear_forward_act(lane, &b->w2, acts->act, rows, acts->mid, y, dim);
    }
    lane_barrier(lane);
}

/* The layer behind its first norm; product: the lane for what reads normed. */
static void behind_norm(struct lane *lane, struct lane *product, const struct pass *pass, int index,
                        struct block_acts *acts, const float *normed, const float *x,
                        const int *out_rows, int n_out, float *y)
{
    const struct config *c = &pass->model->config;
    const struct block *b = &pass->model->blocks[index];
    size_t dim = (size_t)c->dim;
    if (!out_rows)
        n_out = pass->n;

    linear_forward(product, &b->wqkv, normed, (size_t)b->wqkv.inputs, pass->n, NULL, acts->qkv,
                   (size_t)b->wqkv.outputs);
    lane_barrier(lane);
    pass->attend(lane, pass, index, acts, out_rows, n_out);
    lane_barrier(lane);
    if (n_out == 0)
        return;
    const float *residual = x;
    if (out_rows) {
        /* Outputs are shared by columns below, so every lane copies the residual's rows whole
         * before: gathered into mid, on which wo then adds in place. */
        rows_gather(lane, c, x, out_rows, n_out, acts->mid);
        lane_barrier(lane);
        residual = acts->mid;
    }
    linear_forward(lane, &b->wo, acts->att, (size_t)b->wo.inputs, n_out, residual, acts->mid, dim);
    lane_barrier(lane);
    feed_forward(lane, c, b, acts, n_out, y);
}

void block_forward(struct lane *lane, const struct pass *pass, int index, struct block_acts *acts,
                   const float *x, const int *out_rows, int n_out, float *y)
{
    const struct config *c = &pass->model->config;
    const struct block *b = &pass->model->blocks[index];
    struct lane behind, *product;
    float *normed = acts->norm1;
    product =
        normalise(lane, c, x, b->attn_norm, pass->n, b->wqkv.dense, &normed, acts->scale1, &behind);
    behind_norm(lane, product, pass, index, acts, normed, x, out_rows, n_out, y);
}

void block_forward_normed(struct lane *lane, const struct pass *pass, int index,
                          struct block_acts *acts, const float *normed, const float *x,
                          const int *out_rows, int n_out, float *y)
{
    behind_norm(lane, lane, pass, index, acts, normed, x, out_rows, n_out, y);
}
