/* See texts.h. */
#include "train/texts.h"

#include <stdlib.h>
#include <string.h>

int texts_open(struct texts *t, const char *path, int vocab, struct err *err)
{
    struct text_record r = {0};
    size_t at = 0, records = 0;
    memset(t, 0, sizeof *t);
    int rc = text_file_read(&t->file, path, err);
    if (rc)
        return rc;
    while (text_file_next(&t->file, &at, &r))
        records++;
    t->samples = calloc(records + 1, sizeof *t->samples);
    if (!t->samples)
        rc = err_set(err, ERR_MEMORY, "no memory for %zu texts", records);
    else if (t->file.vocab != vocab)
        rc = err_set(err, ERR_INVALID,
                     "%s is of a vocabulary of %d tokens, the trunk has %d: let the trunk write it",
                     path, t->file.vocab, vocab);
    for (at = 0; !rc && text_file_next(&t->file, &at, &r);)
        if (r.n > r.prompt + 2)
            t->samples[t->n++] = (struct sample){r.tokens, (int)r.n, (int)r.prompt};
    if (!rc && !t->n)
        rc = err_set(err, ERR_INVALID, "%s has no text: headway-write writes some", path);
    if (rc)
        texts_release(t);
    return rc;
}

void texts_release(struct texts *t)
{
    text_file_release(&t->file);
    free(t->samples);
    memset(t, 0, sizeof *t);
}

struct count {
    int32_t token;
    long times;
};

static int more_often(const void *a, const void *b)
{
    const struct count *x = a, *y = b;
    return x->times != y->times ? (x->times < y->times) - (x->times > y->times)
                                : (x->token > y->token) - (x->token < y->token);
}

static int rising(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

int texts_draft_ids(const struct texts *t, int n, int32_t *ids, int *found, struct err *err)
{
    int vocab = t->file.vocab;
    struct count *counts = calloc((size_t)vocab, sizeof *counts);
    if (!counts)
        return err_set(err, ERR_MEMORY, "no memory to count %d tokens", vocab);
    for (int i = 0; i < vocab; i++)
        counts[i].token = i;
    for (int i = 0; i < t->n; i++)
        for (int j = t->samples[i].prompt; j < t->samples[i].n; j++)
            counts[t->samples[i].tokens[j]].times++;
    qsort(counts, (size_t)vocab, sizeof *counts, more_often);
    *found = 0;
    for (int i = 0; i < vocab && i < n && counts[i].times; i++)
        ids[(*found)++] = counts[i].token;
    qsort(ids, (size_t)*found, sizeof *ids, rising);
    free(counts);
    return 0;
}
