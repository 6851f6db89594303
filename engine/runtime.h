/* What a running model needs besides requests: its weights, its tokenizer, and the lanes that
 * compute with them. Owned by the engine (or a test, or the bench); scheduler.h borrows it. */
#ifndef ENGINE_RUNTIME_H
#define ENGINE_RUNTIME_H

#include "base/err.h"
#include "model/model.h"
#include "text/tokenizer.h"

struct runtime {
    struct model model;
    struct tokenizer *tokenizer;
    struct buf chat_template; /* as the model brings it; empty: it has none */
    struct team team;
};

struct runtime_options {
    const char *model;   /* folder or file, as source_open */
    const char *heads;   /* folder of heads for it, or NULL */
    int threads;         /* 0 = as many as there are cores */
    int context;         /* rotary positions to prepare; 0 = the model's */
    const char *isa;     /* as in engine_options */
    const char *weights; /* as in engine_options */
};

/* Chooses kernels, loads the model and starts the lanes. ERR_IO, ERR_INVALID, ERR_MEMORY. */
int runtime_init(struct runtime *runtime, const struct runtime_options *options, struct err *err);
void runtime_release(struct runtime *runtime);

#endif
