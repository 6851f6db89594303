/* Texts as tokens, in a file that grows: what headway-write and the server's --capture write
 * and heads are trained on.
 * Little-endian words: "headway-text", a version and the size of the vocabulary; then one record
 * per text: its number, how many of its tokens were a prompt, how many tokens, the tokens, a
 * checksum. Numbers rise; a text that was dropped leaves a record without tokens. A file that was
 * cut short while it was written ends behind its last whole record. One owner, one thread. */
#ifndef TEXT_TEXT_FILE_H
#define TEXT_TEXT_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct text_record {
    uint32_t number, prompt, n;
    const int32_t *tokens; /* (n) */
};

/* ---- reading ---- */

struct text_file {
    int32_t *words; /* the file, owned */
    size_t n_words; /* whole records */
    int vocab;
    uint32_t next;   /* the number behind the last record's, */
    size_t n_tokens; /* and the tokens in all of them */
};

/* ERR_IO, ERR_MEMORY, ERR_INVALID: not such a file, or a token beyond its vocabulary. */
int text_file_read(struct text_file *file, const char *path, struct err *err);
void text_file_release(struct text_file *file);

/* Walks over the records: *at begins as 0. False behind the last. */
int text_file_next(const struct text_file *file, size_t *at, struct text_record *record);

/* ---- writing ---- */

struct text_writer {
    FILE *file;
    const char *path; /* borrowed */
};

/* A new file, or, behind the whole records of `old` (read from the same path), one that goes on.
 * ERR_IO. */
int text_writer_open(struct text_writer *writer, const char *path, int vocab,
                     const struct text_file *old, struct err *err);
/* ERR_IO. */
int text_writer_add(struct text_writer *writer, const struct text_record *record, struct err *err);
int text_writer_close(struct text_writer *writer, struct err *err);

#endif
