/* libFuzzer on GGUF files: nothing that the reader accepts may point outside the input; of what
 * opens as a model, every tensor that it should have is looked up and read, and a tokenizer is made
 * of its tokens. Seeds: tests/parity/make_gguf.py --seeds. */
#include <stdlib.h>

#include "model/params.h"
#include "text/tokenizer.h"
#include "weights/gguf.h"
#include "weights/source_backends.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static volatile unsigned char sum;

static void read_bytes(const void *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        sum = (unsigned char)(sum + ((const unsigned char *)data)[i]);
}

static void walk_value(const struct gguf_value *v)
{
    struct gguf_items items = {v->data, v->item, v->n};
    for (size_t k = 0, len; k < v->n; k++)
        if (v->item == GGUF_STRING) {
            const char *text = gguf_next_string(&items, &len);
            read_bytes(text, len);
        } else {
            sum += gguf_next_number(&items) > 0;
        }
}

static void walk(const struct gguf *g, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < g->n_values; i++) {
        read_bytes(g->values[i].key, g->values[i].key_len);
        walk_value(&g->values[i]);
    }
    for (size_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        if (t->data < bytes || t->size > (size_t)(bytes + size - t->data) ||
            gguf_tensor(g, t->name) != t)
            abort();
        read_bytes(t->data, t->size);
    }
}

/* The first and the last row of a tensor. */
static void read_tensor(const struct source *s, const struct param *p)
{
    struct matrix m;
    struct err err;
    if (source_find(s, &p->place, p->n_dims, p->shape, &m, &err))
        return;
    float *row = malloc(m.inputs * sizeof *row);
    if (!row)
        abort();
    matrix_row(&m, 0, row);
    matrix_row(&m, m.rows - 1, row);
    read_bytes(row, m.inputs * sizeof *row);
    free(row);
}

static void read_text(const struct source *s)
{
    struct vocab vocab = {0};
    struct tokenizer *tokenizer = NULL;
    struct buf text = {0};
    struct err err;
    if (!source_vocab(s, &vocab, &err))
        tokenizer_init(&tokenizer, &vocab, &err);
    source_template(s, &text, &err);
    buf_release(&text);
    tokenizer_free(tokenizer);
    vocab_release(&vocab);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct gguf g;
    struct source s;
    struct params p;
    struct err err;
    if (gguf_parse(&g, bytes, size, "fuzz", &err))
        return 0;
    walk(&g, bytes, size);
    gguf_release(&g);
    if (gguf_source_parse(&s, bytes, size, "fuzz", &err))
        return 0;
    if (!params_init(&p, &s.config, &err))
        for (int i = 0; i < p.n; i++)
            read_tensor(&s, &p.list[i]);
    params_release(&p);
    read_text(&s);
    source_release(&s);
    return 0;
}
