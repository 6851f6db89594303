/* Small GGUF files for tests to write and to damage. Nothing is checked: hostile ones are made as
 * easily. */
#ifndef TESTS_UNIT_GGUF_MAKER_H
#define TESTS_UNIT_GGUF_MAKER_H

#include "base/buf.h"
#include "tests/unit/unit.h"
#include "weights/block.h"
#include "weights/gguf.h"

struct gguf_maker {
    struct buf values, tensors, data;
    uint64_t n_values, n_tensors;
    uint32_t version; /* 0: 3 */
    uint64_t
        alignment; /* of tensors and of the data; 0: 32. 'general.alignment' is written apart */
};

static inline void put_le(struct buf *buf, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        buf_append(buf, &(char){(char)(i < 8 ? value >> 8 * i : 0)}, 1);
}

static inline void put_text(struct buf *buf, const char *text, size_t len)
{
    put_le(buf, len, 8);
    buf_append(buf, text, len);
}

/* A key with its type; the value must follow. */
static inline void maker_key(struct gguf_maker *m, const char *key, uint32_t type)
{
    put_text(&m->values, key, strlen(key));
    put_le(&m->values, type, 4);
    m->n_values++;
}

static inline void maker_int(struct gguf_maker *m, const char *key, enum gguf_type type,
                             int64_t value)
{
    static const int sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 8, 8, 8, 8};
    maker_key(m, key, type);
    put_le(&m->values, (uint64_t)value, sizes[type]);
}

static inline void maker_real(struct gguf_maker *m, const char *key, double value)
{
    float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    maker_key(m, key, GGUF_F32);
    put_le(&m->values, bits, 4);
}

static inline void maker_string(struct gguf_maker *m, const char *key, const char *text)
{
    maker_key(m, key, GGUF_STRING);
    put_text(&m->values, text, strlen(text));
}

/* The beginning of an array; its items must follow. */
static inline void maker_array(struct gguf_maker *m, const char *key, uint32_t type, uint64_t n)
{
    maker_key(m, key, GGUF_ARRAY);
    put_le(&m->values, type, 4);
    put_le(&m->values, n, 8);
}

/* The record of a tensor at that offset. dims: inputs first; at most 8 are written. */
static inline void maker_record(struct gguf_maker *m, const char *name, uint32_t ggml_type,
                                uint32_t n_dims, const uint64_t *dims, uint64_t offset)
{
    put_text(&m->tensors, name, strlen(name));
    put_le(&m->tensors, n_dims, 4);
    for (uint32_t i = 0; i < n_dims && i < 8; i++)
        put_le(&m->tensors, dims[i], 8);
    put_le(&m->tensors, ggml_type, 4);
    put_le(&m->tensors, offset, 8);
    m->n_tensors++;
}

static inline void maker_pad(struct buf *buf, uint64_t alignment)
{
    while (buf->len % (alignment ? alignment : 32))
        buf_append(buf, "", 1);
}

/* A tensor behind those before, with its data: `size` bytes, or zeros for NULL. */
static inline void maker_tensor(struct gguf_maker *m, const char *name, uint32_t ggml_type,
                                uint32_t n_dims, const uint64_t *dims, const void *bytes,
                                size_t size)
{
    maker_pad(&m->data, m->alignment);
    maker_record(m, name, ggml_type, n_dims, dims, m->data.len);
    for (size_t i = 0; !bytes && i < size; i++)
        buf_append(&m->data, "", 1);
    if (bytes)
        buf_append(&m->data, bytes, size);
}

/* The file, in a block of just its size; the maker is empty afterwards. */
static inline unsigned char *maker_end(struct gguf_maker *m, size_t *size)
{
    struct buf file = {0};
    buf_puts(&file, "GGUF");
    put_le(&file, m->version ? m->version : 3, 4);
    put_le(&file, m->n_tensors, 8);
    put_le(&file, m->n_values, 8);
    if (m->values.len)
        buf_append(&file, m->values.data, m->values.len);
    if (m->tensors.len)
        buf_append(&file, m->tensors.data, m->tensors.len);
    maker_pad(&file, m->alignment);
    if (m->data.len)
        buf_append(&file, m->data.data, m->data.len);
    assert_false(file.failed || m->data.failed || m->values.failed || m->tensors.failed);
    unsigned char *exact = malloc(file.len);
    assert_non_null(exact);
    memcpy(exact, file.data, *size = file.len);
    buf_release(&file);
    buf_release(&m->values);
    buf_release(&m->tensors);
    buf_release(&m->data);
    *m = (struct gguf_maker){0};
    return exact;
}

#endif
