/* See capture.h. */
#include "server/capture.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

int capture_open(struct capture *c, const char *path, int vocab, uint64_t limit, struct err *err)
{
    struct text_file old = {0};
    bool exists = access(path, F_OK) == 0;
    int rc = exists ? text_file_read(&old, path, err) : 0;
    if (!rc && exists && old.vocab != vocab)
        rc = err_set(err, ERR_INVALID,
                     "%s has texts of a vocabulary of %d tokens, the model has %d: name another "
                     "file for --capture",
                     path, old.vocab, vocab);
    if (!rc) {
        mode_t mask = umask(0077); /* what users wrote is for nobody else's eyes */
        rc = text_writer_open(&c->writer, path, vocab, exists ? &old : NULL, err);
        umask(mask);
    }
    c->on = !rc;
    c->next = old.next;
    c->bytes = rc ? 0 : (uint64_t)ftello(c->writer.file);
    c->limit = limit;
    text_file_release(&old);
    if (!rc)
        log_info("capture: prompts and answers are kept as tokens in %s, up to %" PRIu64 " MiB",
                 path, limit >> 20);
    return rc;
}

static void end(struct capture *c, const char *why)
{
    struct err err;
    log_warn("capture: no more texts are kept in %s: %s", c->writer.path, why);
    text_writer_close(&c->writer, &err);
}

void capture_add(struct capture *c, const int32_t *prompt, size_t n_prompt,
                 const struct buf *generated)
{
    size_t n = generated->len / sizeof(int32_t), all = n_prompt + n;
    struct err err;
    if (!c->on || !n)
        return;
    if (c->writer.file && c->bytes + (all + 4) * sizeof(int32_t) > c->limit)
        end(c, "its limit is reached");
    int32_t *tokens = c->writer.file ? malloc(all * sizeof *tokens) : NULL;
    if (!tokens || generated->failed) {
        c->left_out++;
        free(tokens);
        return;
    }
    memcpy(tokens, prompt, n_prompt * sizeof *tokens);
    memcpy(tokens + n_prompt, generated->data, n * sizeof *tokens);
    struct text_record record = {c->next++, (uint32_t)n_prompt, (uint32_t)all, tokens};
    if (text_writer_add(&c->writer, &record, &err)) {
        c->left_out++;
        end(c, err.text);
    } else {
        c->bytes += (all + 4) * sizeof(int32_t);
        c->texts++;
        c->tokens += all;
    }
    free(tokens);
}

void capture_close(struct capture *c)
{
    struct err err;
    if (text_writer_close(&c->writer, &err))
        log_error("capture: %s", err.text);
}
