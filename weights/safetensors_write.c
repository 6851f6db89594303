/* The safetensors writer: see safetensors.h. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "weights/file.h"
#include "weights/safetensors.h"

#define DATA_ALIGN 64

/* The upper half of a float, rounded to nearest even. A NaN stays one: its payload may lie in the
 * lower half, so the quiet bit is set. */
static uint16_t bf16_from_f32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Elements of a tensor to be written, and its bytes. */
static int measure(const struct tensor_out *t, size_t *count, size_t *bytes, struct err *err)
{
    bool ok = t->n_dims >= 0 && t->n_dims <= TENSOR_DIMS_MAX;
    *count = 1;
    for (int i = 0; ok && i < t->n_dims; i++)
        ok = size_mul(*count, t->shape[i], count);
    if (!ok || !size_mul(*count, dtype_size(t->dtype), bytes) || *bytes > INT64_MAX)
        return err_set(err, ERR_INVALID, "tensor '%s' has an impossible shape", t->name);
    if (t->f32_source && t->dtype != DTYPE_F32 && t->dtype != DTYPE_BF16)
        return err_set(err, ERR_INVALID, "tensor '%s' cannot be made %s from F32", t->name,
                       dtype_name(t->dtype));
    return 0;
}

static json_t *entry_json(const struct tensor_out *t, size_t begin, size_t end)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->n_dims; i++)
        json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_name(t->dtype), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static int add_metadata(json_t *header, const char *text, struct err *err)
{
    const char *key;
    json_t *value, *metadata = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    bool ok = json_is_object(metadata);
    json_object_foreach(metadata, key, value) ok = ok && json_is_string(value);
    if (!ok) {
        json_decref(metadata);
        return err_set(err, ERR_INVALID, "the metadata must be a JSON object of strings");
    }
    return json_object_set_new(header, "__metadata__", metadata)
               ? err_set(err, ERR_MEMORY, "no memory left")
               : 0;
}

static int add_tensors(json_t *header, const struct tensor_out *tensors, size_t n, struct err *err)
{
    size_t count, bytes, begin = 0, end;
    for (size_t i = 0; i < n; i++) {
        const char *name = tensors[i].name;
        int rc = measure(&tensors[i], &count, &bytes, err);
        if (rc)
            return rc;
        if (json_object_get(header, name) || !strcmp(name, "__metadata__"))
            return err_set(err, ERR_INVALID, "tensor '%s' is given twice, or has a reserved name",
                           name);
        if (!size_add(begin, bytes, &end) || end > INT64_MAX)
            return err_set(err, ERR_INVALID, "tensor '%s' makes the file too large", name);
        if (json_object_set_new(header, name, entry_json(&tensors[i], begin, end)))
            return err_set(err, ERR_INVALID, "tensor '%s' has a name that is not UTF-8", name);
        begin = end;
    }
    return 0;
}

/* Length and header, padded with spaces so that the data begins at a multiple of DATA_ALIGN. */
static int header_make(struct buf *head, const struct tensor_out *tensors, size_t n,
                       const char *metadata, struct err *err)
{
    json_t *header = json_object();
    char *text = NULL;
    int rc = header ? 0 : err_set(err, ERR_MEMORY, "no memory left");
    if (!rc && metadata)
        rc = add_metadata(header, metadata, err);
    if (!rc)
        rc = add_tensors(header, tensors, n, err);
    if (!rc && !(text = json_dumps(header, JSON_COMPACT)))
        rc = err_set(err, ERR_MEMORY, "no memory left");
    json_decref(header);
    if (rc)
        return rc;
    size_t length = strlen(text), padding = -(8 + length) % DATA_ALIGN;
    unsigned char prefix[8];
    for (int i = 0; i < 8; i++)
        prefix[i] = (unsigned char)((uint64_t)(length + padding) >> 8 * i);
    buf_append(head, prefix, sizeof prefix);
    buf_append(head, text, length);
    buf_printf(head, "%*s", (int)padding, "");
    free(text);
    return head->failed ? err_set(err, ERR_MEMORY, "no memory left") : 0;
}

void safetensors_put_bf16(const float *x, size_t n, FILE *stream)
{
    uint16_t chunk[4096];
    for (size_t i = 0, k = 0; i < n; i++) {
        chunk[k++] = bf16_from_f32(x[i]);
        if (k == sizeof chunk / sizeof *chunk || i + 1 == n) {
            fwrite(chunk, sizeof *chunk, k, stream);
            k = 0;
        }
    }
}

static void write_tensor(FILE *stream, const struct tensor_out *t)
{
    size_t count, bytes;
    measure(t, &count, &bytes, NULL); /* it passed once already */
    if (t->write)
        t->write(t->write_arg, stream);
    else if (t->f32_source && t->dtype != DTYPE_F32)
        safetensors_put_bf16(t->data, count, stream);
    else if (bytes)
        fwrite(t->data, 1, bytes, stream);
}

int safetensors_write(const char *path, const struct tensor_out *tensors, size_t n,
                      const char *metadata, struct err *err)
{
    struct buf head = {0};
    struct file_out out = {0};
    int rc = header_make(&head, tensors, n, metadata, err);
    if (rc) {
        err_prefix(err, rc, "%s", path);
        goto out;
    }
    rc = file_create(&out, path, err);
    if (rc)
        goto out;
    fwrite(head.data, 1, head.len, out.stream); /* errors stay in the stream: file_commit looks */
    for (size_t i = 0; i < n && !ferror(out.stream); i++)
        write_tensor(out.stream, &tensors[i]);
    rc = file_commit(&out, err);
out:
    buf_release(&head);
    return rc;
}
