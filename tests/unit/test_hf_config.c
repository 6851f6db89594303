/* Hugging Face's config.json: what transformers saved is read, its defaults are kept for fields
 * that are absent, what is not supported is refused by name. */
#include "weights/hf_config.h"

#include "base/rng.h"
#include "tests/unit/unit.h"

static int parse(const char *text, struct hf_config *c, struct err *err)
{
    size_t n = strlen(text);
    char *copy = malloc(n ? n : 1); /* without its end, for the sanitizer */
    memcpy(copy, text, n);
    int rc = hf_config_parse(c, copy, n, "here.json", err);
    free(copy);
    return rc;
}

/* ---- what transformers saved ---- */

static void reads_what_transformers_saved(void **state)
{
    (void)state;
    static const struct {
        const char *folder;
        struct hf_config c;
    } saved[] = {
        {"llama",
         {HF_LLAMA,
          64,
          2,
          4,
          2,
          16,
          96,
          288,
          256,
          1e-6f,
          {10000, ROPE_LLAMA3, 8, 1, 4, 64},
          false,
          false,
          false,
          1,
          256,
          {257, 258},
          2}},
        {"llama-tied",
         {HF_LLAMA,
          48,
          2,
          3,
          1,
          16,
          48,
          288,
          256,
          1e-5f,
          {5000, ROPE_LINEAR, 4, 0, 0, 0},
          true,
          false,
          false,
          1,
          256,
          {257},
          1}},
        {"mistral",
         {HF_MISTRAL,
          48,
          2,
          3,
          1,
          32,
          64,
          288,
          256,
          1e-5f,
          {1e6f, ROPE_NONE, 0, 0, 0, 0},
          false,
          false,
          false,
          1,
          256,
          {257},
          1}},
        {"qwen2",
         {HF_QWEN2,
          64,
          3,
          4,
          2,
          16,
          64,
          288,
          256,
          1e-6f,
          {1e6f, ROPE_NONE, 0, 0, 0, 0},
          true,
          true,
          false,
          1,
          256,
          {257, 256},
          2}},
        {"qwen3",
         {HF_QWEN3,
          32,
          2,
          2,
          1,
          32,
          96,
          288,
          256,
          1e-6f,
          {1e6f, ROPE_NONE, 0, 0, 0, 0},
          false,
          false,
          true,
          1,
          256,
          {257},
          1}},
        {"mtp-llama",
         {HF_MTP_LLAMA,
          32,
          2,
          2,
          1,
          16,
          48,
          96,
          256,
          1e-6f,
          {10000, ROPE_NONE, 0, 0, 0, 0},
          false,
          false,
          false,
          3,
          1,
          {2},
          1}},
    };
    for (size_t i = 0; i < sizeof saved / sizeof *saved; i++) {
        struct hf_config c;
        struct err err;
        char folder[100];
        const struct hf_config *e = &saved[i].c;
        snprintf(folder, sizeof folder, "tests/data/files/%s", saved[i].folder);
        assert_ok(hf_config_read(&c, folder, &err), err);
        if (c.model != e->model || c.dim != e->dim || c.n_layers != e->n_layers ||
            c.n_heads != e->n_heads || c.n_kv_heads != e->n_kv_heads || c.head_dim != e->head_dim ||
            c.hidden != e->hidden || c.vocab != e->vocab || c.context != e->context ||
            c.norm_eps != e->norm_eps)
            fail_msg("%s has another shape", folder);
        if (c.rope.theta != e->rope.theta || c.rope.scaling != e->rope.scaling ||
            c.rope.factor != e->rope.factor || c.rope.low_freq_factor != e->rope.low_freq_factor ||
            c.rope.high_freq_factor != e->rope.high_freq_factor ||
            c.rope.original_context != e->rope.original_context)
            fail_msg("%s is rotated otherwise", folder);
        if (c.tied != e->tied || c.qkv_bias != e->qkv_bias || c.qk_norm != e->qk_norm ||
            c.n_predict != e->n_predict || c.bos != e->bos || c.n_eos != e->n_eos ||
            memcmp(c.eos, e->eos, sizeof c.eos))
            fail_msg("%s has other biases, norms or tokens", folder);
    }
}

/* ---- defaults ---- */

#define SIZES                                                                                      \
    "\"hidden_size\":64,\"num_hidden_layers\":2,\"num_attention_heads\":4,"                        \
    "\"intermediate_size\":96,\"vocab_size\":300"
#define OF(type, rest) "{\"model_type\":\"" type "\"," SIZES rest "}"
#define LLAMA(rest) OF("llama", rest)
#define LLAMA3 "\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4"

static struct hf_config parsed(const char *text)
{
    struct hf_config c;
    struct err err;
    assert_ok(parse(text, &c, &err), err);
    return c;
}

static void has_the_defaults_of_transformers(void **state)
{
    (void)state;
    struct hf_config c = parsed(LLAMA(""));
    assert_int_equal(c.n_kv_heads, 4);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.context, 2048);
    assert_true(c.norm_eps == 1e-6f);
    assert_true(c.rope.theta == 10000);
    assert_int_equal(c.rope.scaling, ROPE_NONE);
    assert_false(c.tied || c.qkv_bias || c.qk_norm);
    assert_int_equal(c.n_predict, 1);
    assert_int_equal(c.bos, 1);
    assert_int_equal(c.n_eos, 1);
    assert_int_equal(c.eos[0], 2);

    c = parsed(OF("qwen2", ",\"num_key_value_heads\":2"));
    assert_int_equal(c.context, 32768);
    assert_true(c.qkv_bias);
    assert_false(c.tied || c.qk_norm);
    assert_int_equal(c.bos, -1);
    assert_int_equal(c.n_eos, 0);

    c = parsed(OF("qwen3", ",\"num_key_value_heads\":null"));
    assert_int_equal(c.head_dim, 128);
    assert_int_equal(c.n_kv_heads, 4);
    assert_true(c.qk_norm);
    assert_false(c.qkv_bias);

    c = parsed(OF("mistral", ",\"num_key_value_heads\":4,\"sliding_window\":null"));
    assert_int_equal(c.context, 131072);
    assert_int_equal(c.head_dim, 16);

    c = parsed(OF("mtp_llama", ",\"prediction_heads\":4"));
    assert_int_equal(c.model, HF_MTP_LLAMA);
    assert_int_equal(c.n_predict, 4);
    assert_int_equal(parsed(OF("mtp_llama", "")).n_predict, 1);
    assert_int_equal(parsed(LLAMA(",\"prediction_heads\":4")).n_predict, 1);
    assert_string_equal(hf_model_name(HF_MTP_LLAMA), "mtp_llama");

    c = parsed(OF("mimo", ",\"num_key_value_heads\":4,\"num_nextn_predict_layers\":1"));
    assert_int_equal(c.model, HF_MIMO);
    assert_int_equal(c.n_predict, 2);
    assert_true(c.qkv_bias);
    assert_int_equal(parsed(OF("mimo", ",\"num_key_value_heads\":4")).n_predict, 1);
}

static void takes_what_is_allowed(void **state)
{
    (void)state;
    static const char *const texts[] = {
        LLAMA(",\"architectures\":[\"LlamaForCausalLM\"]"),
        LLAMA(",\"architectures\":null"),
        "{\"architectures\":[\"Qwen2ForCausalLM\"],\"num_key_value_heads\":4," SIZES "}",
        LLAMA(",\"attention_bias\":false,\"mlp_bias\":false,\"quantization_config\":null"),
        LLAMA(",\"rope_scaling\":null,\"rope_theta\":500000"),
        LLAMA(",\"rope_scaling\":{}"),
        LLAMA(",\"rope_scaling\":{\"type\":\"default\",\"rope_type\":\"default\"}"),
        LLAMA(",\"partial_rotary_factor\":1.0"),
        LLAMA(",\"sliding_window\":16"), /* not a field of llama */
        LLAMA(",\"pretraining_tp\":2,\"torch_dtype\":\"float16\",\"anything\":[{}]"),
        OF("mistral", ",\"num_key_value_heads\":4,\"max_position_embeddings\":4096"),
        OF("mistral", ",\"num_key_value_heads\":4,\"max_position_embeddings\":4096,"
                      "\"sliding_window\":4096"),
        OF("qwen2", ",\"num_key_value_heads\":4,\"sliding_window\":4096,"
                    "\"use_sliding_window\":false"),
        OF("qwen2", ",\"num_key_value_heads\":4,\"sliding_window\":4096,"
                    "\"use_sliding_window\":true,\"max_window_layers\":28"),
        OF("qwen2", ",\"num_key_value_heads\":4,\"attention_bias\":true"), /* not its field */
        LLAMA(",\"eos_token_id\":null,\"bos_token_id\":null"),
        LLAMA(",\"eos_token_id\":[]"),
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        parsed(texts[i]);
}

static void reads_rotations(void **state)
{
    (void)state;
    struct rope r = parsed(LLAMA(",\"rope_theta\":5e5,\"rope_scaling\":{" LLAMA3 ","
                                 "\"original_max_position_embeddings\":8192}"))
                        .rope;
    assert_int_equal(r.scaling, ROPE_LLAMA3);
    assert_true(r.theta == 5e5f && r.factor == 8 && r.low_freq_factor == 1);
    assert_true(r.high_freq_factor == 4);
    assert_int_equal(r.original_context, 8192);
    r = parsed(LLAMA(",\"rope_parameters\":{" LLAMA3 ",\"rope_theta\":7e5}")).rope;
    assert_true(r.theta == 7e5f);
    assert_int_equal(r.original_context, 2048); /* the context */
    r = parsed(LLAMA(",\"original_max_position_embeddings\":99,\"rope_parameters\":{" LLAMA3
                     ",\"original_max_position_embeddings\":88}"))
            .rope;
    assert_int_equal(r.original_context, 99);
    r = parsed(LLAMA(",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.5}")).rope;
    assert_int_equal(r.scaling, ROPE_LINEAR);
    assert_true(r.factor == 2.5f && r.theta == 10000);
    /* the older object wins, the theta of either counts */
    r = parsed(LLAMA(",\"rope_theta\":3,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2},"
                     "\"rope_parameters\":{\"rope_type\":\"yarn\",\"rope_theta\":4}"))
            .rope;
    assert_true(r.scaling == ROPE_LINEAR && r.theta == 3);
}

static void reads_ends_of_text(void **state)
{
    (void)state;
    struct err err;
    struct hf_config c = parsed(LLAMA(",\"eos_token_id\":[5,6,5],\"bos_token_id\":null"));
    assert_int_equal(c.n_eos, 2);
    assert_int_equal(c.eos[1], 6);
    assert_int_equal(c.bos, -1);
    static const char generation[] = "{\"bos_token_id\":9,\"eos_token_id\":[6,7],\"top_p\":0.9}";
    assert_ok(hf_config_add_generation(&c, generation, sizeof generation - 1, "g.json", &err), err);
    assert_int_equal(c.n_eos, 3);
    assert_int_equal(c.eos[2], 7);
    assert_int_equal(c.bos, 9);
    static const char bad[] = "{\"eos_token_id\":300}";
    assert_int_equal(hf_config_add_generation(&c, bad, sizeof bad - 1, "g.json", &err),
                     ERR_INVALID);
    assert_says(err, "g.json: field 'eos_token_id' is 300, but must be a token from 0 to 299");
}

/* ---- refused ---- */

static const struct {
    const char *text, *says;
} hostile[] = {
    /* which model */
    {"{" SIZES "}", "'model_type' and 'architectures' are missing"},
    {OF("gpt2", ""), "'model_type' is \"gpt2\", but must be of a model that is supported: llama"},
    {OF("qwen3_moe", ""), "qwen3_moe"},
    {OF("mixtral", ""), "mixtral"},
    {"{\"architectures\":[\"GPT2LMHeadModel\"]}", "'architectures' is [\"GPT2LMHeadModel\"]"},
    {LLAMA(",\"architectures\":[\"LlamaForSequenceClassification\"]"), "LlamaForSequence"},
    {LLAMA(",\"architectures\":[\"LlamaForCausalLM\",\"Other\"]"), "Other"},
    {OF("qwen2", ",\"architectures\":[\"LlamaForCausalLM\"]"), "[\"Qwen2ForCausalLM\"]"},
    {"{\"model_type\":7}", "'model_type' is 7"},
    {OF("ll\\u001bama", ""), "control characters"},
    /* shape */
    {"{\"model_type\":\"llama\"}", "'hidden_size' is missing"},
    {"{\"model_type\":\"llama\",\"hidden_size\":null}", "'hidden_size' is missing"},
    {"{\"model_type\":\"llama\",\"hidden_size\":64}", "'num_hidden_layers' is missing"},
    {"{\"model_type\":\"llama\",\"hidden_size\":1152921504606846976}", "'hidden_size' is 11529"},
    {"{\"model_type\":\"llama\",\"hidden_size\":-64}", "'hidden_size' is -64"},
    {"{\"model_type\":\"llama\",\"hidden_size\":64.0}", "'hidden_size' is 64.0"},
    {"{\"model_type\":\"llama\",\"hidden_size\":\"64\"}", "'hidden_size' is \"64\""},
    {LLAMA(",\"num_key_value_heads\":3"), "'num_key_value_heads' is 3, but must divide"},
    {LLAMA(",\"num_key_value_heads\":8"), "'num_key_value_heads' is 8"},
    {LLAMA(",\"num_key_value_heads\":0"), "'num_key_value_heads' is 0"},
    {OF("mistral", ",\"sliding_window\":null"), "'num_key_value_heads' is 8"}, /* the default */
    {LLAMA(",\"head_dim\":15"), "a head has 15 values"},
    {LLAMA(",\"head_dim\":512"), "'head_dim' is 512"},
    {LLAMA(",\"max_position_embeddings\":0"), "'max_position_embeddings' is 0"},
    {LLAMA(",\"max_position_embeddings\":9223372036854775807"), "'max_position_embeddings'"},
    {LLAMA(",\"rms_norm_eps\":0"), "'rms_norm_eps' is 0"},
    {LLAMA(",\"rms_norm_eps\":1e-86"), "'rms_norm_eps'"}, /* 0 as a float */
    {LLAMA(",\"rms_norm_eps\":1"), "'rms_norm_eps' is 1"},
    {LLAMA(",\"rms_norm_eps\":\"1e-5\""), "'rms_norm_eps'"},
    {"{\"model_type\":\"llama\",\"hidden_size\":66,\"num_hidden_layers\":2,"
     "\"num_attention_heads\":4,\"intermediate_size\":96,\"vocab_size\":300}",
     "'hidden_size' is 66, but must be a multiple of"},
    {"{\"model_type\":\"llama\",\"hidden_size\":2048,\"num_hidden_layers\":2,"
     "\"num_attention_heads\":4,\"intermediate_size\":96,\"vocab_size\":300}",
     "a head has 512 values"},
    /* rotation */
    {LLAMA(",\"rope_theta\":0"), "'rope_theta' is 0"},
    {LLAMA(",\"rope_theta\":0.5"), "'rope_theta' is 0.5, but must be at least 1"},
    {LLAMA(",\"rope_theta\":1e300"), "'rope_theta'"},
    {LLAMA(",\"rope_scaling\":\"linear\""), "'rope_scaling' is \"linear\", but must be an object"},
    {LLAMA(",\"rope_scaling\":{\"type\":\"linear\"}"), "'rope_scaling': field 'factor' is missing"},
    {LLAMA(",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}"), "'factor' is 0"},
    {LLAMA(",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2}"), "type 'yarn' is not supported"},
    {LLAMA(",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}"), "type 'dynamic'"},
    {LLAMA(",\"rope_scaling\":{\"rope_type\":\"longrope\"}"), "type 'longrope'"},
    {LLAMA(",\"rope_scaling\":{\"rope_type\":\"mrope\"}"), "type 'mrope'"},
    {LLAMA(",\"rope_parameters\":{\"rope_type\":\"yarn\"}"), "'rope_parameters': rope scaling of"},
    {LLAMA(",\"rope_scaling\":{\"type\":\"linear\",\"rope_type\":\"llama3\"}"), "'llama3' and"},
    {LLAMA(",\"rope_scaling\":{\"type\":7}"), "'type' is 7"},
    {LLAMA(",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}"), "'low_freq_factor'"},
    {LLAMA(",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
           "\"high_freq_factor\":4}"),
     "are 4 and 4, but must be above 0 and rise"},
    {LLAMA(",\"rope_scaling\":{" LLAMA3 ",\"original_max_position_embeddings\":0}"), "is 0"},
    {LLAMA(",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1}}"), "layer to layer"},
    {LLAMA(",\"partial_rotary_factor\":0.5"), "'partial_rotary_factor' is 0.5"},
    {LLAMA(",\"rope_parameters\":{\"partial_rotary_factor\":0.5}"), "'partial_rotary_factor'"},
    /* what is not supported */
    {OF("mistral", ",\"num_key_value_heads\":4,\"sliding_window\":4096,"
                   "\"max_position_embeddings\":32768"),
     "sliding window of 4096 is not supported yet"},
    {OF("mistral", ",\"num_key_value_heads\":4"), "sliding window of 4096"}, /* the default */
    {OF("mistral", ",\"num_key_value_heads\":4,\"sliding_window\":-1"), "'sliding_window' is -1"},
    {OF("qwen2", ",\"num_key_value_heads\":4,\"use_sliding_window\":true,\"max_window_layers\":1"),
     "sliding window of 4096"},
    {OF("qwen3", ",\"num_key_value_heads\":4,\"layer_types\":[\"full_attention\","
                 "\"sliding_attention\"]"),
     "'layer_types' is \"sliding_attention\""},
    {LLAMA(",\"layer_types\":[7]"), "'layer_types' is 7"},
    {LLAMA(",\"hidden_act\":\"gelu\""), "'hidden_act' is 'gelu', but only silu"},
    {LLAMA(",\"quantization_config\":{\"quant_method\":\"gptq\"}"), "quantised by 'gptq'"},
    {LLAMA(",\"quantization_config\":{}"), "quantised by 'unknown'"},
    {LLAMA(",\"attention_bias\":true"), "'attention_bias' is true"},
    {OF("qwen3", ",\"num_key_value_heads\":4,\"attention_bias\":true"), "'attention_bias' is true"},
    {LLAMA(",\"mlp_bias\":true"), "'mlp_bias' is true"},
    {LLAMA(",\"mlp_bias\":1"), "'mlp_bias' is 1"},
    {LLAMA(",\"tie_word_embeddings\":\"yes\""), "'tie_word_embeddings' is \"yes\""},
    {OF("mtp_llama", ",\"prediction_heads\":0"), "'prediction_heads' is 0"},
    {OF("mtp_llama", ",\"prediction_heads\":33"), "'prediction_heads' is 33"},
    /* tokens */
    {LLAMA(",\"eos_token_id\":300"), "'eos_token_id' is 300, but must be a token from 0 to 299"},
    {LLAMA(",\"eos_token_id\":-1"), "'eos_token_id' is -1"},
    {LLAMA(",\"eos_token_id\":[1,\"2\"]"), "'eos_token_id' is \"2\""},
    {LLAMA(",\"eos_token_id\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]"), "more than 16"},
    {LLAMA(",\"bos_token_id\":300"), "'bos_token_id' is 300"},
    /* not a config */
    {"", "not JSON"},
    {"[]", "one JSON object"},
    {LLAMA("") "x", "not JSON"},
    {LLAMA(",\"vocab_size\":2"), "duplicate"},
};

static void refuses_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        struct hf_config c;
        struct err err = {""};
        if (parse(hostile[i].text, &c, &err) != ERR_INVALID)
            fail_msg("%s is not refused", hostile[i].text);
        assert_says(err, hostile[i].says);
        assert_says(err, "here.json");
    }
}

static void read_names_the_path(void **state)
{
    (void)state;
    struct hf_config c;
    struct err err;
    assert_int_equal(hf_config_read(&c, "/nowhere", &err), ERR_IO);
    assert_says(err, "/nowhere/config.json");
}

static void damage_never_crashes(void **state)
{
    (void)state;
    static const char text[] = LLAMA(",\"rope_scaling\":{" LLAMA3 "},\"eos_token_id\":[1,2],"
                                     "\"head_dim\":16,\"rms_norm_eps\":1e-5");
    size_t accepted = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        struct hf_config c;
        struct err err;
        char copy[sizeof text];
        memcpy(copy, text, sizeof text);
        if (i < sizeof text) /* first every prefix */
            copy[i] = '\0';
        else
            for (uint64_t k = 0; k < 1 + i % 3; k++)
                copy[rng_below(71, k, i, sizeof text - 1)] ^= (char)(1 << rng_below(72, k, i, 8));
        accepted += !parse(copy, &c, &err);
    }
    assert_in_range(accepted, 500, 19500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_transformers_saved),
        cmocka_unit_test(has_the_defaults_of_transformers),
        cmocka_unit_test(takes_what_is_allowed),
        cmocka_unit_test(reads_rotations),
        cmocka_unit_test(reads_ends_of_text),
        cmocka_unit_test(refuses_by_name),
        cmocka_unit_test(read_names_the_path),
        cmocka_unit_test(damage_never_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
