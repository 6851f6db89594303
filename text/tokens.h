/* Appending to struct tokens. */
#ifndef TEXT_TOKENS_H
#define TEXT_TOKENS_H

#include <stdlib.h>

#include "text/tokenizer.h"

/* ERR_MEMORY. */
static inline int tokens_push(struct tokens *tokens, int32_t id, struct err *err)
{
    if (tokens->n == tokens->room) {
        size_t room = tokens->room ? tokens->room * 2 : 64;
        int32_t *ids = realloc(tokens->ids, room * sizeof *ids);
        if (!ids)
            return err_set(err, ERR_MEMORY, "tokenizer: no memory left for %zu tokens", room);
        tokens->ids = ids;
        tokens->room = room;
    }
    tokens->ids[tokens->n++] = id;
    return 0;
}

#endif
