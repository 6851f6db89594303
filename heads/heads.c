/* The table of head kinds. */
#include "heads/heads.h"

#include "heads/parallel.h"

static const struct head_type *const types[HEAD_KINDS] = {
    [HEAD_PARALLEL] = &head_parallel,
};

const struct head_type *head_type(enum head_kind kind)
{
    return types[kind];
}

void head_work_take(struct head_work *work, struct arena *arena, const struct config *config,
                    int rows)
{
    block_acts_take(&work->acts, arena, config, rows, false);
    work->chain = arena_take(arena, (size_t)rows * (size_t)config->dim, sizeof(float));
}
