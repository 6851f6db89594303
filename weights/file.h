/* Whole files: one that appears complete or not at all, and a small one read at once.
 * Any thread; a file_out has one owner. */
#ifndef WEIGHTS_FILE_H
#define WEIGHTS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

/* PATH is written as PATH.tmp, synced and renamed, and the folder is synced: after a crash there
 * is the old file or the new one. A zeroed struct is closed. */
struct file_out {
    FILE *stream; /* write here; errors show at file_commit */
    char *path, *tmp;
};

/* ERR_IO, ERR_MEMORY. */
int file_create(struct file_out *out, const char *path, struct err *err);
/* Makes the file visible and closes *out, in error too. ERR_IO. */
int file_commit(struct file_out *out, struct err *err);
/* Gives up: removes PATH.tmp. Nothing to do after file_commit. */
void file_abandon(struct file_out *out);

/* Appends the whole file to *buf; more than max bytes are refused. ERR_IO, ERR_INVALID,
 * ERR_MEMORY. */
int file_read(struct buf *buf, const char *path, size_t max, struct err *err);

/* The same of FOLDER/NAME, if it is there. */
int file_read_if(struct buf *buf, const char *folder, const char *name, size_t max, bool *found,
                 struct err *err);

/* FOLDER/NAME, freed with free(); NULL when memory ran out. */
char *file_join(const char *folder, const char *name);

#endif
