/* The one place where a model's tensors are listed. */
#include "model/params.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int config_head_blocks(const struct config *config)
{
    return head_kind_tensors(config->kind) == HEAD_LAYERS ? config->head_layers : 0;
}

/* Adds a tensor; in the counting pass (list NULL) only counts. Returns its index. */
static __attribute__((format(printf, 4, 5))) int add(struct params *p, int rows, int cols,
                                                     const char *name, ...)
{
    int index = p->n++;
    size_t count = (size_t)rows * (size_t)cols;
    if (p->list) {
        struct param *t = &p->list[index];
        va_list args;
        va_start(args, name);
        vsnprintf(t->name, sizeof t->name, name, args);
        va_end(args);
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

static void add_block(struct params *p, const struct config *c, const char *prefix)
{
    int kv = c->n_kv_heads * c->head_dim;
    add(p, c->dim, 1, "%s.attention_norm.weight", prefix);
    add(p, c->dim, c->dim, "%s.attention.wq.weight", prefix);
    add(p, kv, c->dim, "%s.attention.wk.weight", prefix);
    add(p, kv, c->dim, "%s.attention.wv.weight", prefix);
    add(p, c->dim, c->dim, "%s.attention.wo.weight", prefix);
    add(p, c->dim, 1, "%s.ffn_norm.weight", prefix);
    add(p, c->hidden, c->dim, "%s.feed_forward.w1.weight", prefix);
    add(p, c->hidden, c->dim, "%s.feed_forward.w3.weight", prefix);
    add(p, c->dim, c->hidden, "%s.feed_forward.w2.weight", prefix);
}

static void list_all(struct params *p, const struct config *c)
{
    char prefix[40];
    p->n = 0;
    p->total = p->count = 0;
    p->embed = add(p, c->vocab, c->dim, "tok_embeddings.weight");
    p->blocks = p->n;
    for (int l = 0; l < c->n_layers; l++) {
        snprintf(prefix, sizeof prefix, "layers.%d", l);
        add_block(p, c, prefix);
    }
    for (int i = 0; i < c->n_predict; i++)
        for (int j = 0; j < config_head_blocks(c); j++) {
            snprintf(prefix, sizeof prefix, "heads.%d.layers.%d", i, j);
            add_block(p, c, prefix);
        }
    p->n_blocks = c->n_layers + c->n_predict * config_head_blocks(c);
    p->head_linear = -1;
    enum head_tensors tensors = head_kind_tensors(c->kind);
    for (int i = 0; i < c->n_predict && tensors != HEAD_LAYERS; i++) {
        int at = tensors == HEAD_MATRIX ? add(p, c->dim, c->dim, "heads.%d.linear.weight", i)
                                        : add(p, c->vocab, c->dim, "heads.%d.output.weight", i);
        if (i == 0)
            p->head_linear = at;
    }
    p->norm = add(p, c->dim, 1, "norm.weight");
    p->output =
        c->tied || tensors == HEAD_UNEMBEDDING ? -1 : add(p, c->vocab, c->dim, "output.weight");
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
