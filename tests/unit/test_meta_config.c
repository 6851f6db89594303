/* params.json of Meta's releases: hidden sizes of known models come out, releases made by PyTorch
 * are read, params that do not fit their tensors are refused by name. */
#include "weights/meta_config.h"

#include "base/rng.h"
#include "tests/unit/unit.h"

static int parse(const char *text, struct meta_config *m, struct err *err)
{
    size_t n = strlen(text);
    char *copy = malloc(n ? n : 1); /* without its end, for the sanitizer */
    memcpy(copy, text, n);
    int rc = meta_config_parse(m, copy, n, "here.json", err);
    free(copy);
    return rc;
}

/* As published. */
static void computes_the_hidden_size(void **state)
{
    (void)state;
    static const struct {
        const char *params;
        int hidden, n_kv_heads;
    } known[] = {
        {"{\"dim\":4096,\"n_layers\":32,\"n_heads\":32,\"multiple_of\":256}", 11008, 32}, /* 7B */
        {"{\"dim\":5120,\"n_layers\":40,\"n_heads\":40,\"multiple_of\":256}", 13824, 40}, /* 13B */
        {"{\"dim\":8192,\"n_layers\":80,\"n_heads\":64,\"n_kv_heads\":8,\"multiple_of\":4096,"
         "\"ffn_dim_multiplier\":1.3}",
         28672, 8}, /* 70B */
        {"{\"dim\":4096,\"n_layers\":32,\"n_heads\":32,\"n_kv_heads\":8,\"multiple_of\":1024,"
         "\"ffn_dim_multiplier\":1.3}",
         14336, 8}, /* Llama 3 8B */
        {"{\"dim\":2048,\"n_layers\":16,\"n_heads\":32,\"n_kv_heads\":8,\"multiple_of\":256,"
         "\"ffn_dim_multiplier\":1.5}",
         8192, 8}, /* Llama 3.2 1B */
        {"{\"dim\":4096,\"n_layers\":32,\"n_heads\":32,\"n_kv_heads\":null,\"multiple_of\":256,"
         "\"ffn_dim_multiplier\":null}",
         11008, 32},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct meta_config m;
        struct err err;
        assert_ok(parse(known[i].params, &m, &err), err);
        assert_int_equal(m.hidden, known[i].hidden);
        assert_int_equal(m.n_kv_heads, known[i].n_kv_heads);
        assert_int_equal(m.vocab, -1);
        assert_int_equal(m.n_predict, 1);
    }
}

#define BASE "\"dim\":32,\"n_layers\":4,\"n_heads\":2"

static const struct {
    const char *text, *says;
} hostile[] = {
    {"{\"n_layers\":4,\"n_heads\":2}", "'dim' is missing"},
    {"{\"dim\":32,\"n_heads\":2}", "'n_layers' is missing"},
    {"{\"dim\":32,\"n_layers\":4}", "'n_heads' is missing"},
    {"{\"dim\":32,\"n_layers\":4,\"n_heads\":0}", "'n_heads' is 0"},
    {"{\"dim\":1152921504606846976,\"n_layers\":4,\"n_heads\":2}", "'dim' is 1152921504606846976"},
    {"{\"dim\":-32,\"n_layers\":4,\"n_heads\":2}", "'dim' is -32"},
    {"{\"dim\":32.0,\"n_layers\":4,\"n_heads\":2}", "'dim' is 32.0"},
    {"{\"dim\":\"32\",\"n_layers\":4,\"n_heads\":2}", "'dim' is \"32\""},
    {"{" BASE ",\"multiple_of\":0}", "'multiple_of' is 0"},
    {"{" BASE ",\"multiple_of\":65537}", "'multiple_of'"},
    {"{" BASE ",\"multiple_of\":1,\"ffn_dim_multiplier\":0.01}", "hidden size of 0"},
    {"{" BASE ",\"ffn_dim_multiplier\":0}", "'ffn_dim_multiplier' is 0"},
    {"{" BASE ",\"ffn_dim_multiplier\":1e300}", "'ffn_dim_multiplier'"},
    {"{\"dim\":16384,\"n_layers\":4,\"n_heads\":2,\"ffn_dim_multiplier\":64}", "hidden size of"},
    {"{" BASE ",\"n_future_tokens\":5}", "'n_future_tokens' is 5"},
    {"{" BASE ",\"n_future_tokens\":0}", "'n_future_tokens' is 0"},
    {"{" BASE ",\"norm_eps\":0}", "'norm_eps'"},
    {"{" BASE ",\"rope_theta\":-1}", "'rope_theta'"},
    {"{" BASE ",\"vocab_size\":-2}", "'vocab_size'"},
    {"{" BASE ",\"use_scaled_rope\":true}", "use_scaled_rope"},
    {"{" BASE ",\"moe\":{}}", "'moe'"},
    {"{" BASE ",\"quantization_args\":{}}", "'quantization_args'"},
    {"[]", "one JSON object"},
    {"", "not JSON"},
};

static void refuses_hostile_params(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        struct meta_config m;
        struct err err = {""};
        if (parse(hostile[i].text, &m, &err) != ERR_INVALID)
            fail_msg("%s is not refused", hostile[i].text);
        assert_says(err, hostile[i].says);
        assert_says(err, "here.json");
    }
}

static void open_release(const char *name, struct meta_config *m, struct torch_file *file)
{
    char folder[100], path[200];
    struct err err;
    snprintf(folder, sizeof folder, "tests/data/files/%s", name);
    snprintf(path, sizeof path, "%s/consolidated.pth", folder);
    assert_ok(meta_config_read(m, folder, &err), err);
    assert_ok(torch_file_open(file, path, &err), err);
}

static void reads_releases(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int n_layers, n_predict, n_kv_heads, hidden, vocab;
        float theta;
    } releases[] = {{"meta", 1, 4, 2, 96, 288, 10000},
                    {"meta-single", 1, 1, 1, 64, 288, 500000},
                    {"meta-f32", 0, 2, 1, 96, 70, 10000}};
    for (size_t i = 0; i < 3; i++) {
        struct meta_config m;
        struct torch_file file;
        struct config c;
        struct err err;
        open_release(releases[i].name, &m, &file);
        assert_ok(meta_config_fill(&c, &m, &file, &err), err);
        assert_int_equal(c.dim, 32);
        assert_int_equal(c.n_layers, releases[i].n_layers);
        assert_int_equal(c.n_predict, releases[i].n_predict);
        assert_int_equal(c.n_heads, 2);
        assert_int_equal(c.n_kv_heads, releases[i].n_kv_heads);
        assert_int_equal(c.hidden, releases[i].hidden);
        assert_int_equal(c.vocab, releases[i].vocab);
        assert_true(c.rope_theta == releases[i].theta);
        assert_int_equal(c.kind, HEAD_PARALLEL);
        assert_int_equal(c.head_layers, 1);
        assert_false(c.tied);
        assert_int_equal(c.bos, -1);
        torch_file_release(&file);
    }
}

/* One number of `meta` is another. */
static void refuses_params_that_do_not_fit(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        int value;
        const char *says;
    } changes[] = {
#define CHANGE(field, value, says) {offsetof(struct meta_config, field), value, says}
        CHANGE(dim, 48, "'tok_embeddings.weight' has shape [288, 32], but by params.json it must"),
        CHANGE(vocab, 287, "must have [287, 32]"),
        CHANGE(hidden, 112, "'layers.0.feed_forward.w1.weight' has shape [96, 32]"),
        CHANGE(n_kv_heads, 1, "'layers.0.attention.wk.weight' has shape [32, 32]"),
        CHANGE(n_layers, 4, "'layers.1.attention_norm.weight' is there"),
        CHANGE(n_layers, 6, "'layers.2.attention_norm.weight' is missing"),
        CHANGE(n_predict, 3, "'layers.2.attention_norm.weight' is missing"),
        CHANGE(n_predict, 5, "'layers.1.attention_norm.weight' is there"),
    };
    struct meta_config m;
    struct torch_file file;
    open_release("meta", &m, &file);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct meta_config other = m;
        struct config c;
        struct err err = {""};
        memcpy((char *)&other + changes[i].at, &changes[i].value, sizeof(int));
        assert_int_equal(meta_config_fill(&c, &other, &file, &err), ERR_INVALID);
        assert_says(err, changes[i].says);
        assert_says(err, "consolidated.pth");
    }
    /* as many layers, but other heads */
    struct config c;
    struct err err;
    m.n_predict = 3;
    m.n_layers = 4;
    assert_int_equal(meta_config_fill(&c, &m, &file, &err), ERR_INVALID);
    assert_says(err, "'extra_heads.2.attention_norm.weight' is there");
    torch_file_release(&file);
}

static void damage_never_crashes(void **state)
{
    (void)state;
    static const char text[] = "{" BASE ",\"multiple_of\":32,\"ffn_dim_multiplier\":1.3,"
                               "\"n_future_tokens\":2,\"norm_eps\":1e-5}";
    size_t accepted = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        struct meta_config m;
        struct err err;
        char copy[sizeof text];
        memcpy(copy, text, sizeof text);
        for (uint64_t k = 0; k < 1 + i % 3; k++)
            copy[rng_below(61, k, i, sizeof text - 1)] ^= (char)(1 << rng_below(62, k, i, 8));
        copy[sizeof text - 1] = '\0';
        accepted += !parse(copy, &m, &err);
    }
    assert_in_range(accepted, 500, 19500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(computes_the_hidden_size),
        cmocka_unit_test(refuses_hostile_params),
        cmocka_unit_test(reads_releases),
        cmocka_unit_test(refuses_params_that_do_not_fit),
        cmocka_unit_test(damage_never_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
