/* Files of tokens: see text_file.h. */
#include "text/text_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"

#define MAGIC "headway-text"
#define VERSION 1
enum { HEAD_WORDS = 5, RECORD_WORDS = 4 }; /* of the file; of a record, besides its tokens */

static uint32_t checksum(const int32_t *words, size_t n)
{
    uint64_t sum = hash_words(HASH_BEGIN, words, n);
    return (uint32_t)(sum ^ sum >> 32);
}

/* ---- reading ---- */

/* Words of the record at `at`, checksum included; 0 where no whole one stands. */
static size_t whole_record(const struct text_file *f, size_t at, size_t end)
{
    if (end - at < RECORD_WORDS)
        return 0;
    const uint32_t *head = (const uint32_t *)f->words + at;
    size_t n = head[2];
    if (end - at - RECORD_WORDS < n || head[1] > n || head[0] < f->next)
        return 0;
    if ((uint32_t)f->words[at + 3 + n] != checksum(f->words + at, 3 + n))
        return 0;
    return RECORD_WORDS + n;
}

static int check_tokens(const struct text_file *f, const char *path, const struct text_record *r,
                        struct err *err)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (r->tokens[i] < 0 || r->tokens[i] >= f->vocab)
            return err_set(err, ERR_INVALID, "%s: text %u has token %d, but the vocabulary has %d",
                           path, r->number, r->tokens[i], f->vocab);
    return 0;
}

static int scan(struct text_file *f, const char *path, struct err *err)
{
    size_t end = f->n_words, size;
    f->n_words = HEAD_WORDS;
    while ((size = whole_record(f, f->n_words, end))) {
        struct text_record r = {0};
        size_t at = f->n_words;
        f->n_words += size;
        text_file_next(f, &at, &r);
        if (check_tokens(f, path, &r, err))
            return ERR_INVALID;
        f->next = r.number + 1;
        f->n_tokens += r.n;
    }
    return 0;
}

static int read_words(struct text_file *f, FILE *file, const char *path, struct err *err)
{
    if (fseeko(file, 0, SEEK_END))
        return err_set(err, ERR_IO, "%s could not be read: %s", path, strerror(errno));
    off_t size = ftello(file);
    rewind(file);
    f->n_words = size > 0 ? (size_t)size / sizeof *f->words : 0;
    f->words = malloc(f->n_words * sizeof *f->words + 1);
    if (!f->words)
        return err_set(err, ERR_MEMORY, "%s: no memory for its %zu tokens", path, f->n_words);
    if (fread(f->words, sizeof *f->words, f->n_words, file) != f->n_words)
        return err_set(err, ERR_IO, "%s could not be read: %s", path, strerror(errno));
    if (f->n_words < HEAD_WORDS || memcmp(f->words, MAGIC, sizeof MAGIC - 1) ||
        f->words[3] != VERSION || f->words[4] < 1)
        return err_set(err, ERR_INVALID,
                       "%s is no text of headway's, version %d: headway-write makes them", path,
                       VERSION);
    f->vocab = f->words[4];
    return scan(f, path, err);
}

int text_file_read(struct text_file *f, const char *path, struct err *err)
{
    memset(f, 0, sizeof *f);
    FILE *file = fopen(path, "rb");
    if (!file)
        return err_set(err, ERR_IO, "%s could not be opened: %s", path, strerror(errno));
    int rc = read_words(f, file, path, err);
    fclose(file);
    if (rc)
        text_file_release(f);
    return rc;
}

void text_file_release(struct text_file *f)
{
    free(f->words);
    memset(f, 0, sizeof *f);
}

int text_file_next(const struct text_file *f, size_t *at, struct text_record *record)
{
    size_t from = *at ? *at : HEAD_WORDS;
    if (from >= f->n_words)
        return 0;
    const uint32_t *head = (const uint32_t *)f->words + from;
    *record = (struct text_record){head[0], head[1], head[2], f->words + from + 3};
    *at = from + RECORD_WORDS + head[2];
    return 1;
}

/* ---- writing ---- */

static int refused(const struct text_writer *w, struct err *err)
{
    return err_set(err, ERR_IO, "%s could not be written: %s", w->path, strerror(errno));
}

static bool put(struct text_writer *w, const void *words, size_t n)
{
    return fwrite(words, sizeof(int32_t), n, w->file) == n;
}

int text_writer_open(struct text_writer *w, const char *path, int vocab,
                     const struct text_file *old, struct err *err)
{
    w->path = path;
    w->file = fopen(path, old ? "r+b" : "wb");
    if (!w->file)
        return refused(w, err);
    if (old) {
        off_t end = (off_t)(old->n_words * sizeof(int32_t));
        return ftruncate(fileno(w->file), end) || fseeko(w->file, end, SEEK_SET) ? refused(w, err)
                                                                                 : 0;
    }
    int32_t head[HEAD_WORDS] = {0, 0, 0, VERSION, vocab};
    memcpy(head, MAGIC, sizeof MAGIC - 1);
    return put(w, head, HEAD_WORDS) ? 0 : refused(w, err);
}

int text_writer_add(struct text_writer *w, const struct text_record *r, struct err *err)
{
    size_t n = 3 + (size_t)r->n;
    int32_t *words = malloc((n + 1) * sizeof *words);
    if (!words)
        return err_set(err, ERR_MEMORY, "%s: no memory for a text of %u tokens", w->path, r->n);
    words[0] = (int32_t)r->number;
    words[1] = (int32_t)r->prompt;
    words[2] = (int32_t)r->n;
    if (r->n)
        memcpy(words + 3, r->tokens, r->n * sizeof *words);
    words[n] = (int32_t)checksum(words, n);
    /* Whole records reach the file together, so that little is lost when the program is killed. */
    bool good = put(w, words, n + 1) && !fflush(w->file);
    free(words);
    return good ? 0 : refused(w, err);
}

int text_writer_close(struct text_writer *w, struct err *err)
{
    FILE *file = w->file;
    w->file = NULL;
    return file && fclose(file) ? refused(w, err) : 0;
}
