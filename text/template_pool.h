/* Memory that is given back all at once: blocks that grow with what is asked, up to a limit. Serves
 * a template's tree and one rendering's values. A zeroed struct with a limit is empty. One owner.
 */
#ifndef TEXT_TEMPLATE_POOL_H
#define TEXT_TEMPLATE_POOL_H

#include <stdbool.h>
#include <stddef.h>

struct pool_block;

struct pool {
    struct pool_block *blocks; /* the one in use comes first */
    char *at;
    size_t left;         /* bytes behind at */
    size_t total, limit; /* handed out so far, and at most */
    bool full;           /* the limit was hit, rather than the system's memory */
};

/* count zeroed elements of `size` bytes, aligned for any of them; never NULL for 0 elements. NULL
 * when the limit is reached or memory ran out. */
void *pool_take(struct pool *pool, size_t count, size_t size);
void pool_release(struct pool *pool);

#endif
