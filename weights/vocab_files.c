/* Tokens and chat templates beside a model's tensors: see vocab_files.h. */
#include "weights/vocab_files.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text/sentencepiece_model.h"
#include "text/tokenizer_json.h"
#include "weights/file.h"
#include "weights/source_backends.h"

#define FILE_BYTES_MAX ((size_t)256 << 20)

/* ---- reading ---- */

static int read_gguf(struct vocab *vocab, struct buf *template, const char *folder, bool *found,
                     struct err *err)
{
    struct gguf gguf;
    char *path = file_join(folder, "tokenizer.gguf");
    if (!path)
        return err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    *found = !access(path, F_OK);
    int rc = *found ? gguf_open(&gguf, path, err) : 0;
    if (*found && !rc) {
        if (vocab)
            rc = gguf_vocab(&gguf, vocab, err);
        if (!rc && template)
            rc = gguf_template(&gguf, template, err);
        gguf_release(&gguf);
    }
    free(path);
    return rc;
}

static int read_json(struct vocab *vocab, struct buf *template, const char *folder, bool *found,
                     struct err *err)
{
    struct buf text = {0};
    bool config;
    int rc = file_read_if(&text, folder, "tokenizer.json", FILE_BYTES_MAX, found, err);
    if (!rc && *found)
        rc = tokenizer_json_parse(vocab, text.data, text.len, folder, err);
    text.len = 0;
    if (!rc && *found)
        rc = file_read_if(&text, folder, "tokenizer_config.json", FILE_BYTES_MAX, &config, err);
    if (!rc && *found && config)
        rc = tokenizer_config_parse(vocab, template, text.data, text.len, folder, err);
    buf_release(&text);
    return rc;
}

static int read_sentencepiece(struct vocab *vocab, const char *folder, bool *found, struct err *err)
{
    struct buf bytes = {0};
    int rc = file_read_if(&bytes, folder, "tokenizer.model", FILE_BYTES_MAX, found, err);
    if (!rc && *found)
        rc = sentencepiece_model_parse(vocab, bytes.data, bytes.len, folder, err);
    buf_release(&bytes);
    return rc;
}

int vocab_files_read(struct vocab *vocab, const char *folder, bool *found, struct err *err)
{
    struct buf unused = {0};
    int rc = read_gguf(vocab, NULL, folder, found, err);
    if (!rc && !*found)
        rc = read_json(vocab, &unused, folder, found, err);
    if (!rc && !*found)
        rc = read_sentencepiece(vocab, folder, found, err);
    buf_release(&unused);
    return rc;
}

int template_files_read(struct buf *out, const char *folder, struct err *err)
{
    struct vocab unused = {0};
    bool found;
    int rc = file_read_if(out, folder, "chat_template.jinja", FILE_BYTES_MAX, &found, err);
    if (!rc && !found)
        rc = read_gguf(NULL, out, folder, &found, err);
    if (!rc && !found)
        rc = read_json(&unused, out, folder, &found, err);
    vocab_release(&unused);
    return rc;
}

/* ---- copying ---- */

static int write_file(const char *folder, const char *name, const struct buf *bytes,
                      struct err *err)
{
    struct file_out out = {0};
    char *path = file_join(folder, name);
    int rc = path ? file_create(&out, path, err)
                  : err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    if (!rc) {
        fwrite(bytes->data, 1, bytes->len, out.stream);
        rc = file_commit(&out, err);
    }
    free(path);
    return rc;
}

/* A GGUF file's keys that begin with "tokenizer.", as a file without tensors. */
static int write_gguf(const struct gguf *gguf, const char *folder, struct err *err)
{
    static const char prefix[] = "tokenizer.";
    struct buf out = {0};
    uint64_t counts[2] = {0};
    buf_append(&out, "GGUF\3\0\0\0", 8);
    buf_append(&out, counts, sizeof counts);
    for (size_t i = 0; i < gguf->n_values; i++) {
        const struct gguf_value *v = &gguf->values[i];
        if (v->key_len < strlen(prefix) || memcmp(v->key, prefix, strlen(prefix)))
            continue;
        const char *begin = v->key - sizeof(uint64_t); /* the key's length stands before it */
        buf_append(&out, begin, (size_t)((const char *)v->end - begin));
        counts[1]++;
    }
    int rc = out.failed ? err_set(err, ERR_MEMORY, "%s: no memory left", folder) : 0;
    if (!rc) {
        memcpy(out.data + 8, counts, sizeof counts);
        rc = write_file(folder, "tokenizer.gguf", &out, err);
    }
    buf_release(&out);
    return rc;
}

int source_copy_text(const struct source *source, const char *folder, struct err *err)
{
    static const char *const names[] = {"tokenizer.gguf", "tokenizer.json", "tokenizer_config.json",
                                        "tokenizer.model", "chat_template.jinja"};
    const struct gguf *gguf = source_gguf(source);
    int rc = 0;
    if (gguf)
        return write_gguf(gguf, folder, err);
    for (size_t i = 0; i < sizeof names / sizeof *names && !rc; i++) {
        struct buf bytes = {0};
        bool found;
        rc = file_read_if(&bytes, source->path, names[i], FILE_BYTES_MAX, &found, err);
        if (!rc && found)
            rc = write_file(folder, names[i], &bytes, err);
        buf_release(&bytes);
    }
    return rc;
}
