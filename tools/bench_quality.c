/* Held-out bits per byte: prompts with log-probabilities and no answer. */
#include "tools/bench_quality.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/request.h"
#include "weights/file.h"

#define TEXT_MAX ((size_t)1 << 30)

/* Tokens of a stretch: bos, then the text, each NUL as the token that ends a document. */
static size_t encode_some(const struct tokenizer *tokenizer, const char *text, size_t len,
                          int32_t *tokens, size_t most)
{
    struct tokens all = {0};
    struct encode_options plain = {0};
    struct err err;
    size_t n = tokenizer_encode(tokenizer, text, len, &plain, &all, &err) ? 0 : all.n;
    n = n < most ? n : most;
    if (n)
        memcpy(tokens, all.ids, n * sizeof *tokens);
    free(all.ids);
    return n;
}

static size_t encode(const struct scheduler *s, const char *text, size_t size, int32_t *tokens,
                     size_t most)
{
    const struct config *c = &s->runtime->model.config;
    size_t n = 0;
    if (c->bos >= 0)
        tokens[n++] = c->bos;
    while (size && n < most) {
        const char *end = memchr(text, 0, size);
        size_t len = end ? (size_t)(end - text) : size;
        size_t made = encode_some(s->runtime->tokenizer, text, len, tokens + n, most - n);
        n += made;
        if (end && n < most && c->eos >= 0)
            tokens[n++] = c->eos;
        text += end ? len + 1 : len;
        size -= end ? len + 1 : len;
    }
    return n;
}

/* Nats of all tokens but the first, into *nats; their bytes, into *bytes. */
static int score(struct scheduler *s, const int32_t *tokens, size_t n, double *nats, size_t *bytes,
                 struct err *err)
{
    struct engine_request r = {.tokens = tokens,
                               .n_tokens = n,
                               .top_p = 1,
                               .repetition_penalty = 1,
                               .prompt_logprobs = true};
    int slot = request_check(&r, s->runtime->model.config.vocab, s->context, err);
    if (slot || (slot = scheduler_add(s, &r, err)) < 0)
        return slot;
    struct sequence *q = &s->sequences[slot];
    while (!q->finish)
        scheduler_step(s);
    for (size_t i = 1; i < n; i++) {
        size_t len;
        tokenizer_bytes(s->runtime->tokenizer, tokens[i - 1], tokens[i], &len);
        *nats -= q->prompt[i].logprob;
        *bytes += len ? len : 1; /* the end of a document */
    }
    scheduler_remove(s, slot);
    return 0;
}

int quality_measure(struct scheduler *s, const char *path, int windows, json_t *json,
                    struct err *err)
{
    struct buf text = {0};
    double nats = 0;
    size_t bytes = 0, room = (size_t)s->context - 1;
    int32_t *tokens = malloc(room * sizeof *tokens);
    int rc = tokens ? file_read(&text, path, TEXT_MAX, err)
                    : err_set(err, ERR_MEMORY, "no memory for %zu tokens", room);
    if (!rc && text.len < room)
        rc = err_set(err, ERR_INVALID, "%s has %zu bytes, but must have at least %zu", path,
                     text.len, room);
    for (int i = 0; i < windows && !rc; i++) {
        size_t at = (size_t)((double)(text.len - room) * i / windows);
        size_t n = encode(s, text.data + at, text.len - at < 8 * room ? text.len - at : 8 * room,
                          tokens, room);
        rc = score(s, tokens, n, &nats, &bytes, err);
    }
    if (!rc) {
        double bits = nats / (double)bytes / M_LN2;
        printf("%s: %.4f bits per byte over %zu bytes\n", path, bits, bytes);
        json_object_set_new(json, "quality",
                            json_pack("{s:s, s:f, s:I}", "text", path, "bits_per_byte", bits,
                                      "bytes", (json_int_t)bytes));
    }
    buf_release(&text);
    free(tokens);
    return rc;
}
