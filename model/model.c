/* Binding a model's tensors, the trunk, and the unembedding. */
#include "model/model.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/bf16.h"

static int rope_init(struct model *m, int positions, struct err *err)
{
    int k = m->config.head_dim;
    size_t n = (size_t)positions * (size_t)k * sizeof(float);
    m->positions = positions;
    m->rope_cos = mem_alloc(n);
    m->rope_sin = mem_alloc(n);
    if (!m->rope_cos || !m->rope_sin)
        return err_set(err, ERR_MEMORY, "no memory for %d rotary positions", positions);
    for (int p = 0; p < positions; p++)
        for (int i = 0; i < k; i += 2) {
            double angle = p * pow(m->config.rope_theta, -(double)i / k);
            size_t at = (size_t)p * (size_t)k + (size_t)i;
            m->rope_cos[at] = m->rope_cos[at + 1] = (float)cos(angle);
            m->rope_sin[at] = (float)-sin(angle);
            m->rope_sin[at + 1] = (float)sin(angle);
        }
    return 0;
}

/* ---- over a flat array: the trainer ---- */

static struct linear over(const struct params *p, int first, int n, float *values, float *grads)
{
    const struct param *t = &p->list[first];
    struct linear l = {.inputs = (int)t->shape[1]};
    for (int i = 0; i < n; i++)
        l.outputs += (int)p->list[first + i].shape[0];
    l.dense = values + t->offset;
    l.dense_grad = grads ? grads + t->offset : NULL;
    return l;
}

static int allocate(struct model *m, const struct config *config, struct err *err)
{
    memset(m, 0, sizeof *m);
    m->config = *config;
    int rc = params_init(&m->params, config, err);
    if (rc)
        return rc;
    m->n_blocks = m->params.n_blocks;
    m->blocks = calloc((size_t)m->n_blocks + 1, sizeof *m->blocks);
    if (m->params.head_linear >= 0)
        m->head_linear = calloc((size_t)config->n_predict, sizeof *m->head_linear);
    if (!m->blocks || (m->params.head_linear >= 0 && !m->head_linear))
        return err_set(err, ERR_MEMORY, "no memory for %d layers", m->n_blocks);
    return 0;
}

int model_over(struct model *m, const struct config *config, float *values, float *grads,
               struct err *err)
{
    int rc = allocate(m, config, err);
    if (!rc)
        rc = rope_init(m, config->context, err);
    if (rc) {
        model_release(m);
        return rc;
    }
    const struct params *p = &m->params;
    for (int i = 0; i < m->n_blocks; i++) {
        int t = p->blocks + i * BLOCK_PARAMS;
        m->blocks[i] = (struct block){
            .attn_norm = values + p->list[t + BLOCK_ATTN_NORM].offset,
            .ffn_norm = values + p->list[t + BLOCK_FFN_NORM].offset,
            .wqkv = over(p, t + BLOCK_WQ, 3, values, grads),
            .wo = over(p, t + BLOCK_WO, 1, values, grads),
            .w13 = over(p, t + BLOCK_W1, 2, values, grads),
            .w2 = over(p, t + BLOCK_W2, 1, values, grads),
        };
    }
    if (m->head_linear)
        for (int i = 0; i < config->n_predict; i++)
            m->head_linear[i] = over(p, p->head_linear + i, 1, values, grads);
    m->embed = values + p->list[p->embed].offset;
    m->embed_type = DTYPE_F32;
    m->norm = values + p->list[p->norm].offset;
    if (head_kind_tensors(config->kind) != HEAD_UNEMBEDDING)
        m->output = over(p, config->tied ? p->embed : p->output, 1, values, grads);
    return 0;
}

/* ---- from a file: serving ---- */

/* Looks n consecutive tensors of the list up and packs them into one matrix. */
static int pack(struct model *m, int first, int n, bool gated, struct linear *linear,
                struct err *err)
{
    struct matrix matrices[3];
    for (int i = 0; i < n; i++) {
        const struct param *t = &m->params.list[first + i];
        int rc = matrix_find(&m->file, t->name, t->n_dims, t->shape, &matrices[i], err);
        if (rc)
            return rc;
    }
    bool stored = m->weights == WEIGHT_STORED;
    enum weight_type type = stored ? matrices[0].type : (enum weight_type)m->weights;
    return gated ? linear_pack_gated(linear, type, matrices, err)
                 : linear_pack(linear, type, matrices, n, err);
}

/* Copies a norm weight to the next free place of m->norm_weights. */
static int norm_weight(struct model *m, int index, float **next, const float **out, struct err *err)
{
    const struct param *p = &m->params.list[index];
    struct matrix matrix;
    int rc = matrix_find(&m->file, p->name, p->n_dims, p->shape, &matrix, err);
    if (rc)
        return rc;
    matrix_row(&matrix, 0, *next);
    *out = *next;
    *next += p->count;
    return 0;
}

static int load_block(struct model *m, int i, float **norm_weights, struct err *err)
{
    struct block *b = &m->blocks[i];
    int t = m->params.blocks + i * BLOCK_PARAMS, rc;
    if ((rc = norm_weight(m, t + BLOCK_ATTN_NORM, norm_weights, &b->attn_norm, err)) ||
        (rc = norm_weight(m, t + BLOCK_FFN_NORM, norm_weights, &b->ffn_norm, err)) ||
        (rc = pack(m, t + BLOCK_WQ, 3, false, &b->wqkv, err)) ||
        (rc = pack(m, t + BLOCK_WO, 1, false, &b->wo, err)) ||
        (rc = pack(m, t + BLOCK_W1, 2, true, &b->w13, err)) ||
        (rc = pack(m, t + BLOCK_W2, 1, false, &b->w2, err)))
        return rc;
    return 0;
}

static int load(struct model *m, struct err *err)
{
    const struct config *c = &m->config;
    const struct params *p = &m->params;
    const struct tensor *embed;
    int rc =
        safetensors_get(&m->file, p->list[p->embed].name, 2, p->list[p->embed].shape, &embed, err);
    if (rc)
        return rc;
    m->embed = embed->data;
    m->embed_type = embed->dtype;
    m->norm_weights = mem_alloc(((size_t)m->n_blocks * 2 + 1) * (size_t)c->dim * sizeof(float));
    if (!m->norm_weights)
        return err_set(err, ERR_MEMORY, "no memory for the norms");
    float *next = m->norm_weights;
    for (int i = 0; i < m->n_blocks && !rc; i++)
        rc = load_block(m, i, &next, err);
    for (int i = 0; m->head_linear && i < c->n_predict && !rc; i++)
        rc = pack(m, p->head_linear + i, 1, false, &m->head_linear[i], err);
    if (!rc)
        rc = norm_weight(m, p->norm, &next, &m->norm, err);
    if (!rc && head_kind_tensors(c->kind) != HEAD_UNEMBEDDING)
        rc = pack(m, c->tied ? p->embed : p->output, 1, false, &m->output, err);
    return rc;
}

int model_open(struct model *m, const char *folder, int weights, int positions, struct err *err)
{
    struct config config;
    char path[4096];
    memset(m, 0, sizeof *m);
    int rc = config_read(&config, folder, err);
    if (rc)
        return rc;
    rc = allocate(m, &config, err);
    m->weights = weights;
    if (!rc)
        rc = rope_init(m, positions > 0 ? positions : config.context, err);
    if (!rc && (size_t)snprintf(path, sizeof path, "%s/model.safetensors", folder) >= sizeof path)
        rc = err_set(err, ERR_INVALID, "the path of the model folder is longer than %zu bytes",
                     sizeof path);
    if (!rc)
        rc = safetensors_open(&m->file, path, err);
    if (!rc)
        rc = load(m, err);
    if (rc)
        model_release(m);
    return rc;
}

/* ---- random: headway-bench ---- */

static int random_block(struct model *m, int i, enum weight_type type, uint64_t seed,
                        struct err *err)
{
    const struct config *c = &m->config;
    struct block *b = &m->blocks[i];
    int rc, qkv = (c->n_heads + 2 * c->n_kv_heads) * c->head_dim;
    uint64_t at = seed + 4 * (uint64_t)i;
    b->attn_norm = b->ffn_norm = m->norm;
    if ((rc = linear_random(&b->wqkv, type, qkv, c->dim, at, err)) ||
        (rc = linear_random(&b->wo, type, c->dim, c->dim, at + 1, err)) ||
        (rc = linear_random(&b->w13, type, 2 * c->hidden, c->dim, at + 2, err)) ||
        (rc = linear_random(&b->w2, type, c->dim, c->hidden, at + 3, err)))
        return rc;
    return 0;
}

static int random_weights(struct model *m, enum weight_type type, uint64_t seed, struct err *err)
{
    const struct config *c = &m->config;
    bool own = head_kind_tensors(c->kind) == HEAD_UNEMBEDDING;
    int rc = 0;
    m->norm_weights = mem_alloc((size_t)c->dim * sizeof(float));
    if (!m->norm_weights)
        return err_set(err, ERR_MEMORY, "no memory for the norms");
    for (int i = 0; i < c->dim; i++)
        m->norm_weights[i] = 1;
    m->norm = m->norm_weights;
    for (int i = 0; i < m->n_blocks && !rc; i++)
        rc = random_block(m, i, type, seed, err);
    seed += 4 * (uint64_t)m->n_blocks;
    for (int i = 0; m->head_linear && i < c->n_predict && !rc; i++)
        rc = linear_random(&m->head_linear[i], type, own ? c->vocab : c->dim, c->dim, seed++, err);
    if (!rc && !own)
        rc = linear_random(&m->output, type, c->vocab, c->dim, seed++, err);
    if (!rc)
        rc = linear_random(&m->random_embed, WEIGHT_BF16, c->vocab, c->dim, seed, err);
    m->embed = m->random_embed.packed;
    m->embed_type = DTYPE_BF16;
    return rc;
}

/* The system gives more memory than it has and ends the program when it is used: ask before. */
static int check_memory(const struct model *m, enum weight_type type, struct err *err)
{
    size_t dim = (size_t)m->config.dim, vocab = (size_t)m->config.vocab;
    struct linear all = {
        .type = type, .inputs = m->config.dim, .outputs = (int)(m->params.count / dim - vocab)};
    size_t needed = linear_bytes(&all) + vocab * dim * 2, left = mem_available();
    if (needed < left - left / 16)
        return 0;
    return err_set(err, ERR_MEMORY,
                   "%zu parameters in %s take %.1f GiB, but only %.1f GiB of memory are left: use "
                   "a smaller type or shape",
                   m->params.count, weight_type_name(type), (double)needed * 0x1p-30,
                   (double)left * 0x1p-30);
}

int model_random(struct model *m, const struct config *config, enum weight_type type, int positions,
                 uint64_t seed, struct err *err)
{
    int rc = allocate(m, config, err);
    m->weights = (int)type;
    if (!rc)
        rc = check_memory(m, type, err);
    if (!rc)
        rc = rope_init(m, positions, err);
    if (!rc)
        rc = random_weights(m, type, seed, err);
    if (rc)
        model_release(m);
    return rc;
}

void model_release(struct model *m)
{
    for (int i = 0; m->blocks && i < m->n_blocks; i++) {
        linear_release(&m->blocks[i].wqkv);
        linear_release(&m->blocks[i].wo);
        linear_release(&m->blocks[i].w13);
        linear_release(&m->blocks[i].w2);
    }
    for (int i = 0; m->head_linear && i < m->config.n_predict; i++)
        linear_release(&m->head_linear[i]);
    linear_release(&m->output);
    linear_release(&m->draft_output);
    free(m->draft_ids);
    linear_release(&m->random_embed);
    free(m->blocks);
    free(m->head_linear);
    free(m->norm_weights);
    free(m->rope_cos);
    free(m->rope_sin);
    params_release(&m->params);
    safetensors_release(&m->file);
    memset(m, 0, sizeof *m);
}

/* ---- passes ---- */

void model_embed(struct lane *lane, const struct model *m, const int32_t *tokens, int rows,
                 float *x)
{
    size_t dim = (size_t)m->config.dim;
    int begin, end;
    lane_share(lane, rows, 1, &begin, &end);
    for (int r = begin; r < end; r++) {
        assert(tokens[r] >= 0 && tokens[r] < m->config.vocab);
        size_t at = (size_t)tokens[r] * dim;
        float *to = x + (size_t)r * dim;
        if (m->embed_type == DTYPE_F32) {
            memcpy(to, (const char *)m->embed + at * 4, dim * 4);
            continue;
        }
        for (size_t i = 0; i < dim; i++) {
            uint16_t bits;
            memcpy(&bits, (const char *)m->embed + (at + i) * 2, 2);
            to[i] = bf16_to_float(bits);
        }
    }
    lane_barrier(lane);
}

void trunk_forward(struct lane *lane, const struct pass *pass, struct block_acts *acts,
                   const int32_t *tokens, float *z)
{
    model_embed(lane, pass->model, tokens, pass->n, z);
    for (int l = 0; l < pass->model->config.n_layers; l++)
        block_forward(lane, pass, l, acts, z, NULL, 0, z);
}

size_t model_lane_bytes(const struct model *m)
{
    const struct config *c = &m->config;
    int widest = c->hidden > c->dim ? c->hidden : c->dim;
    size_t product = LANE_ROWS * (size_t)c->dim * sizeof(float) + linear_scratch_bytes(widest);
    size_t tail = 2 * ATTENTION_CHUNK * sizeof(float) *
                  ((size_t)c->head_dim + attention_value_stride(c->head_dim));
    return product > tail ? product : tail;
}

size_t model_logits_stride(const struct model *m)
{
    return ((size_t)m->config.vocab + PANEL - 1) / PANEL * PANEL;
}

void model_logits(struct lane *lane, const struct model *m, int head, int n, const float *h,
                  int rows, float *normed, float *logits)
{
    size_t dim = (size_t)m->config.dim, stride = model_logits_stride(m), each = (size_t)rows;
    rows_norm(lane, &m->config, h, m->norm, n * rows, normed, NULL);
    lane_barrier(lane);
    if (head_kind_tensors(m->config.kind) != HEAD_UNEMBEDDING) {
        const struct linear *output = head > 0 && m->draft_ids ? &m->draft_output : &m->output;
        linear_forward(lane, output, normed, dim, n * rows, NULL, logits, stride);
    } else {
        for (size_t i = 0; i < (size_t)n; i++)
            linear_forward(lane, &m->head_linear[(size_t)head + i], normed + i * each * dim, dim,
                           rows, NULL, logits + i * each * stride, stride);
    }
    lane_barrier(lane);
}

int model_draft_vocabulary(struct model *m, const int32_t *ids, int n, struct err *err)
{
    const struct param *p = &m->params.list[m->config.tied ? m->params.embed : m->params.output];
    struct matrix all, some;
    if (head_kind_tensors(m->config.kind) == HEAD_UNEMBEDDING)
        return err_set(err, ERR_INVALID,
                       "heads of kind %s have unembeddings of their own and no draft vocabulary",
                       head_kind_name(m->config.kind));
    for (int i = 0; i < n; i++)
        if (ids[i] < (i ? ids[i - 1] + 1 : 0) || ids[i] >= m->config.vocab)
            return err_set(err, ERR_INVALID,
                           "token %d of the draft vocabulary is %d, but tokens must rise from 0 to "
                           "at most %d",
                           i, ids[i], m->config.vocab - 1);
    int rc = matrix_find(&m->file, p->name, p->n_dims, p->shape, &all, err);
    if (rc)
        return rc;
    m->draft_ids = malloc((size_t)n * sizeof *ids);
    float *rows = malloc((size_t)n * all.inputs * sizeof *rows);
    if (!m->draft_ids || !rows)
        rc = err_set(err, ERR_MEMORY, "no memory for a draft vocabulary of %d tokens", n);
    for (int i = 0; i < n && !rc; i++) {
        matrix_row(&all, (size_t)ids[i], rows + (size_t)i * all.inputs);
        m->draft_ids[i] = ids[i];
    }
    struct tensor tensor = {.dtype = DTYPE_F32, .data = rows};
    some = (struct matrix){
        .data = &tensor, .type = WEIGHT_F32, .rows = (size_t)n, .inputs = all.inputs};
    m->n_draft_ids = n;
    if (!rc)
        rc = linear_pack(&m->draft_output, m->output.type, &some, 1, err);
    free(rows);
    return rc;
}
