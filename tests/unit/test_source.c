/* GGUF files as models: what a small one is read as, and, change by change, how what is broken or
 * not supported is refused by name. */
#include "weights/source.h"

#include <math.h>

#include "base/rng.h"
#include "text/tokenizer.h"
#include "tests/unit/gguf_maker.h"
#include "weights/source_backends.h"

/* ---- a small model, of which one thing is changed ---- */

enum { DIM = 32, HEADS = 2, KV_HEADS = 1, HEAD_DIM = 32, HIDDEN = 48, TOKENS = 10 };

/* The value or the tensor of this name is left out; the test puts its own in its place. */
struct change {
    const char *arch, *without;
    bool with_output;
};

static bool wanted(const struct change *c, const char *name)
{
    return !c->without || strcmp(c->without, name);
}

static void number(struct gguf_maker *m, const struct change *c, const char *name, int64_t value)
{
    char key[80];
    snprintf(key, sizeof key, "%s.%s", c->arch, name);
    if (wanted(c, name))
        maker_int(m, key, GGUF_U32, value);
}

static void matrix(struct gguf_maker *m, const struct change *c, const char *name, uint64_t inputs,
                   uint64_t outputs)
{
    uint64_t dims[] = {inputs, outputs};
    if (wanted(c, name))
        maker_tensor(m, name, 1, outputs ? 2 : 1, dims, NULL, inputs * (outputs ? outputs : 1) * 2);
}

static void shape(struct gguf_maker *m, const struct change *c)
{
    char key[80];
    if (wanted(c, "general.architecture"))
        maker_string(m, "general.architecture", c->arch);
    number(m, c, "block_count", 1);
    number(m, c, "context_length", 64);
    number(m, c, "embedding_length", DIM);
    number(m, c, "feed_forward_length", HIDDEN);
    number(m, c, "attention.head_count", HEADS);
    number(m, c, "attention.head_count_kv", KV_HEADS);
    number(m, c, "attention.key_length", HEAD_DIM);
    number(m, c, "attention.value_length", HEAD_DIM);
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", c->arch);
    if (wanted(c, "attention.layer_norm_rms_epsilon"))
        maker_real(m, key, 1e-6);
    snprintf(key, sizeof key, "%s.rope.freq_base", c->arch);
    if (wanted(c, "rope.freq_base"))
        maker_real(m, key, 5000);
}

static void strings(struct gguf_maker *m, const char *key, const char *const *texts, size_t n)
{
    maker_array(m, key, GGUF_STRING, n);
    for (size_t i = 0; i < n; i++)
        put_text(&m->values, texts[i], strlen(texts[i]));
}

static void tokens(struct gguf_maker *m, const struct change *c)
{
    static const char *const texts[TOKENS] = {"a",  "b",  "c",     "ab",       "\xc4\xa0",
                                              "bc", "ca", "<end>", "<|turn|>", "<odd>"};
    static const char *const merges[] = {"a b", "b c", "c a"};
    /* A mark between messages is control, though some files call it user-defined. */
    static const int32_t types[TOKENS] = {1, 1, 1, 1, 1, 1, 1, 3, 4, 4};
    if (wanted(c, "tokenizer.ggml.model"))
        maker_string(m, "tokenizer.ggml.model", "gpt2");
    if (wanted(c, "tokenizer.ggml.pre"))
        maker_string(m, "tokenizer.ggml.pre", "smollm");
    if (wanted(c, "tokenizer.ggml.tokens"))
        strings(m, "tokenizer.ggml.tokens", texts, TOKENS);
    if (wanted(c, "tokenizer.ggml.merges"))
        strings(m, "tokenizer.ggml.merges", merges, 3);
    if (wanted(c, "tokenizer.ggml.token_type")) {
        maker_array(m, "tokenizer.ggml.token_type", GGUF_I32, TOKENS);
        for (int i = 0; i < TOKENS; i++)
            put_le(&m->values, (uint64_t)types[i], 4);
    }
    if (wanted(c, "tokenizer.ggml.bos_token_id"))
        maker_int(m, "tokenizer.ggml.bos_token_id", GGUF_U32, 7);
    if (wanted(c, "tokenizer.ggml.eos_token_id"))
        maker_int(m, "tokenizer.ggml.eos_token_id", GGUF_U32, 7);
    if (wanted(c, "tokenizer.ggml.eot_token_id"))
        maker_int(m, "tokenizer.ggml.eot_token_id", GGUF_U32, 8);
    if (wanted(c, "tokenizer.chat_template"))
        maker_string(m, "tokenizer.chat_template", "{{ bos_token }}");
}

static void tensors(struct gguf_maker *m, const struct change *c)
{
    int queries = HEADS * HEAD_DIM, kv = KV_HEADS * HEAD_DIM;
    matrix(m, c, "token_embd.weight", DIM, TOKENS);
    matrix(m, c, "output_norm.weight", DIM, 0);
    if (c->with_output)
        matrix(m, c, "output.weight", DIM, TOKENS);
    matrix(m, c, "blk.0.attn_norm.weight", DIM, 0);
    matrix(m, c, "blk.0.ffn_norm.weight", DIM, 0);
    matrix(m, c, "blk.0.attn_q.weight", DIM, (uint64_t)queries);
    matrix(m, c, "blk.0.attn_k.weight", DIM, (uint64_t)kv);
    matrix(m, c, "blk.0.attn_v.weight", DIM, (uint64_t)kv);
    matrix(m, c, "blk.0.attn_output.weight", (uint64_t)queries, DIM);
    matrix(m, c, "blk.0.ffn_gate.weight", DIM, HIDDEN);
    matrix(m, c, "blk.0.ffn_up.weight", DIM, HIDDEN);
    matrix(m, c, "blk.0.ffn_down.weight", HIDDEN, DIM);
    if (!strcmp(c->arch, "qwen2")) {
        matrix(m, c, "blk.0.attn_q.bias", (uint64_t)queries, 0);
        matrix(m, c, "blk.0.attn_k.bias", (uint64_t)kv, 0);
        matrix(m, c, "blk.0.attn_v.bias", (uint64_t)kv, 0);
    }
    if (!strcmp(c->arch, "qwen3")) {
        matrix(m, c, "blk.0.attn_q_norm.weight", HEAD_DIM, 0);
        matrix(m, c, "blk.0.attn_k_norm.weight", HEAD_DIM, 0);
    }
}

static void fill(struct gguf_maker *m, const struct change *c)
{
    shape(m, c);
    tokens(m, c);
    tensors(m, c);
}

/* An open source and the file that it points into. */
struct opened {
    struct source source;
    unsigned char *bytes;
};

static int open_end(struct opened *o, struct gguf_maker *m, struct err *err)
{
    size_t size;
    o->bytes = maker_end(m, &size);
    int rc = gguf_source_parse(&o->source, o->bytes, size, "here.gguf", err);
    if (rc)
        free(o->bytes);
    return rc;
}

static void opened_free(struct opened *o)
{
    source_release(&o->source);
    free(o->bytes);
}

static struct gguf_maker changed(const char *arch, const char *without)
{
    struct gguf_maker m = {0};
    fill(&m, &(struct change){arch, without, true});
    return m;
}

/* ---- what is read ---- */

static void reads_the_shape(void **state)
{
    static const char *const arches[] = {"llama", "qwen2", "qwen3"};
    (void)state;
    for (int i = 0; i < 6; i++) {
        struct gguf_maker m = {0};
        struct opened o;
        struct err err;
        fill(&m, &(struct change){arches[i / 2], "none", i % 2});
        assert_ok(open_end(&o, &m, &err), err);
        const struct config *c = &o.source.config;
        assert_true(c->dim == DIM && c->n_layers == 1 && c->n_heads == HEADS);
        assert_true(c->n_kv_heads == KV_HEADS && c->head_dim == HEAD_DIM && c->hidden == HIDDEN);
        assert_true(c->vocab == TOKENS && c->context == 64 && c->norm_eps == 1e-6f);
        assert_true(c->rope_theta == 5000 && c->bos == 7 && c->eos == 7 && c->next_is_trunk);
        assert_int_equal(c->tied, i % 2 == 0);
        assert_int_equal(c->qkv_bias, i / 2 == 1);
        assert_int_equal(c->qk_norm, i / 2 == 2);
        assert_int_equal(c->rope_factors, false);
        opened_free(&o);
    }
}

static void what_is_absent_has_a_default(void **state)
{
    struct opened o;
    struct err err;
    (void)state;
    struct gguf_maker m = changed("llama", "rope.freq_base");
    assert_ok(open_end(&o, &m, &err), err);
    assert_true(o.source.config.rope_theta == 10000);
    opened_free(&o);
    static const char *const ends[] = {"tokenizer.ggml.bos_token_id",
                                       "tokenizer.ggml.eos_token_id"};
    for (int i = 0; i < 2; i++)
        for (int with = 0; with < 2; with++) {
            m = changed("llama", ends[i]);
            if (with) /* how some files write: none */
                maker_int(&m, ends[i], GGUF_U32, 4294967295);
            assert_ok(open_end(&o, &m, &err), err);
            assert_int_equal(i ? o.source.config.eos : o.source.config.bos, -1);
            opened_free(&o);
        }
}

static int find(const struct opened *o, enum role role, int n_dims, size_t rows, size_t inputs,
                struct matrix *m, struct err *err)
{
    size_t shape[] = {n_dims == 2 ? rows : inputs, inputs};
    return source_find(&o->source, &(struct place){role, -1, 0}, n_dims, shape, m, err);
}

/* Rows of queries and keys, their biases and norms are marked where they are in halves. */
static void only_what_is_rotated_in_halves_is_split(void **state)
{
    static const struct {
        enum role role;
        int n_dims, rows, inputs;
        bool rotated;
    } parts[] = {
        {ROLE_WQ, 2, HEADS * HEAD_DIM, DIM, true}, {ROLE_WK, 2, HEAD_DIM, DIM, true},
        {ROLE_WV, 2, HEAD_DIM, DIM, false},        {ROLE_WO, 2, DIM, HEADS * HEAD_DIM, false},
        {ROLE_W1, 2, HIDDEN, DIM, false},          {ROLE_W3, 2, HIDDEN, DIM, false},
        {ROLE_W2, 2, DIM, HIDDEN, false},          {ROLE_EMBED, 2, TOKENS, DIM, false},
        {ROLE_OUTPUT, 2, TOKENS, DIM, false},      {ROLE_NORM, 1, 1, DIM, false},
        {ROLE_ATTN_NORM, 1, 1, DIM, false},        {ROLE_FFN_NORM, 1, 1, DIM, false},
        {ROLE_BQ, 1, 1, HEADS * HEAD_DIM, true},   {ROLE_BK, 1, 1, HEAD_DIM, true},
        {ROLE_BV, 1, 1, HEAD_DIM, false},          {ROLE_Q_NORM, 1, 1, HEAD_DIM, true},
        {ROLE_K_NORM, 1, 1, HEAD_DIM, true}};
    static const char *const arches[] = {"llama", "qwen2", "qwen3"};
    (void)state;
    for (int a = 0; a < 3; a++) {
        struct gguf_maker made = changed(arches[a], NULL);
        struct opened o;
        struct matrix m;
        struct err err;
        assert_ok(open_end(&o, &made, &err), err);
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            enum role role = parts[i].role;
            int rc = find(&o, role, parts[i].n_dims, (size_t)parts[i].rows, (size_t)parts[i].inputs,
                          &m, &err);
            bool there = role < ROLE_BQ || (role <= ROLE_BV ? a == 1 : a == 2);
            assert_int_equal(rc, there ? 0 : ERR_INVALID);
            if (there) {
                assert_int_equal(m.half_split, a > 0 && parts[i].rotated ? HEAD_DIM : 0);
                assert_int_equal(m.type, WEIGHT_F16);
            } else {
                assert_says(err, "is missing");
            }
        }
        opened_free(&o);
    }
}

static void scaled_rotation(void **state)
{
    float factors[HEAD_DIM / 2];
    struct gguf_maker made = changed("llama", NULL);
    struct opened o;
    struct matrix m;
    struct err err;
    (void)state;
    maker_string(&made, "llama.rope.scaling.type", "linear");
    maker_real(&made, "llama.rope.scaling.factor", 4);
    assert_ok(open_end(&o, &made, &err), err);
    assert_true(o.source.config.rope_factors);
    assert_ok(find(&o, ROLE_ROPE_FACTORS, 1, 1, HEAD_DIM / 2, &m, &err), err);
    matrix_row(&m, 0, factors);
    for (int i = 0; i < HEAD_DIM / 2; i++)
        assert_true(factors[i] == 4);
    opened_free(&o);
    /* None by name, or by a factor of 1. */
    for (int i = 0; i < 3; i++) {
        made = changed("llama", NULL);
        if (i)
            maker_string(&made, "llama.rope.scaling.type", i == 1 ? "none" : "linear");
        maker_real(&made, "llama.rope.scaling.factor", i == 1 ? 4 : i);
        if (i == 2)
            made.values.len -= 4, put_le(&made.values, 0x3f800000, 4); /* 1 */
        assert_ok(open_end(&o, &made, &err), err);
        assert_false(o.source.config.rope_factors);
        opened_free(&o);
    }
    /* By the factors of a tensor. */
    made = changed("llama", NULL);
    float own[HEAD_DIM / 2] = {1, 2, 3};
    maker_tensor(&made, "rope_freqs.weight", 0, 1, (const uint64_t[]){HEAD_DIM / 2}, own,
                 sizeof own);
    assert_ok(open_end(&o, &made, &err), err);
    assert_true(o.source.config.rope_factors);
    assert_ok(find(&o, ROLE_ROPE_FACTORS, 1, 1, HEAD_DIM / 2, &m, &err), err);
    matrix_row(&m, 0, factors);
    assert_memory_equal(factors, own, sizeof own);
    opened_free(&o);
}

static void reads_the_tokens(void **state)
{
    struct gguf_maker made = changed("llama", NULL);
    struct opened o;
    struct vocab v = {0};
    struct buf text = {0};
    struct err err;
    (void)state;
    assert_ok(open_end(&o, &made, &err), err);
    assert_ok(source_vocab(&o.source, &v, &err), err);
    assert_true(v.kind == VOCAB_BPE && v.n_tokens == TOKENS && v.n_merges == 3);
    assert_true(v.bos == 7 && v.eos == 7 && v.n_ends == 2 && v.ends[0] == 7 && v.ends[1] == 8);
    assert_string_equal(v.rules.pre, "smollm");
    static const enum token_kind kinds[] = {TOKEN_TEXT, TOKEN_CONTROL, TOKEN_CONTROL, TOKEN_ADDED};
    for (int i = 0; i < 4; i++)
        assert_int_equal(v.tokens[6 + i].kind, kinds[i]);
    assert_memory_equal(v.strings.data + v.tokens[3].text, "ab", 2);
    assert_memory_equal(v.strings.data + v.merges[2].text, "ca", 2);
    assert_true(v.merges[2].left_len == 1 && v.merges[2].right_len == 1);
    assert_ok(source_template(&o.source, &text, &err), err);
    assert_string_equal(text.data, "{{ bos_token }}");
    buf_release(&text);
    vocab_release(&v);
    opened_free(&o);
}

/* ---- what is refused ---- */

static void refuse(struct gguf_maker *m, const char *says)
{
    struct opened o;
    struct err err = {""};
    if (open_end(&o, m, &err) != ERR_INVALID)
        fail_msg("not refused: should say '%s'", says);
    assert_says(err, "here.gguf");
    assert_says(err, says);
}

static void refuses_missing_keys(void **state)
{
    static const char *const keys[] = {"general.architecture", "block_count",
                                       "context_length",       "embedding_length",
                                       "feed_forward_length",  "attention.head_count",
                                       "token_embd.weight",    "attention.layer_norm_rms_epsilon"};
    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct gguf_maker m = changed("llama", keys[i]);
        refuse(&m, keys[i]);
    }
}

static void refuses_what_is_not_supported(void **state)
{
    static const struct {
        const char *without, *key;
        int64_t value;
        const char *text; /* or, when given, that */
        const char *says;
    } table[] = {
        {NULL, "qwen2.expert_count", 8, NULL, "8 experts"},
        {NULL, "qwen2.nextn_predict_layers", 1, NULL, "1 next-token layers"},
        {NULL, "qwen2.nextn_predict_layers", 2, NULL, "2 next-token layers"},
        {NULL, "qwen2.attention.sliding_window", 32, NULL, "sliding window of 32"},
        {NULL, "qwen2.rope.scaling.type", 0, "yarn", "'qwen2.rope.scaling.type' is 'yarn'"},
        {NULL, "qwen2.rope.scaling.type", 0, "longrope", "'longrope'"},
        {NULL, "qwen2.rope.scaling.type", 0, "", "''"},
        {NULL, "qwen2.rope.dimension_count", 16, NULL, "16 rotated dimensions"},
        {"attention.value_length", "qwen2.attention.value_length", 64, NULL, "values of 64"},
        {"attention.head_count", "qwen2.attention.head_count", 3, NULL, "shape"},
        {"attention.head_count", "qwen2.attention.head_count", 0, NULL, "n_heads"},
        {"attention.head_count", "qwen2.attention.head_count", 1LL << 40, NULL, "too large"},
        {"attention.head_count_kv", "qwen2.attention.head_count_kv", 3, NULL, "n_kv_heads"},
        {"attention.key_length", "qwen2.attention.key_length", 24, NULL, "24"},
        {"embedding_length", "qwen2.embedding_length", 24, NULL, "'dim'"},
        {"embedding_length", "qwen2.embedding_length", 0, "32", "whole number"},
        {"block_count", "qwen2.block_count", 100000, NULL, "n_layers"},
        {"block_count", "qwen2.block_count", 0, NULL, "belongs to no part"},
        {"general.architecture", "general.architecture", 0, "mamba", "'mamba'"},
        {"general.architecture", "general.architecture", 0, "llama4", "'llama4'"},
        {"general.architecture", "general.architecture", 0, "", "''"},
        {"general.architecture", "general.architecture", 3, NULL, "a string"},
        {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eos_token_id", 10, NULL, "eos"},
        {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.bos_token_id", 11, NULL, "bos"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct gguf_maker m = changed("qwen2", table[i].without);
        if (table[i].text)
            maker_string(&m, table[i].key, table[i].text);
        else
            maker_int(&m, table[i].key, GGUF_U64, table[i].value);
        struct opened o;
        struct err err;
        if (!strcmp(table[i].says, "shape")) { /* seen when its tensors are looked up */
            struct matrix matrix;
            assert_ok(open_end(&o, &m, &err), err);
            assert_int_equal(find(&o, ROLE_WQ, 2, 3 * HEAD_DIM, DIM, &matrix, &err), ERR_INVALID);
            assert_says(err, "'blk.0.attn_q.weight' has 64 rows of 32");
            assert_says(err, "must have 96 rows of 32");
            opened_free(&o);
            continue;
        }
        refuse(&m, table[i].says);
    }
    /* A window that is never full is none. */
    struct gguf_maker m = changed("qwen2", NULL);
    struct opened o;
    struct err err;
    maker_int(&m, "qwen2.attention.sliding_window", GGUF_U32, 64);
    assert_ok(open_end(&o, &m, &err), err);
    opened_free(&o);
    /* A factor that makes no sense, or beside factors of a tensor. */
    static const double factors[] = {-1, 1e9, INFINITY, NAN};
    for (size_t i = 0; i < 4; i++) {
        m = changed("qwen2", NULL);
        maker_real(&m, "qwen2.rope.scaling.factor", factors[i]);
        refuse(&m, "'qwen2.rope.scaling.factor'");
    }
    m = changed("qwen2", NULL);
    maker_real(&m, "qwen2.rope.scaling.factor", 2);
    maker_tensor(&m, "rope_freqs.weight", 0, 1, (const uint64_t[]){HEAD_DIM / 2}, NULL, 64);
    refuse(&m, "beside tensor 'rope_freqs.weight'");
}

/* A part of the model that would be left out of what it computes. */
static void refuses_tensors_that_nobody_reads(void **state)
{
    static const char *const odd[] = {"blk.0.attn_output.bias",        "blk.0.ffn_gate_inp.weight",
                                      "blk.1.attn_q.weight",           "blk.-1.attn_q.weight",
                                      "blk.00.attn_q.weight",          "blk.0.attn_q.weight.scale",
                                      "blk.99999999999.attn_k.weight", "cls.weight",
                                      "blk.0.attn_k_norm.weight",      "blk.0.attn_k.bias"};
    (void)state;
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        struct gguf_maker m = changed("llama", NULL);
        maker_tensor(&m, odd[i], 0, 1, (const uint64_t[]){DIM}, NULL, 4 * DIM);
        refuse(&m, odd[i]);
    }
}

static void expect_tensor(const char *name, uint32_t type, uint32_t n_dims, uint64_t inputs,
                          uint64_t outputs, const char *says)
{
    struct gguf_maker made = changed("llama", name);
    uint64_t dims[] = {inputs, outputs, 1, 1};
    struct opened o;
    struct matrix m;
    struct err err;
    maker_tensor(&made, name, type, n_dims, dims, NULL, 16384);
    assert_ok(open_end(&o, &made, &err), err);
    int rc = strstr(name, "norm") ? find(&o, ROLE_ATTN_NORM, 1, 1, DIM, &m, &err)
                                  : find(&o, ROLE_WV, 2, HEAD_DIM, DIM, &m, &err);
    assert_int_equal(rc, ERR_INVALID);
    assert_says(err, "here.gguf");
    assert_says(err, name);
    assert_says(err, says);
    opened_free(&o);
}

static void refuses_tensors_of_other_shapes_and_types(void **state)
{
    struct gguf_maker made = changed("llama", "blk.0.attn_v.weight");
    struct opened o;
    struct matrix m;
    struct err err;
    (void)state;
    assert_ok(open_end(&o, &made, &err), err);
    assert_int_equal(find(&o, ROLE_WV, 2, HEAD_DIM, DIM, &m, &err), ERR_INVALID);
    assert_says(err, "'blk.0.attn_v.weight' is missing");
    /* Of a head: there are none. */
    struct place place = {ROLE_HEAD_LINEAR, 1, 0};
    assert_int_equal(source_find(&o.source, &place, 2, (size_t[]){DIM, DIM}, &m, &err),
                     ERR_INVALID);
    assert_says(err, "'heads.1.linear.weight' is missing");
    opened_free(&o);
    expect_tensor("blk.0.attn_v.weight", 1, 2, DIM, HEAD_DIM + 1, "33 rows of 32");
    expect_tensor("blk.0.attn_v.weight", 1, 2, DIM + 16, HEAD_DIM, "32 rows of 48");
    expect_tensor("blk.0.attn_v.weight", 1, 1, DIM, 1, "1 dimensions");
    expect_tensor("blk.0.attn_v.weight", 1, 3, DIM, HEAD_DIM, "3 dimensions");
    expect_tensor("blk.0.attn_v.weight", 20, 2, DIM, HEAD_DIM, "IQ4_NL (20)");
    expect_tensor("blk.0.attn_v.weight", 23, 2, DIM, HEAD_DIM, "IQ4_XS (23)");
    expect_tensor("blk.0.attn_v.weight", 39, 2, DIM, HEAD_DIM, "MXFP4");
    expect_tensor("blk.0.attn_v.weight", 77, 2, DIM, HEAD_DIM, "unknown (77)");
    expect_tensor("blk.0.attn_norm.weight", 8, 1, DIM, 1, "only matrices");
    expect_tensor("blk.0.attn_norm.weight", 0, 2, DIM, 1, "2 dimensions");
    expect_tensor("blk.0.attn_norm.weight", 0, 1, DIM + 16, 1, "1 rows of 48");
}

/* The tokens of a file with one key replaced. */
static void refuse_tokens(struct gguf_maker *m, const char *says)
{
    struct opened o;
    struct vocab v = {0};
    struct err err = {""};
    assert_ok(open_end(&o, m, &err), err);
    if (source_vocab(&o.source, &v, &err) != ERR_INVALID)
        fail_msg("not refused: should say '%s'", says);
    assert_says(err, "here.gguf");
    assert_says(err, says);
    vocab_release(&v);
    opened_free(&o);
}

static void refuses_odd_tokens(void **state)
{
    static const char *const needed[] = {"tokenizer.ggml.model", "tokenizer.ggml.tokens",
                                         "tokenizer.ggml.merges"};
    struct gguf_maker m;
    (void)state;
    for (int i = 0; i < 3; i++) {
        m = changed("llama", needed[i]);
        refuse_tokens(&m, needed[i]);
    }
    m = changed("llama", "tokenizer.ggml.model");
    maker_string(&m, "tokenizer.ggml.model", "t5");
    refuse_tokens(&m, "'t5'");
    m = changed("llama", "tokenizer.ggml.pre");
    maker_string(&m, "tokenizer.ggml.pre", "martian");
    refuse_tokens(&m, "martian");
    m = changed("llama", "tokenizer.ggml.token_type");
    maker_array(&m, "tokenizer.ggml.token_type", GGUF_I32, TOKENS - 1);
    put_le(&m.values, 0, 4 * (TOKENS - 1));
    refuse_tokens(&m, "10 tokens, 9 types");
    m = changed("llama", NULL);
    maker_array(&m, "tokenizer.ggml.scores", GGUF_F32, TOKENS + 1);
    put_le(&m.values, 0, 4 * (TOKENS + 1));
    refuse_tokens(&m, "11 scores");
    static const uint32_t types[] = {7, 100, UINT32_MAX, 0x80000000};
    for (int i = 0; i < 4; i++) {
        m = changed("llama", "tokenizer.ggml.token_type");
        maker_array(&m, "tokenizer.ggml.token_type", GGUF_I32, TOKENS);
        put_le(&m.values, types[i], 4);
        put_le(&m.values, 0, 4 * (TOKENS - 1));
        refuse_tokens(&m, "token 0 is of type");
    }
    m = changed("llama", "tokenizer.ggml.merges");
    strings(&m, "tokenizer.ggml.merges", (const char *const[]){"a b", "bc"}, 2);
    refuse_tokens(&m, "merge 1, 'bc', has no space");
    m = changed("llama", "tokenizer.ggml.merges");
    strings(&m, "tokenizer.ggml.merges", (const char *const[]){""}, 1);
    refuse_tokens(&m, "has no space");
    m = changed("llama", "tokenizer.ggml.tokens");
    maker_string(&m, "tokenizer.ggml.tokens", "a b c");
    refuse_tokens(&m, "array of the right type");
    m = changed("llama", "tokenizer.ggml.eot_token_id");
    maker_int(&m, "tokenizer.ggml.eot_token_id", GGUF_U32, TOKENS);
    refuse_tokens(&m, "10");
    m = changed("llama", NULL);
    maker_int(&m, "tokenizer.ggml.add_bos_token", GGUF_U32, 1);
    refuse_tokens(&m, "true or false");
}

/* Whatever the tokens say, a tokenizer is made of them or refuses: it never crashes. */
static void damage_never_crashes(void **state)
{
    struct gguf_maker m = changed("qwen3", NULL);
    size_t size;
    (void)state;
    unsigned char *bytes = maker_end(&m, &size), *damaged = malloc(size);
    assert_non_null(damaged);
    uint64_t seed = 1;
    for (int i = 0; i < 3000; i++) {
        struct source source;
        struct vocab v = {0};
        struct tokenizer *t = NULL;
        memcpy(damaged, bytes, size);
        for (int k = 0; k <= i % 3; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            damaged[(seed >> 33) % (size < 2600 ? size : 2600)] ^=
                (unsigned char)(1 << (seed >> 20) % 8);
        }
        if (gguf_source_parse(&source, damaged, size, "here.gguf", NULL))
            continue;
        if (!source_vocab(&source, &v, NULL))
            tokenizer_init(&t, &v, NULL);
        tokenizer_free(t);
        vocab_release(&v);
        source_release(&source);
    }
    free(damaged);
    free(bytes);
}

/* Rows of random bytes, of every type: what is found without decoding is what decoding shows. */
static void rows_with_infinite_numbers_are_found(void **state)
{
    (void)state;
    enum { ROWS = 400, INPUTS = 256 };
    static unsigned char bytes[ROWS * INPUTS * 4];
    for (int type = 0; type < WEIGHT_TYPES; type++) {
        int broken = 0;
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (unsigned char)rng_below(3, (uint64_t)type, i, 256);
        const struct matrix m = {
            .type = (enum weight_type)type, .data = bytes, .rows = ROWS, .inputs = INPUTS};
        for (size_t r = 0; r < ROWS; r++) {
            float row[INPUTS];
            bool finite = true;
            if (block_format(m.type)->inputs == 1) /* one in three rows has such numbers */
                for (size_t i = 0; r % 3 && i < matrix_row_bytes(&m); i++)
                    bytes[r * matrix_row_bytes(&m) + i] &= 0xbf;
            matrix_row(&m, r, row);
            for (int i = 0; i < INPUTS; i++)
                finite &= isfinite(row[i]);
            assert_int_equal(matrix_row_finite(&m, r), finite);
            broken += !finite;
        }
        print_message("type %d: %d of %d rows\n", type, broken, ROWS);
        assert_in_range(broken, 1, ROWS - 1);
    }
}

static void refuses_what_is_no_model(void **state)
{
    struct source source;
    struct folder folder;
    struct err err;
    (void)state;
    folder_make(&folder);
    const char *path = folder_file(&folder, "model.bin");
    assert_int_equal(source_open(&source, path, &err), ERR_IO);
    assert_says(err, path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs("GGUF", f);
    fclose(f);
    assert_int_equal(source_open(&source, path, &err), ERR_INVALID);
    assert_says(err, "neither a .gguf file nor a folder");
    assert_int_equal(source_open(&source, folder.path, &err), ERR_IO);
    assert_says(err, "config.json");
    folder_remove(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_shape),
        cmocka_unit_test(rows_with_infinite_numbers_are_found),
        cmocka_unit_test(what_is_absent_has_a_default),
        cmocka_unit_test(only_what_is_rotated_in_halves_is_split),
        cmocka_unit_test(scaled_rotation),
        cmocka_unit_test(reads_the_tokens),
        cmocka_unit_test(refuses_missing_keys),
        cmocka_unit_test(refuses_what_is_not_supported),
        cmocka_unit_test(refuses_tensors_that_nobody_reads),
        cmocka_unit_test(refuses_tensors_of_other_shapes_and_types),
        cmocka_unit_test(refuses_odd_tokens),
        cmocka_unit_test(damage_never_crashes),
        cmocka_unit_test(refuses_what_is_no_model),
    };
    return cmocka_run_group_tests_name("source", tests, NULL, NULL);
}
