/* The tokens of requests that were served, kept in a file for the training of heads (--capture): of
 * each finished choice its prompt and what was generated, nothing else of the request. Up to a
 * limit; what can't be written ends it, the server goes on. Loop thread. */
#ifndef SERVER_CAPTURE_H
#define SERVER_CAPTURE_H

#include <stdbool.h>

#include "base/buf.h"
#include "text/text_file.h"

struct capture {
    struct text_writer writer; /* its file NULL: nothing is kept (any more) */
    bool on;                   /* it was asked for */
    uint32_t next;             /* number of the next text */
    uint64_t bytes, limit;     /* of the file */
    uint64_t texts, tokens;    /* kept by this process */
    uint64_t left_out;         /* texts that came when the file was full or broken */
};

/* Goes on with the file where there is one of the same vocabulary. ERR_IO, ERR_INVALID. */
int capture_open(struct capture *capture, const char *path, int vocab, uint64_t limit,
                 struct err *err);

/* generated: int32_t tokens, as many as are in the buffer. */
void capture_add(struct capture *capture, const int32_t *prompt, size_t n_prompt,
                 const struct buf *generated);

void capture_close(struct capture *capture);

#endif
