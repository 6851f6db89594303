/* The one place where a model's tensors are listed. */
#include "model/params.h"

#include <stdlib.h>
#include <string.h>

int config_head_blocks(const struct config *config)
{
    enum head_tensors tensors = head_kind_tensors(config->kind);
    return tensors == HEAD_LAYERS || tensors == HEAD_SHARED ? config->head_layers : 0;
}

/* Adds a tensor; in the counting pass (list NULL) only counts. cols 1: a vector. Returns its index.
 */
static int add(struct params *p, struct place place, int rows, int cols)
{
    int index = p->n++;
    size_t count = (size_t)rows * (size_t)cols;
    if (p->list) {
        struct param *t = &p->list[index];
        t->place = place;
        place_name(&place, t->name, sizeof t->name);
        t->n_dims = cols == 1 ? 1 : 2;
        t->shape[0] = (size_t)rows;
        t->shape[1] = (size_t)cols;
        t->count = count;
        t->offset = p->total;
    }
    p->count += count;
    p->total += (count + 15) & ~(size_t)15;
    return index;
}

static void add_block(struct params *p, const struct config *c, int head, int layer)
{
    int queries = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    int inputs = head >= 0 && c->joined_attention ? 2 * c->dim : c->dim;
    int hidden = head >= 0 && c->head_hidden ? c->head_hidden : c->hidden;
    struct place at = {ROLE_ATTN_NORM, head, layer};
#define ADD(which, rows, cols) at.role = which, add(p, at, rows, cols)
    ADD(ROLE_ATTN_NORM, c->dim, 1);
    ADD(ROLE_WQ, queries, inputs);
    ADD(ROLE_WK, kv, inputs);
    ADD(ROLE_WV, kv, inputs);
    ADD(ROLE_WO, c->dim, queries);
    ADD(ROLE_FFN_NORM, c->dim, 1);
    ADD(ROLE_W1, hidden, c->dim);
    ADD(ROLE_W3, hidden, c->dim);
    ADD(ROLE_W2, c->dim, hidden);
    if (c->qkv_bias) {
        ADD(ROLE_BQ, queries, 1);
        ADD(ROLE_BK, kv, 1);
        ADD(ROLE_BV, kv, 1);
    }
    if (c->qk_norm) {
        ADD(ROLE_Q_NORM, c->head_dim, 1);
        ADD(ROLE_K_NORM, c->head_dim, 1);
    }
#undef ADD
}

static void list_all(struct params *p, const struct config *c)
{
    enum head_tensors tensors = head_kind_tensors(c->kind);
    int first_head = config_first_head(c);
    p->n = 0;
    p->total = p->count = 0;
    p->per_block = BLOCK_PARAMS + (c->qkv_bias ? 3 : 0) + (c->qk_norm ? 2 : 0);
    p->biases = c->qkv_bias ? BLOCK_PARAMS : -1;
    p->head_norms = c->qk_norm ? p->per_block - 2 : -1;
    p->embed = c->trunk ? -1 : add(p, (struct place){ROLE_EMBED, -1, 0}, c->vocab, c->dim);
    p->blocks = p->n;
    for (int l = 0; l < c->n_layers; l++)
        add_block(p, c, -1, l);
    if (c->prefix_layer)
        add_block(p, c, 0, 0);
    bool shared = tensors == HEAD_SHARED && first_head < c->n_predict;
    for (int i = first_head; i < (shared ? first_head + 1 : c->n_predict); i++)
        for (int j = 0; j < config_head_blocks(c); j++)
            add_block(p, c, i, j);
    p->n_blocks = (p->n - p->blocks) / p->per_block;
    p->head_linear = -1;
    p->shared = -1;
    p->fuse = config_fused_states(c) ? add(p, (struct place){ROLE_HEAD_FUSE, 1, 0}, c->dim,
                                           config_fused_states(c) * c->dim)
                                     : -1;
    p->bigram = c->bigram ? add(p, (struct place){ROLE_HEAD_BIGRAM, 1, 0}, c->dim, c->dim) : -1;
    p->draft_output = c->draft_output
                          ? add(p, (struct place){ROLE_HEAD_OUTPUT, 1, 0}, c->draft_output, c->dim)
                          : -1;
    if (shared) {
        p->shared = add(p, (struct place){ROLE_HEAD_STATE_NORM, 1, 0}, c->dim, 1);
        if (!c->joined_attention) {
            add(p, (struct place){ROLE_HEAD_TOKEN_NORM, 1, 0}, c->dim, 1);
            add(p, (struct place){ROLE_HEAD_PROJECT, 1, 0}, c->dim, 2 * c->dim);
        }
    }
    bool own = tensors == HEAD_MATRIX || tensors == HEAD_UNEMBEDDING;
    for (int i = first_head; i < c->n_predict && own; i++) {
        enum role role = tensors == HEAD_MATRIX ? ROLE_HEAD_LINEAR : ROLE_HEAD_OUTPUT;
        int at =
            add(p, (struct place){role, i, 0}, tensors == HEAD_MATRIX ? c->dim : c->vocab, c->dim);
        if (i == first_head)
            p->head_linear = at;
    }
    p->head_first_norm = -1;
    int norms = shared ? first_head + 1 : c->n_predict;
    for (int i = first_head; i < norms && c->head_norms; i++) {
        int at = add(p, (struct place){ROLE_HEAD_NORM, i, 0}, c->dim, 1);
        p->head_first_norm = i == first_head ? at : p->head_first_norm;
    }
    p->norm = c->trunk || (c->head_norms && !first_head)
                  ? -1
                  : add(p, (struct place){ROLE_NORM, -1, 0}, c->dim, 1);
    p->output = c->trunk || c->tied || (tensors == HEAD_UNEMBEDDING && !c->next_is_trunk)
                    ? -1
                    : add(p, (struct place){ROLE_OUTPUT, -1, 0}, c->vocab, c->dim);
    p->rope_factors =
        c->rope_factors ? add(p, (struct place){ROLE_ROPE_FACTORS, -1, 0}, c->head_dim / 2, 1) : -1;
}

int params_init(struct params *params, const struct config *config, struct err *err)
{
    memset(params, 0, sizeof *params);
    list_all(params, config);
    params->list = calloc((size_t)params->n, sizeof *params->list);
    if (!params->list)
        return err_set(err, ERR_MEMORY, "no memory for a list of %d tensors", params->n);
    list_all(params, config);
    return 0;
}

void params_release(struct params *params)
{
    free(params->list);
    memset(params, 0, sizeof *params);
}
