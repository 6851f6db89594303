/* The byte tokenizer: see tokenizer.h. */
#include "weights/tokenizer.h"

#include <stdlib.h>
#include <unistd.h>

#include "weights/file.h"

#define B4(n) (n), (n) + 1, (n) + 2, (n) + 3
#define B16(n) B4(n), B4((n) + 4), B4((n) + 8), B4((n) + 12)
#define B64(n) B16(n), B16((n) + 16), B16((n) + 32), B16((n) + 48)
static const unsigned char bytes[256] = {B64(0), B64(64), B64(128), B64(192)};

/* A folder that brings its own tokenizer must not be read with the wrong one. */
static int refuse_file(const char *folder, const char *name, struct err *err)
{
    char *path = file_join(folder, name);
    if (!path)
        return err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    int found = !access(path, F_OK);
    free(path);
    return found ? err_set(err, ERR_INVALID,
                           "%s/%s: this version has the byte tokenizer only and cannot read it",
                           folder, name)
                 : 0;
}

int tokenizer_open(struct tokenizer *tokenizer, const char *folder, const struct config *config,
                   struct err *err)
{
    static const char *const files[] = {"tokenizer.json", "tokenizer.model"};
    *tokenizer = (struct tokenizer){0};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        int rc = refuse_file(folder, files[i], err);
        if (rc)
            return rc;
    }
    if (config->vocab < BYTE_VOCAB)
        return err_set(err, ERR_INVALID,
                       "%s/config.json: field 'vocab' is %d, but the byte tokenizer needs %d",
                       folder, config->vocab, BYTE_VOCAB);
    *tokenizer = (struct tokenizer){config->vocab, config->bos, config->eos};
    return 0;
}

void tokenizer_release(struct tokenizer *tokenizer)
{
    *tokenizer = (struct tokenizer){0};
}

size_t tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t len,
                        int32_t *tokens, size_t max)
{
    (void)tokenizer;
    for (size_t i = 0; i < len && i < max; i++)
        tokens[i] = (unsigned char)text[i];
    return len;
}

const char *tokenizer_bytes(const struct tokenizer *tokenizer, int32_t token, size_t *len)
{
    (void)tokenizer;
    bool byte = token >= 0 && token < 256;
    *len = byte;
    return (const char *)&bytes[byte ? token : 0];
}
