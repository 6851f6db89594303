/* Where a model comes from: one interface over headway's own folders, GGUF files, Hugging Face
 * folders and Meta's releases. A back end says what the model looks like, finds a tensor by what it
 * is for, and gives the tokens and the chat template that came with it. Files are untrusted; what
 * is not supported is refused by name. A source is immutable once open; any thread. */
#ifndef WEIGHTS_SOURCE_H
#define WEIGHTS_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/vocab.h"
#include "weights/config.h"
#include "weights/matrix.h"

/* What a tensor is for. */
enum role {
    ROLE_EMBED,
    ROLE_NORM,
    ROLE_OUTPUT,
    ROLE_ROPE_FACTORS, /* (K/2) what each pair's frequency is divided by */
    /* of a layer */
    ROLE_ATTN_NORM,
    ROLE_WQ,
    ROLE_WK,
    ROLE_WV,
    ROLE_WO,
    ROLE_FFN_NORM,
    ROLE_W1, /* gate */
    ROLE_W3, /* up */
    ROLE_W2, /* down */
    ROLE_BQ, /* biases of queries, keys, values */
    ROLE_BK,
    ROLE_BV,
    ROLE_Q_NORM, /* (K) norm weights of each query and key head */
    ROLE_K_NORM,
    /* of a head */
    ROLE_HEAD_LINEAR,
    ROLE_HEAD_OUTPUT,
    ROLE_HEAD_NORM,       /* before the unembedding, in place of ROLE_NORM */
    ROLE_HEAD_STATE_NORM, /* recurrent: of the state before, */
    ROLE_HEAD_TOKEN_NORM, /* of the token's embedding, */
    ROLE_HEAD_PROJECT,    /* and what joins them */
    ROLE_HEAD_FUSE,       /* what joins the trunk's output and the inputs of some of its layers */
    ROLE_HEAD_BIGRAM,     /* what makes the draft before known to a head's logits */
    ROLES
};

struct place {
    enum role role;
    int head;  /* prediction head that the tensor or its layer belongs to; -1: the trunk */
    int layer; /* of the trunk or of the head, from 0 */
};

/* headway's own name of it: "layers.3.attention.wq.weight". */
void place_name(const struct place *place, char *name, size_t size);

struct source;
struct source_type {
    /* The tensor for a place. Its shape and type are checked by source_find. ERR_INVALID when it is
     * not there. */
    int (*find)(const struct source *source, const struct place *place, int n_dims,
                const size_t *shape, struct matrix *matrix, struct err *err);
    int (*vocab)(const struct source *source, struct vocab *vocab, struct err *err);
    int (*chat_template)(const struct source *source, struct buf *out, struct err *err);
    void (*rest)(const struct source *source);
    void (*release)(struct source *source);
    /* source_draft_ids; NULL: none */
    int (*draft_ids)(const struct source *source, const int32_t **ids, int *n, struct err *err);
};

struct source {
    const struct source_type *type;
    char *path;
    bool heads; /* may be heads without their trunk */
    struct config config;
    void *data; /* of the back end */
};

/* Opens a folder (headway's, Hugging Face's, or one with a consolidated.pth), a .gguf or a .pth
 * file. ERR_IO, ERR_INVALID, ERR_MEMORY; on error *source is released. */
int source_open(struct source *source, const char *path, struct err *err);
void source_release(struct source *source);
/* Opens a folder of headway's with heads that lie apart from their trunk (config.trunk). */
int source_open_heads(struct source *source, const char *path, struct err *err);
/* Opens either. */
int source_open_either(struct source *source, const char *path, struct err *err);
/* Opens a folder of EAGLE-3's as heads for a trunk of that shape and hash, which it must have been
 * trained for: the folder does not say. */
int source_open_eagle3(struct source *source, const char *path, const struct config *trunk,
                       uint64_t hash, struct err *err);

/* A tensor of exactly that shape: n_dims 1, shape {n}, or 2, shape {outputs, inputs}. ERR_INVALID
 * names the tensor, what was expected and what was found. The matrix points into the source. */
int source_find(const struct source *source, const struct place *place, int n_dims,
                const size_t *shape, struct matrix *matrix, struct err *err);

/* Whether a draft vocabulary rises and stays within the vocabulary. ERR_INVALID. */
int source_check_ids(const int32_t *ids, int n, int vocab, struct err *err);

/* The tokens that drafts are chosen from, n of them, in the source; 0 where that may be any.
 * ERR_INVALID. */
int source_draft_ids(const struct source *source, const int32_t **ids, int *n, struct err *err);

/* Most tensors have been read and will not be again: their pages may leave memory. */
void source_rest(const struct source *source);

/* The model's tokens, into a zeroed vocab. ERR_INVALID, ERR_IO, ERR_MEMORY. */
int source_vocab(const struct source *source, struct vocab *vocab, struct err *err);

/* Appends the chat template; nothing when the model has none. */
int source_template(const struct source *source, struct buf *out, struct err *err);

#endif
