/* The back ends of source.h: each opens source->path, fills type, config (checked) and data, and on
 * error leaves them so that source_release is safe. Only for weights/. */
#ifndef WEIGHTS_SOURCE_BACKENDS_H
#define WEIGHTS_SOURCE_BACKENDS_H

#include "weights/gguf.h"
#include "weights/source.h"

int headway_source_open(struct source *source, struct err *err);
int gguf_source_open(struct source *source, struct err *err);
/* The same over bytes in memory, which must outlive *source, as source_open (tests, fuzzing). */
int gguf_source_parse(struct source *source, const void *bytes, size_t size, const char *where,
                      struct err *err);
int hf_source_open(struct source *source, struct err *err);
int meta_source_open(struct source *source, struct err *err);

/* What transformers calls a tensor of a layer, below the layer's name; NULL for other roles. */
const char *hf_layer_name(enum role role);

/* What EAGLE-3's heads call a tensor, `layer` before those of their layer. */
void eagle3_name(enum role role, const char *layer, char *name, size_t size);

/* The GGUF file behind a source, or NULL. */
const struct gguf *source_gguf(const struct source *source);

static inline bool role_of_layer(enum role role)
{
    return role >= ROLE_ATTN_NORM && role < ROLE_HEAD_LINEAR;
}

/* Rows in the order of rotation. */
static inline bool role_rotated(enum role role)
{
    return role == ROLE_WQ || role == ROLE_WK || role == ROLE_BQ || role == ROLE_BK ||
           role == ROLE_Q_NORM || role == ROLE_K_NORM;
}

#endif
