/* A file mapped read-only. Any thread; a zeroed struct maps nothing. */
#ifndef WEIGHTS_MAPPING_H
#define WEIGHTS_MAPPING_H

#include <stddef.h>

#include "base/err.h"

struct mapping {
    const unsigned char *bytes; /* NULL for an empty file */
    size_t size;
};

/* Regular files only (a link to one is fine). ERR_IO names the path. */
int mapping_open(struct mapping *mapping, const char *path, struct err *err);
void mapping_release(struct mapping *mapping);
/* Most of it will not be read again soon: its pages may leave memory, and come back when they are
 * read. */
void mapping_rest(const struct mapping *mapping);

#endif
