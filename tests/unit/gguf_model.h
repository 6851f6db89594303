/* GGUF models of random weights in any types, with a vocabulary of a real size: tokens 0..255 are
 * the bytes, 256 ends a text, the others are words. */
#ifndef TESTS_UNIT_GGUF_MODEL_H
#define TESTS_UNIT_GGUF_MODEL_H

#include "tests/unit/gguf_maker.h"
#include "tests/unit/matrices.h"
#include "text/vocab.h"

struct gguf_shape {
    const char *arch;
    int dim, layers, heads, kv_heads, head_dim, hidden, vocab;
    enum weight_type embed, output, q, k, v, o, gate, up, down; /* output WEIGHT_TYPES: tied */
};

static inline uint32_t ggml_of_type(enum weight_type type)
{
    uint32_t number = 0;
    while (block_type_of_ggml(number) != (int)type)
        number++;
    return number;
}

static inline void model_matrix(struct gguf_maker *m, struct draws *d, const char *name,
                                enum weight_type type, int rows, int inputs)
{
    struct drawn x;
    uint64_t dims[] = {(uint64_t)inputs, (uint64_t)rows};
    char full[80];
    snprintf(full, sizeof full, "%s.weight", name);
    drawn_bytes(&x, d, type, (size_t)rows, (size_t)inputs);
    maker_tensor(m, full, ggml_of_type(type), 2, dims, x.m.data,
                 (size_t)rows * matrix_row_bytes(&x.m));
    drawn_free(&x);
}

static inline void model_vector(struct gguf_maker *m, struct draws *d, const char *name, int n,
                                double mean, double deviation)
{
    uint64_t dims[] = {(uint64_t)n};
    float x[4096];
    draw_normals(d, deviation, x, (size_t)n);
    for (int i = 0; i < n; i++)
        x[i] += (float)mean;
    maker_tensor(m, name, 0, 1, dims, x, (size_t)n * sizeof *x);
}

static inline void model_layer(struct gguf_maker *m, struct draws *d, const struct gguf_shape *s,
                               int layer)
{
    int queries = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    const struct {
        const char *name;
        enum weight_type type;
        int rows, inputs;
    } matrices[] = {{"attn_q", s->q, queries, s->dim},
                    {"attn_k", s->k, kv, s->dim},
                    {"attn_v", s->v, kv, s->dim},
                    {"attn_output", s->o, s->dim, queries},
                    {"ffn_gate", s->gate, s->hidden, s->dim},
                    {"ffn_up", s->up, s->hidden, s->dim},
                    {"ffn_down", s->down, s->dim, s->hidden}};
    const struct {
        const char *name;
        const char *arch; /* only there */
        int n;
        double mean;
    } vectors[] = {{"attn_norm.weight", s->arch, s->dim, 1},
                   {"ffn_norm.weight", s->arch, s->dim, 1},
                   {"attn_q.bias", "qwen2", queries, 0},
                   {"attn_k.bias", "qwen2", kv, 0},
                   {"attn_v.bias", "qwen2", kv, 0},
                   {"attn_q_norm.weight", "qwen3", s->head_dim, 1},
                   {"attn_k_norm.weight", "qwen3", s->head_dim, 1}};
    char name[64];
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
        snprintf(name, sizeof name, "blk.%d.%s", layer, matrices[i].name);
        model_matrix(m, d, name, matrices[i].type, matrices[i].rows, matrices[i].inputs);
    }
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        snprintf(name, sizeof name, "blk.%d.%s", layer, vectors[i].name);
        if (!strcmp(vectors[i].arch, s->arch))
            model_vector(m, d, name, vectors[i].n, vectors[i].mean, 0.3);
    }
}

/* GPT-2's table: bytes that are printable stand for themselves, others for U+0100 on. */
static inline size_t byte_text(int byte, char *to)
{
    int code = 0, others = 0;
    for (int b = 0; b <= byte; b++) {
        bool printable = (b >= 33 && b <= 126) || (b >= 161 && b != 173);
        code = printable ? b : 256 + others++;
    }
    if (code < 128) {
        to[0] = (char)code;
        return 1;
    }
    to[0] = (char)(0xc0 | code >> 6);
    to[1] = (char)(0x80 | (code & 63));
    return 2;
}

static inline void model_tokens(struct gguf_maker *m, int vocab)
{
    char text[16];
    maker_string(m, "tokenizer.ggml.model", "gpt2");
    maker_string(m, "tokenizer.ggml.pre", "gpt-2");
    maker_array(m, "tokenizer.ggml.merges", GGUF_STRING, 0);
    maker_int(m, "tokenizer.ggml.bos_token_id", GGUF_U32, BYTE_TOKEN_END);
    maker_int(m, "tokenizer.ggml.eos_token_id", GGUF_U32, BYTE_TOKEN_END);
    maker_array(m, "tokenizer.ggml.tokens", GGUF_STRING, (uint64_t)vocab);
    for (int i = 0; i < vocab; i++) {
        size_t len = i < 256 ? byte_text(i, text) : (size_t)sprintf(text, "word%d", i);
        put_text(&m->values, text, len);
    }
    maker_array(m, "tokenizer.ggml.token_type", GGUF_I32, (uint64_t)vocab);
    for (int i = 0; i < vocab; i++)
        put_le(&m->values, i == BYTE_TOKEN_END ? 3 : 1, 4);
}

static inline void gguf_model_write(const char *path, const struct gguf_shape *s, uint64_t seed)
{
    struct gguf_maker m = {0};
    struct draws d = {seed, 0};
    const struct {
        const char *name;
        int value;
    } keys[] = {{"block_count", s->layers},
                {"context_length", 512},
                {"embedding_length", s->dim},
                {"feed_forward_length", s->hidden},
                {"attention.head_count", s->heads},
                {"attention.head_count_kv", s->kv_heads},
                {"attention.key_length", s->head_dim},
                {"attention.value_length", s->head_dim}};
    char key[80];
    size_t size;
    maker_string(&m, "general.architecture", s->arch);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        snprintf(key, sizeof key, "%s.%s", s->arch, keys[i].name);
        maker_int(&m, key, GGUF_U32, keys[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", s->arch);
    maker_real(&m, key, 1e-5);
    model_tokens(&m, s->vocab);
    model_matrix(&m, &d, "token_embd", s->embed, s->vocab, s->dim);
    for (int i = 0; i < s->layers; i++)
        model_layer(&m, &d, s, i);
    model_vector(&m, &d, "output_norm.weight", s->dim, 1, 0.3);
    if (s->output != WEIGHT_TYPES)
        model_matrix(&m, &d, "output", s->output, s->vocab, s->dim);
    unsigned char *bytes = maker_end(&m, &size);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    free(bytes);
}

#endif
