/* config.json: every field missing, mistyped and out of range is named; models come back as
 * written; damaged text never crashes. */
#include "weights/config.h"

#include <jansson.h>
#include <limits.h>

#include "base/rng.h"
#include "tests/unit/unit.h"

static const char valid[] =
    "{\"format\": \"headway\", \"version\": 1, \"dim\": 64, \"n_layers\": 2, \"n_heads\": 4, "
    "\"n_kv_heads\": 2, \"hidden\": 128, \"vocab\": 272, \"context\": 256, \"norm_eps\": 1e-5, "
    "\"rope_theta\": 10000, \"tied\": true, \"heads\": {\"kind\": \"parallel\", \"n\": 4, "
    "\"layers\": 1}, \"bos\": 256, \"eos\": 256, \"unknown\": [1, 2]}";

static int parse(const char *text, struct config *config, struct err *err)
{
    return config_parse(config, text, strlen(text), "here.json", err);
}

/* The valid text with "name" or "heads.name" set to the JSON text `value`, or removed for NULL. */
static char *with(const char *name, const char *value)
{
    json_t *root = json_loads(valid, 0, NULL), *object = root;
    assert_non_null(root);
    if (!strncmp(name, "heads.", 6)) {
        object = json_object_get(root, "heads");
        name += 6;
    }
    assert_true(value || json_object_get(object, name));
    json_t *json = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    if (value)
        assert_int_equal(json_object_set_new(object, name, json), 0);
    else
        json_object_del(object, name);
    char *text = json_dumps(root, 0);
    json_decref(root);
    return text;
}

static void refuse(const char *name, const char *value, const char *says)
{
    struct config config;
    struct err err = {""};
    char *text = with(name, value);
    if (parse(text, &config, &err) != ERR_INVALID)
        fail_msg("%s = %s is not refused", name, value ? value : "(missing)");
    assert_says(err, "here.json");
    assert_says(err, name);
    assert_says(err, says);
    free(text);
}

static void reads_a_valid_file(void **state)
{
    (void)state;
    struct config c;
    struct err err;
    assert_ok(parse(valid, &c, &err), err);
    assert_int_equal(c.dim, 64);
    assert_int_equal(c.n_layers, 2);
    assert_int_equal(c.n_heads, 4);
    assert_int_equal(c.n_kv_heads, 2);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.hidden, 128);
    assert_int_equal(c.vocab, 272);
    assert_int_equal(c.context, 256);
    assert_true(c.norm_eps == 1e-5f);
    assert_true(c.rope_theta == 1e4f);
    assert_true(c.tied);
    assert_int_equal(c.kind, HEAD_PARALLEL);
    assert_int_equal(c.n_predict, 4);
    assert_int_equal(c.head_layers, 1);
    assert_int_equal(c.bos, 256);
    assert_int_equal(c.eos, 256);
}

static void names_the_wrong_field(void **state)
{
    (void)state;
    static const struct {
        const char *name, *low, *high;
    } ints[] = {
        {"dim", "15", "16400"},      {"n_layers", "-1", "513"},
        {"n_heads", "0", "257"},     {"n_kv_heads", "0", "257"},
        {"hidden", "0", "65552"},    {"vocab", "1", "1048577"},
        {"context", "1", "1048577"}, {"heads.n", "0", "33"},
        {"heads.layers", "-1", "9"}, {"head_dim", "-16", "272"},
        {"bos", "-2", "4294967296"}, {"eos", "-2", "9223372036854775807"},
    };
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        if (strcmp(ints[i].name, "head_dim")) /* which may be missing */
            refuse(ints[i].name, NULL, "missing");
        refuse(ints[i].name, ints[i].low, ints[i].low);
        refuse(ints[i].name, ints[i].high, ints[i].high);
        refuse(ints[i].name, "\"7\"", "whole number");
        refuse(ints[i].name, "7.5", "7.5");
        refuse(ints[i].name, "null", "null");
        refuse(ints[i].name, "true", "whole number");
    }
    static const char *const others[] = {"format",     "version", "norm_eps", "rope_theta",
                                         "heads.kind", "heads",   "tied"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        refuse(others[i], NULL, "missing");
        refuse(others[i], "[1]", "must be");
    }
}

static void checks_relations(void **state)
{
    (void)state;
    refuse("format", "\"gguf\"", "gguf");
    refuse("version", "2", "2");
    refuse("dim", "72", "multiple of 16");
    refuse("n_heads", "3", "multiple of n_heads (3) where there is no field 'head_dim'");
    refuse("dim", "2048", "at most 256");
    refuse("n_heads", "64", "multiple of 16 and at most 256");
    refuse("n_heads", "8", "multiple of 16 and at most 256");
    refuse("head_dim", "24", "heads of 24 numbers");
    refuse("n_kv_heads", "3", "divide n_heads (4)");
    refuse("n_kv_heads", "8", "divide n_heads (4)");
    refuse("hidden", "130", "multiple of 16");
    refuse("norm_eps", "0", "above 0");
    refuse("norm_eps", "1e-60", "above 0");
    refuse("norm_eps", "0.2", "at most 0.1");
    refuse("norm_eps", "-1", "-1");
    refuse("rope_theta", "0.5", "at least 1");
    refuse("rope_theta", "1e60", "inf");
    refuse("heads.kind", "\"medusa\"", "parallel causal anticausal linear replicated");
    refuse("heads.layers", "0", "between 1 and 8");
    refuse("heads", "{\"kind\": \"linear\", \"n\": 4, \"layers\": 1}", "must be 0");
    refuse("bos", "272", "below vocab (272)");
    refuse("eos", "272", "below vocab (272)");
}

/* Flags that older files have not; heads whose size is not D / H. */
static void reads_what_may_be_missing(void **state)
{
    static const char *const flags[] = {"qkv_bias", "qk_norm", "rope_factors", "next_is_trunk"};
    struct config c;
    struct err err;
    (void)state;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        char *text = with(flags[i], "true");
        assert_ok(parse(text, &c, &err), err);
        assert_true(c.qkv_bias == (i == 0) && c.qk_norm == (i == 1) && c.rope_factors == (i == 2) &&
                    c.next_is_trunk == (i == 3));
        free(text);
        refuse(flags[i], "1", "must be");
    }
    char *text = with("head_dim", "48");
    assert_ok(parse(text, &c, &err), err);
    assert_int_equal(c.head_dim, 48);
    assert_int_equal(c.dim / c.n_heads, 16);
    free(text);
}

static void refuses_other_text(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "{", "[]", "1", "null", "{\"format\": \"headway\", \"format\": \"headway\"}", "{} {}",
    };
    struct config config;
    struct err err;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(parse(texts[i], &config, &err), ERR_INVALID);
        assert_says(err, "here.json");
    }
    char *deep = malloc(100001);
    memset(deep, '[', 100000);
    deep[100000] = 0;
    assert_int_equal(parse(deep, &config, &err), ERR_INVALID);
    free(deep);
}

static void damage_never_crashes(void **state)
{
    (void)state;
    size_t size = sizeof valid - 1;
    for (uint64_t i = 0; i < 5000; i++) {
        size_t n = i < size ? i : size; /* every truncation, then flips in the whole text */
        char *text = malloc(n + 1);     /* its own block: a read beyond it is seen */
        struct config c = {0};
        struct err err;
        memcpy(text, valid, n);
        for (uint64_t k = 0; i >= size && k <= i % 3; k++)
            text[rng_below(7, k, i, n)] ^= (char)(1 << rng_below(8, k, i, 8));
        if (!config_parse(&c, text, n, "damaged", &err)) {
            assert_ok(config_check(&c, &err), err);
            assert_true(c.head_dim > 0 && c.head_dim % 16 == 0 && c.bos < c.vocab &&
                        c.eos < c.vocab);
        }
        free(text);
    }
}

/* A random model within the limits. */
static struct config any(uint64_t i)
{
    static const float eps[] = {1e-5f, 1e-6f, 0.1f, 1.17549435e-38f, 3.3333334e-4f};
    int kv = 1 + (int)rng_below(9, 1, i, 8), heads = kv * (1 + (int)rng_below(9, 2, i, 8));
    struct config c = {
        .n_layers = (int)rng_below(9, 3, i, 513),
        .n_heads = heads,
        .n_kv_heads = kv,
        .dim = heads * 16 * (1 + (int)rng_below(9, 4, i, 16)),
        .hidden = 16 * (1 + (int)rng_below(9, 5, i, 4096)),
        .vocab = 2 + (int)rng_below(9, 6, i, 1048575),
        .context = 2 + (int)rng_below(9, 7, i, 1048575),
        .norm_eps = eps[rng_below(9, 8, i, 5)],
        .rope_theta = 1 + 1e6f * (float)rng_uniform(9, 9, i),
        .tied = rng_below(9, 10, i, 2),
        .kind = (enum head_kind)rng_below(9, 11, i, HEAD_KINDS_WHOLE),
        .n_predict = 1 + (int)rng_below(9, 12, i, HEADS_MAX),
    };
    if (c.kind != HEAD_LINEAR && c.kind != HEAD_REPLICATED)
        c.head_layers = 1 + (int)rng_below(9, 13, i, 8);
    if (rng_below(9, 16, i, 2))
        c.head_dim = 16 * (1 + (int)rng_below(9, 17, i, HEAD_DIM_MAX / 16));
    c.qkv_bias = rng_below(9, 18, i, 2);
    c.qk_norm = rng_below(9, 19, i, 2);
    c.rope_factors = rng_below(9, 20, i, 2);
    c.next_is_trunk = rng_below(9, 21, i, 2);
    c.bos = (int)rng_below(9, 14, i, (uint64_t)c.vocab + 1) - 1;
    c.eos = (int)rng_below(9, 15, i, (uint64_t)c.vocab + 1) - 1;
    return c;
}

static void assert_same(const struct config *a, const struct config *b)
{
    assert_int_equal(a->dim, b->dim);
    assert_int_equal(a->n_layers, b->n_layers);
    assert_int_equal(a->n_heads, b->n_heads);
    assert_int_equal(a->n_kv_heads, b->n_kv_heads);
    assert_int_equal(a->head_dim, b->head_dim);
    assert_int_equal(a->hidden, b->hidden);
    assert_int_equal(a->vocab, b->vocab);
    assert_int_equal(a->context, b->context);
    assert_true(a->norm_eps == b->norm_eps);
    assert_true(a->rope_theta == b->rope_theta);
    assert_int_equal(a->tied, b->tied);
    assert_int_equal(a->qkv_bias, b->qkv_bias);
    assert_int_equal(a->qk_norm, b->qk_norm);
    assert_int_equal(a->rope_factors, b->rope_factors);
    assert_int_equal(a->next_is_trunk, b->next_is_trunk);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->n_predict, b->n_predict);
    assert_int_equal(a->head_layers, b->head_layers);
    assert_int_equal(a->bos, b->bos);
    assert_int_equal(a->eos, b->eos);
}

static void comes_back_as_written(void **state)
{
    (void)state;
    struct folder folder;
    struct err err;
    folder_make(&folder);
    for (uint64_t i = 0; i < 200; i++) {
        struct config written = any(i), got;
        assert_ok(config_check(&written, &err), err);
        assert_ok(config_write(&written, folder.path, &err), err);
        assert_ok(config_read(&got, folder.path, &err), err);
        assert_same(&written, &got);
    }
    assert_int_equal(folder_count(&folder), 1);
    struct config wrong = any(0), got;
    wrong.dim = 17;
    assert_int_equal(config_write(&wrong, folder.path, &err), ERR_INVALID);
    folder_remove(&folder);
    assert_int_equal(config_read(&got, folder.path, &err), ERR_IO);
    assert_says(err, folder.path);
    struct config good = any(0);
    assert_int_equal(config_write(&good, folder.path, &err), ERR_IO);
    assert_says(err, folder.path);
}

static void kinds_have_names(void **state)
{
    (void)state;
    struct err err;
    for (int i = 0; i < HEAD_KINDS; i++) {
        enum head_kind kind;
        assert_ok(head_kind_parse(head_kind_name((enum head_kind)i), &kind, &err), err);
        assert_int_equal(kind, i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_valid_file),    cmocka_unit_test(names_the_wrong_field),
        cmocka_unit_test(checks_relations),      cmocka_unit_test(reads_what_may_be_missing),
        cmocka_unit_test(refuses_other_text),    cmocka_unit_test(damage_never_crashes),
        cmocka_unit_test(comes_back_as_written), cmocka_unit_test(kinds_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
