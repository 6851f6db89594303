/* The list of tensors: it tiles the flat array, groups that are read as one matrix are contiguous,
 * names are unique and fit, and the model's matrices lie where the list says. */
#include "model/params.h"

#include "base/rng.h"
#include "model/model.h"
#include "tests/unit/unit.h"

static struct config random_config(uint64_t i)
{
    struct config c = {.n_layers = (int)rng_below(1, 1, i, 4),
                       .n_kv_heads = 1 + (int)rng_below(1, 2, i, 3),
                       .hidden = 16 * (1 + (int)rng_below(1, 3, i, 9)),
                       .vocab = 257 + (int)rng_below(1, 4, i, 100),
                       .context = 8,
                       .norm_eps = 1e-5f,
                       .rope_theta = 10000,
                       .tied = i / HEAD_KINDS_WHOLE % 2,
                       .kind = (enum head_kind)(i % HEAD_KINDS_WHOLE),
                       .n_predict = 1 + (int)rng_below(1, 5, i, 6),
                       .head_layers = 1 + (int)rng_below(1, 6, i, 3),
                       .bos = -1,
                       .eos = -1};
    struct err err;
    c.n_heads = c.n_kv_heads * (1 + (int)rng_below(1, 7, i, 3));
    c.dim = c.n_heads * 16 * (1 + (int)rng_below(1, 8, i, 2));
    if (c.kind == HEAD_LINEAR || c.kind == HEAD_REPLICATED)
        c.head_layers = 0;
    assert_ok(config_check(&c, &err), err);
    return c;
}

/* How many numbers a model has, from its shape alone. */
static size_t numbers_of(const struct config *c)
{
    size_t d = (size_t)c->dim, kv = (size_t)(c->n_kv_heads * c->head_dim), f = (size_t)c->hidden;
    size_t block = 2 * d + 2 * d * d + 2 * kv * d + 3 * f * d, v = (size_t)c->vocab;
    size_t heads = (size_t)c->n_predict;
    size_t blocks = (size_t)c->n_layers + heads * (size_t)c->head_layers;
    size_t all = v * d + d + blocks * block;
    if (c->kind == HEAD_LINEAR)
        all += heads * d * d;
    if (c->kind == HEAD_REPLICATED)
        return all + heads * v * d;
    return all + (c->tied ? 0 : v * d);
}

static void check_tiling(const struct params *p)
{
    size_t end = 0, count = 0;
    for (int i = 0; i < p->n; i++) {
        const struct param *t = &p->list[i];
        assert_int_equal(t->offset, end);
        assert_int_equal(t->offset % 16, 0);
        assert_int_equal(t->count, t->shape[0] * t->shape[1]);
        assert_int_equal(t->n_dims, t->shape[1] == 1 ? 1 : 2);
        assert_true(t->count > 0);
        end += (t->count + 15) / 16 * 16;
        count += t->count;
    }
    assert_int_equal(p->total, end);
    assert_int_equal(p->count, count);
}

static void check_names(const struct params *p)
{
    for (int i = 0; i < p->n; i++) {
        size_t len = strnlen(p->list[i].name, sizeof p->list[i].name);
        assert_true(len > 0 && len < sizeof p->list[i].name - 1);
        assert_string_equal(p->list[i].name + len - 7, ".weight");
        for (int j = 0; j < i; j++)
            assert_string_not_equal(p->list[i].name, p->list[j].name);
    }
}

/* Tensors first..last of a block follow each other without a gap. */
static void check_group(const struct param *block, int first, int last)
{
    for (int i = first; i < last; i++) {
        assert_int_equal(block[i].offset + block[i].count, block[i + 1].offset);
        assert_int_equal(block[i].shape[1], block[first].shape[1]);
    }
}

static void check_blocks(const struct params *p, const struct config *c)
{
    static const char *const part[BLOCK_PARAMS] = {
        "attention_norm", "attention.wq",    "attention.wk",    "attention.wv",   "attention.wo",
        "ffn_norm",       "feed_forward.w1", "feed_forward.w3", "feed_forward.w2"};
    for (int b = 0; b < p->n_blocks; b++) {
        const struct param *block = &p->list[p->blocks + b * BLOCK_PARAMS];
        int behind = b - c->n_layers;
        char name[128], prefix[64];
        if (behind < 0)
            snprintf(prefix, sizeof prefix, "layers.%d", b);
        else
            snprintf(prefix, sizeof prefix, "heads.%d.layers.%d", behind / c->head_layers,
                     behind % c->head_layers);
        for (int i = 0; i < BLOCK_PARAMS; i++) {
            snprintf(name, sizeof name, "%s.%s.weight", prefix, part[i]);
            assert_string_equal(block[i].name, name);
        }
        check_group(block, BLOCK_WQ, BLOCK_WV);
        check_group(block, BLOCK_W1, BLOCK_W3);
    }
}

static void check_index(const struct params *p, int index, bool there, const char *name)
{
    assert_int_equal(index >= 0, there);
    if (there)
        assert_string_equal(p->list[index].name, name);
    for (int i = 0; i < p->n; i++)
        assert_true(there || strcmp(p->list[i].name, name));
}

static void lists_are_sound(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 200; i++) {
        struct config c = random_config(i);
        struct params p;
        struct err err;
        bool replicated = c.kind == HEAD_REPLICATED, linear = c.kind == HEAD_LINEAR;
        assert_ok(params_init(&p, &c, &err), err);
        check_tiling(&p);
        check_names(&p);
        assert_int_equal(p.count, numbers_of(&c));
        assert_int_equal(p.n_blocks, c.n_layers + c.n_predict * c.head_layers);
        assert_int_equal(config_head_blocks(&c), c.head_layers);
        check_blocks(&p, &c);
        check_index(&p, p.embed, true, "tok_embeddings.weight");
        check_index(&p, p.norm, true, "norm.weight");
        check_index(&p, p.output, !c.tied && !replicated, "output.weight");
        check_index(&p, p.head_linear, linear || replicated,
                    replicated ? "heads.0.output.weight" : "heads.0.linear.weight");
        for (int h = 0; h < c.n_predict && p.head_linear >= 0; h++) {
            char name[64];
            snprintf(name, sizeof name, "heads.%d.%s.weight", h, replicated ? "output" : "linear");
            assert_string_equal(p.list[p.head_linear + h].name, name);
        }
        params_release(&p);
        params_release(&p);
        assert_null(p.list);
    }
}

static void the_largest_names_fit(void **state)
{
    (void)state;
    struct config c = random_config(0);
    struct params p;
    struct err err;
    c.n_layers = 512;
    c.n_predict = HEADS_MAX;
    c.head_layers = 8;
    assert_ok(config_check(&c, &err), err);
    assert_ok(params_init(&p, &c, &err), err);
    assert_string_equal(p.list[p.norm - 1].name, "heads.31.layers.7.feed_forward.w2.weight");
    for (int i = 0; i < p.n; i++) /* room for a checkpoint's prefix in what it calls them */
        assert_true(strlen(p.list[i].name) < 64);
    params_release(&p);
}

/* A matrix of the model covers exactly the tensors it should, in values and in gradients. */
static void check_matrix(const struct linear *l, const struct params *p, int first, int n,
                         const float *values, const float *grads)
{
    size_t rows = 0;
    for (int i = 0; i < n; i++)
        rows += p->list[first + i].shape[0];
    assert_int_equal(l->outputs, rows);
    assert_int_equal(l->inputs, p->list[first].shape[1]);
    assert_ptr_equal(l->dense, values + p->list[first].offset);
    assert_ptr_equal(l->dense_grad, grads + p->list[first].offset);
}

static void a_model_lies_over_the_list(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 30; i++) {
        struct config c = random_config(i);
        struct params p;
        struct model m;
        struct err err;
        assert_ok(params_init(&p, &c, &err), err);
        float *values = calloc(p.total, sizeof(float)), *grads = calloc(p.total, sizeof(float));
        assert_true(values && grads);
        assert_ok(model_over(&m, &c, values, grads, &err), err);
        assert_int_equal(m.n_blocks, p.n_blocks);
        for (int b = 0; b < m.n_blocks; b++) {
            int t = p.blocks + b * BLOCK_PARAMS;
            assert_ptr_equal(m.blocks[b].attn_norm, values + p.list[t + BLOCK_ATTN_NORM].offset);
            assert_ptr_equal(m.blocks[b].ffn_norm, values + p.list[t + BLOCK_FFN_NORM].offset);
            check_matrix(&m.blocks[b].wqkv, &p, t + BLOCK_WQ, 3, values, grads);
            check_matrix(&m.blocks[b].wo, &p, t + BLOCK_WO, 1, values, grads);
            check_matrix(&m.blocks[b].w13, &p, t + BLOCK_W1, 2, values, grads);
            check_matrix(&m.blocks[b].w2, &p, t + BLOCK_W2, 1, values, grads);
        }
        for (int h = 0; h < c.n_predict; h++) {
            int block = model_head_block(&m, h);
            assert_int_equal(block, c.n_layers + h * c.head_layers);
            assert_true(block + c.head_layers <= m.n_blocks);
            if (p.head_linear >= 0)
                check_matrix(&m.head_linear[h], &p, p.head_linear + h, 1, values, grads);
        }
        if (c.kind != HEAD_REPLICATED)
            check_matrix(&m.output, &p, c.tied ? p.embed : p.output, 1, values, grads);
        assert_ptr_equal(m.embed.data, values + p.list[p.embed].offset);
        assert_ptr_equal(m.norm, values + p.list[p.norm].offset);
        model_release(&m);
        params_release(&p);
        free(values);
        free(grads);
    }
}

/* Gradients know nothing of these. */
static void what_is_served_only_is_not_trained(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct config c = random_config(3);
        struct model m;
        struct err err;
        float none;
        *(i == 0   ? &c.qkv_bias
          : i == 1 ? &c.qk_norm
          : i == 2 ? &c.rope_factors
          : i == 3 ? &c.head_norms
                   : &c.next_is_trunk) = true;
        assert_int_equal(model_over(&m, &c, &none, &none, &err), ERR_INVALID);
        assert_says(err, "cannot be trained");
        assert_null(m.blocks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_sound),
        cmocka_unit_test(the_largest_names_fit),
        cmocka_unit_test(a_model_lies_over_the_list),
        cmocka_unit_test(what_is_served_only_is_not_trained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
