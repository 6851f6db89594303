/* Binding a model's tensors, the trunk, and the unembedding. */
#include "model/model.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/trunk_hash.h"
#include "weights/bf16.h"

/* factors: what each pair's frequency is divided by, or NULL. */
static int rope_init(struct model *m, int positions, const float *factors, struct err *err)
{
    int k = m->config.head_dim;
    size_t n = (size_t)positions * (size_t)k * sizeof(float);
    m->positions = positions;
    m->rope_cos = region_take(&m->memory, n);
    m->rope_sin = region_take(&m->memory, n);
    if (!m->rope_cos || !m->rope_sin)
        return err_set(err, ERR_MEMORY, "no memory for %d rotary positions", positions);
    for (int p = 0; p < positions; p++)
        for (int i = 0; i < k; i += 2) {
            double angle = p * pow(m->config.rope_theta, -(double)i / k);
            if (factors)
                angle /= (double)factors[i / 2];
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
    bool unit = config_fused_states(config) || config->bigram;
    if (unit) {
        m->unit = malloc((size_t)config->dim * sizeof *m->unit);
        for (int d = 0; m->unit && d < config->dim; d++)
            m->unit[d] = 1;
    }
    m->blocks = calloc((size_t)m->n_blocks + 1, sizeof *m->blocks);
    if (m->params.head_linear >= 0)
        m->head_linear = calloc((size_t)config->n_predict, sizeof *m->head_linear);
    if (config->head_norms)
        m->head_norms = calloc((size_t)config->n_predict, sizeof *m->head_norms);
    if (!m->blocks || (unit && !m->unit) || (m->params.head_linear >= 0 && !m->head_linear) ||
        (config->head_norms && !m->head_norms))
        return err_set(err, ERR_MEMORY, "no memory for %d layers", m->n_blocks);
    return 0;
}

int model_over(struct model *m, const struct config *config, float *values, float *grads,
               struct err *err)
{
    int rc = allocate(m, config, err);
    if (!rc &&
        (config->draft_output || config->qkv_bias || config->qk_norm || config->rope_factors ||
         config->head_norms || (config->next_is_trunk && !config->trunk)))
        rc = err_set(err, ERR_INVALID,
                     "a model with biases, norms of its queries, factors of its rotation, norms of "
                     "its heads, or without a next-token head cannot be trained yet");
    if (!rc)
        rc = rope_init(m, config->context, NULL, err);
    if (rc) {
        model_release(m);
        return rc;
    }
    const struct params *p = &m->params;
    for (int i = 0; i < m->n_blocks; i++) {
        int t = params_of_block(p, i, 0);
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
        for (int i = config_first_head(config); i < config->n_predict; i++)
            m->head_linear[i] =
                over(p, p->head_linear + i - config_first_head(config), 1, values, grads);
    if (p->fuse >= 0)
        m->fuse = over(p, p->fuse, 1, values, grads);
    if (p->bigram >= 0)
        m->bigram = over(p, p->bigram, 1, values, grads);
    if (p->shared >= 0) {
        m->state_norm = values + p->list[p->shared].offset;
        if (!config->joined_attention) {
            m->token_norm = values + p->list[p->shared + 1].offset;
            m->project = over(p, p->shared + 2, 1, values, grads);
        }
    }
    if (config->trunk) /* has the rest */
        return 0;
    m->embed = (struct matrix){.name = p->list[p->embed].name,
                               .data = (const unsigned char *)(values + p->list[p->embed].offset),
                               .rows = (size_t)config->vocab,
                               .inputs = (size_t)config->dim};
    m->norm = values + p->list[p->norm].offset;
    if (head_kind_tensors(config->kind) != HEAD_UNEMBEDDING)
        m->output = over(p, config->tied ? p->embed : p->output, 1, values, grads);
    return 0;
}

/* ---- from a file: serving ---- */

struct loading {
    struct model *model;
    struct team *team;
};

static int find(const struct model *m, int index, struct matrix *matrix, struct err *err)
{
    const struct param *p = &m->params.list[index];
    bool apart = m->heads.type && p->place.head >= 0;
    return source_find(apart ? &m->heads : &m->source, &p->place, p->n_dims, p->shape, matrix, err);
}

/* Looks n consecutive tensors of the list up and packs them into one matrix. */
static int pack(struct loading *l, int first, int n, bool gated, struct linear *linear,
                struct err *err)
{
    struct matrix matrices[3];
    for (int i = 0; i < n; i++) {
        int rc = find(l->model, first + i, &matrices[i], err);
        if (rc)
            return rc;
    }
    return gated ? linear_pack_gated(linear, l->model->weights, matrices, &l->model->memory,
                                     l->team, err)
                 : linear_pack(linear, l->model->weights, matrices, n, &l->model->memory, l->team,
                               err);
}

/* Copies n consecutive vectors of the list, one behind the other. */
static int vectors(struct loading *l, int first, int n, const float **out, struct err *err)
{
    const struct param *p = &l->model->params.list[first];
    size_t count = 0;
    for (int i = 0; i < n; i++)
        count += p[i].count;
    float *to = region_take(&l->model->memory, count * sizeof *to);
    *out = to;
    if (!to)
        return err_set(err, ERR_MEMORY, "no memory for %s", p->name);
    for (int i = 0; i < n; to += p[i++].count) {
        struct matrix matrix;
        int rc = find(l->model, first + i, &matrix, err);
        if (!rc && !matrix_row_finite(&matrix, 0))
            rc = matrix_broken(&matrix, 0, err);
        if (rc)
            return rc;
        matrix_row(&matrix, 0, to);
    }
    return 0;
}

static int load_block(struct loading *l, int i, struct err *err)
{
    const struct params *p = &l->model->params;
    struct block *b = &l->model->blocks[i];
    int t = params_of_block(p, i, 0), rc;
    if ((rc = vectors(l, t + BLOCK_ATTN_NORM, 1, &b->attn_norm, err)) ||
        (rc = vectors(l, t + BLOCK_FFN_NORM, 1, &b->ffn_norm, err)) ||
        (rc = pack(l, t + BLOCK_WQ, 3, false, &b->wqkv, err)) ||
        (rc = pack(l, t + BLOCK_WO, 1, false, &b->wo, err)) ||
        (rc = pack(l, t + BLOCK_W1, 2, true, &b->w13, err)) ||
        (rc = pack(l, t + BLOCK_W2, 1, false, &b->w2, err)))
        return rc;
    /* Layers of heads apart have neither, whatever their trunk's have. */
    if (l->model->heads.type && i >= l->model->config.n_layers)
        return 0;
    if (p->biases >= 0)
        rc = vectors(l, t + p->biases, 3, &b->qkv_bias, err);
    if (!rc && p->head_norms >= 0)
        rc = vectors(l, t + p->head_norms, 1, &b->q_norm, err);
    if (!rc && p->head_norms >= 0)
        rc = vectors(l, t + p->head_norms + 1, 1, &b->k_norm, err);
    return rc;
}

static int load_rope(struct loading *l, int positions, struct err *err)
{
    struct model *m = l->model;
    const float *factors = NULL;
    int rc = 0;
    if (m->params.rope_factors >= 0)
        rc = vectors(l, m->params.rope_factors, 1, &factors, err);
    for (int i = 0; factors && i < m->config.head_dim / 2 && !rc; i++)
        if (!(factors[i] > 0))
            rc = err_set(err, ERR_INVALID,
                         "%s: factor %d of the frequencies of rotation is %g, but must be above 0",
                         m->source.path, i, (double)factors[i]);
    return rc ? rc : rope_init(m, positions > 0 ? positions : m->config.context, factors, err);
}

static int load(struct model *m, int positions, struct team *team, struct err *err)
{
    const struct config *c = &m->config;
    const struct params *p = &m->params;
    struct loading l = {m, team};
    int rc = load_rope(&l, positions, err);
    if (!rc)
        rc = find(m, p->embed, &m->embed, err);
    for (size_t r = 0; !rc && !c->tied && r < m->embed.rows; r++) /* tied: packed, and looked at */
        if (!matrix_row_finite(&m->embed, r))
            rc = matrix_broken(&m->embed, r, err);
    for (int i = 0; i < m->n_blocks && !rc; i++)
        rc = load_block(&l, i, err);
    int first = config_first_head(c);
    for (int i = first; m->head_linear && i < c->n_predict && !rc; i++)
        rc = pack(&l, p->head_linear + i - first, 1, false, &m->head_linear[i], err);
    if (!rc && p->fuse >= 0)
        rc = pack(&l, p->fuse, 1, false, &m->fuse, err);
    if (!rc && p->bigram >= 0)
        rc = pack(&l, p->bigram, 1, false, &m->bigram, err);
    if (!rc && p->bigram >= 0)
        rc = find(m, c->tied ? p->embed : p->output, &m->unembedding, err);
    if (!rc && p->shared >= 0)
        rc = vectors(&l, p->shared, 1, &m->state_norm, err);
    if (!rc && p->shared >= 0 && !c->joined_attention)
        rc = vectors(&l, p->shared + 1, 1, &m->token_norm, err);
    if (!rc && p->shared >= 0 && !c->joined_attention)
        rc = pack(&l, p->shared + 2, 1, false, &m->project, err);
    if (!rc && p->draft_output >= 0)
        rc = pack(&l, p->draft_output, 1, false, &m->draft_output, err);
    if (!rc && p->norm >= 0)
        rc = vectors(&l, p->norm, 1, &m->norm, err);
    for (int i = 0; m->head_norms && i < c->n_predict && !rc; i++)
        if (i < first)
            m->head_norms[i] = m->norm;
        else if (i > first && p->shared >= 0)
            m->head_norms[i] = m->head_norms[first];
        else
            rc = vectors(&l, p->head_first_norm + i - first, 1, &m->head_norms[i], err);
    if (!rc && (c->tied || p->output >= 0))
        rc = pack(&l, c->tied ? p->embed : p->output, 1, false, &m->output, err);
    return rc;
}

/* The config of a trunk with those heads. */
static int join(struct config *c, const struct source *trunk, const struct source *heads,
                struct err *err)
{
    const struct config *own = &trunk->config, *h = &heads->config;
    uint64_t hash;
    *c = *own;
    if (!heads->type)
        return 0;
    if (own->n_predict > 1 || !own->next_is_trunk)
        return err_set(err, ERR_INVALID,
                       "%s has prediction heads of its own: leave out those of %s", trunk->path,
                       heads->path);
    int rc = trunk_hash(trunk, &hash, err);
    if (rc)
        return rc;
    if (hash != h->trunk)
        return err_set(err, ERR_INVALID,
                       "the heads of %s were trained for another trunk (%016" PRIx64 ") than %s "
                       "(%016" PRIx64 "): their drafts would be wrong",
                       heads->path, h->trunk, trunk->path, hash);
    if (h->dim != own->dim || h->n_heads != own->n_heads || h->n_kv_heads != own->n_kv_heads ||
        h->head_dim != own->head_dim || h->vocab != own->vocab)
        return err_set(err, ERR_INVALID,
                       "%s/config.json: the shapes of the heads are not those of %s: fields dim, "
                       "n_heads, n_kv_heads, head_dim and vocab must be the same",
                       heads->path, trunk->path);
    c->kind = h->kind;
    c->n_predict = h->n_predict;
    c->head_layers = h->head_layers;
    c->head_hidden = h->hidden == own->hidden ? 0 : h->hidden;
    c->next_is_trunk = true;
    c->token_first = h->token_first;
    c->first_token_zero = h->first_token_zero;
    c->joined_attention = h->joined_attention;
    c->fuse_raw = h->fuse_raw;
    c->draft_output = h->draft_output;
    c->head_norms = h->head_norms;
    c->fuse_next = h->fuse_next;
    c->bigram = h->bigram;
    c->prefix_layer = h->prefix_layer;
    c->n_aux = h->n_aux;
    memcpy(c->aux_layers, h->aux_layers, sizeof c->aux_layers);
    rc = config_check(c, err);
    return rc ? err_prefix(err, rc, "%s/config.json on %s", heads->path, trunk->path) : 0;
}

static int load_all(struct model *m, int positions, struct team *team, struct err *err)
{
    const int32_t *ids;
    int n = 0, rc = load(m, positions, team, err);
    if (!rc && m->heads.type && !(rc = source_draft_ids(&m->heads, &ids, &n, err)) &&
        m->config.draft_output && n != m->config.draft_output)
        rc = err_set(err, ERR_INVALID,
                     "%s: 'draft_ids' has %d tokens, 'heads.1.output.weight' %d rows",
                     m->heads.path, n, m->config.draft_output);
    if (!rc && n)
        if ((rc = model_draft_vocabulary(m, ids, n, err)))
            err_prefix(err, rc, "%s", m->heads.path);
    return rc;
}

int model_open(struct model *m, const char *path, const char *heads, int weights, int positions,
               struct team *team, struct err *err)
{
    struct source source, apart = {0};
    struct config config;
    memset(m, 0, sizeof *m);
    int rc = source_open(&source, path, err);
    if (rc)
        return rc;
    if (heads && (rc = source_open_heads(&apart, heads, err))) {
        source_release(&source);
        return rc;
    }
    if (!(rc = join(&config, &source, &apart, err)))
        rc = allocate(m, &config, err);
    m->source = source;
    m->heads = apart;
    m->weights = weights;
    if (!rc)
        rc = load_all(m, positions, team, err);
    if (!rc)
        source_rest(&m->source);
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
    int rc, queries = c->n_heads * c->head_dim, qkv = queries + 2 * c->n_kv_heads * c->head_dim;
    uint64_t at = seed + 4 * (uint64_t)i;
    b->attn_norm = b->ffn_norm = m->norm;
    if ((rc = linear_random(&b->wqkv, type, qkv, c->dim, 1, at, &m->memory, err)) ||
        (rc = linear_random(&b->wo, type, c->dim, queries, 1, at + 1, &m->memory, err)) ||
        (rc = linear_random(&b->w13, type, 2 * c->hidden, c->dim, 2, at + 2, &m->memory, err)) ||
        (rc = linear_random(&b->w2, type, c->dim, c->hidden, 1, at + 3, &m->memory, err)))
        return rc;
    return 0;
}

static int random_weights(struct model *m, enum weight_type type, uint64_t seed, struct err *err)
{
    const struct config *c = &m->config;
    bool own = head_kind_tensors(c->kind) == HEAD_UNEMBEDDING;
    struct linear embed = {0};
    int rc = 0;
    float *norm = region_take(&m->memory, (size_t)c->dim * sizeof *norm);
    if (!norm)
        return err_set(err, ERR_MEMORY, "no memory for the norms");
    for (int i = 0; i < c->dim; i++)
        norm[i] = 1;
    m->norm = norm;
    for (int i = 0; i < m->n_blocks && !rc; i++)
        rc = random_block(m, i, type, seed, err);
    seed += 4 * (uint64_t)m->n_blocks;
    for (int i = 0; m->head_linear && i < c->n_predict && !rc; i++)
        rc = linear_random(&m->head_linear[i], type, own ? c->vocab : c->dim, c->dim, 1, seed++,
                           &m->memory, err);
    if (!rc && !own)
        rc = linear_random(&m->output, type, c->vocab, c->dim, 1, seed++, &m->memory, err);
    if (!rc)
        rc = linear_random(&embed, WEIGHT_BF16, c->vocab, c->dim, 1, seed, &m->memory, err);
    m->embed = (struct matrix){.name = "random",
                               .type = WEIGHT_BF16,
                               .data = embed.parts[0].data,
                               .rows = (size_t)c->vocab,
                               .inputs = (size_t)c->dim};
    return rc;
}

/* The system gives more memory than it has and ends the program when it is used: ask before. */
static int check_memory(const struct model *m, enum weight_type type, struct err *err)
{
    size_t dim = (size_t)m->config.dim, vocab = (size_t)m->config.vocab;
    size_t rows = m->params.count / dim - vocab;
    size_t needed = packed_bytes(type, (int)rows, m->config.dim) + vocab * dim * 2,
           left = mem_available();
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
        rc = rope_init(m, positions, NULL, err);
    if (!rc)
        rc = random_weights(m, type, seed, err);
    if (rc)
        model_release(m);
    return rc;
}

void model_release(struct model *m)
{
    region_release(&m->memory);
    free(m->draft_ids);
    free(m->blocks);
    free(m->head_linear);
    free(m->head_norms);
    free(m->unit);
    params_release(&m->params);
    source_release(&m->source);
    source_release(&m->heads);
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
        matrix_row(&m->embed, (size_t)tokens[r], x + (size_t)r * dim);
    }
    lane_barrier(lane);
}

void trunk_forward(struct lane *lane, const struct pass *pass, struct block_acts *acts,
                   const int32_t *tokens, float *z, const struct aux_states *aux)
{
    const struct config *c = &pass->model->config;
    int taken = 0;
    model_embed(lane, pass->model, tokens, pass->n, z);
    for (int l = 0; l < c->n_layers; l++) {
        /* A layer writes to z when all lanes have met in it: no barrier. */
        if (aux && taken < aux->n && aux->layers[taken] == l)
            rows_gather(lane, c, z, NULL, pass->n, aux->state[taken++]);
        block_forward(lane, pass, l, acts, z, NULL, 0, z);
    }
}

struct aux_states model_aux(const struct model *m, float *x, int rows)
{
    struct aux_states aux = {.n = m->config.n_aux, .layers = m->config.aux_layers};
    for (int i = 0; i < aux.n; i++)
        aux.state[i] = x + (size_t)(1 + i) * (size_t)rows * (size_t)m->config.dim;
    return aux;
}

void states_fuse(struct lane *lane, const struct model *m, const float *const *x,
                 const int32_t *next, int rows, float *joined, float *y)
{
    const struct config *c = &m->config;
    size_t dim = (size_t)c->dim, states = (size_t)config_fused_states(c);
    int begin, end;
    lane_share(lane, rows, 1, &begin, &end);
    for (size_t r = (size_t)begin; r < (size_t)end; r++)
        for (size_t i = 0; i < states; i++) {
            float *to = joined + (r * states + i) * dim;
            if (c->fuse_next && i + 1 == states)
                matrix_row(&m->embed, (size_t)next[r], to);
            else
                memcpy(to, x[i + c->fuse_raw] + r * dim, dim * sizeof *to);
            if (!c->fuse_raw)
                kernels.rmsnorm(to, m->unit, c->dim, c->norm_eps, to);
        }
    lane_barrier(lane);
    linear_forward(lane, &m->fuse, joined, states * dim, rows, NULL, y, dim);
    lane_barrier(lane);
}

size_t model_lane_bytes(const struct model *m)
{
    const struct config *c = &m->config;
    int states = config_fused_states(c) > 1 ? config_fused_states(c) : 1;
    int joined = c->dim * (c->kind == HEAD_RECURRENT && states < 2 ? 2 : states);
    int hidden = config_widest_hidden(c);
    int widest = hidden > joined ? hidden : joined, queries = c->n_heads * c->head_dim;
    if (queries > widest)
        widest = queries;
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
    for (size_t i = 0; m->head_norms && i < (size_t)n; i++)
        rows_norm(lane, &m->config, h + i * each * dim, m->head_norms[(size_t)head + i], rows,
                  normed + i * each * dim, NULL);
    if (!m->head_norms)
        rows_norm(lane, &m->config, h, m->norm, n * rows, normed, NULL);
    lane_barrier(lane);
    bool own = head_kind_tensors(m->config.kind) == HEAD_UNEMBEDDING;
    if (!own || head < config_first_head(&m->config)) {
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
    int rc = source_check_ids(ids, n, m->config.vocab, err);
    if (rc)
        return rc;
    m->draft_ids = malloc((size_t)n * sizeof *ids);
    if (!m->draft_ids)
        return err_set(err, ERR_MEMORY, "no memory for a draft vocabulary of %d tokens", n);
    memcpy(m->draft_ids, ids, (size_t)n * sizeof *ids);
    m->n_draft_ids = n;
    if (m->config.draft_output) /* has been packed */
        return 0;
    rc = source_find(&m->source, &p->place, p->n_dims, p->shape, &all, err);
    if (rc)
        return rc;
    size_t row = matrix_row_bytes(&all), scales = all.scales ? matrix_blocks(&all) * 2 : 0;
    unsigned char *rows = malloc((size_t)n * (row + scales));
    if (!rows)
        rc = err_set(err, ERR_MEMORY, "no memory for a draft vocabulary of %d tokens", n);
    some = all;
    some.rows = (size_t)n;
    some.data = rows;
    some.scales = all.scales ? rows + (size_t)n * row : NULL;
    for (size_t i = 0; i < (size_t)n && !rc; i++) {
        memcpy(rows + i * row, matrix_row_data(&all, (size_t)ids[i]), row);
        if (scales)
            memcpy(rows + (size_t)n * row + i * scales, all.scales + (size_t)ids[i] * scales,
                   scales);
    }
    if (!rc)
        rc = linear_pack(&m->draft_output, m->weights, &some, 1, &m->memory, NULL, err);
    free(rows);
    return rc;
}
