/* Loading what runs. */
#include "engine/runtime.h"

#include "engine/engine.h"

#include <string.h>

static int open_text(struct runtime *rt, struct err *err)
{
    struct vocab vocab = {0};
    const struct source *source = &rt->model.source;
    int rc = source_vocab(source, &vocab, err);
    if (!rc && vocab.n_tokens > rt->model.config.vocab)
        rc = err_set(err, ERR_INVALID,
                     "%s: there are %d tokens, but the model's embedding has %d rows", source->path,
                     vocab.n_tokens, rt->model.config.vocab);
    if (!rc && (rc = tokenizer_init(&rt->tokenizer, &vocab, err)))
        err_prefix(err, rc, "%s", source->path);
    if (!rc)
        rc = source_template(source, &rt->chat_template, err);
    if (!rc && rt->chat_template.failed)
        rc = err_set(err, ERR_MEMORY, "%s: no memory for the chat template", source->path);
    vocab_release(&vocab);
    return rc;
}

_Static_assert(sizeof ENGINE_ISAS == sizeof "auto|" KERNELS_CHOICES, "engine.h names all kernels");

int runtime_init(struct runtime *rt, const struct runtime_options *o, struct err *err)
{
    memset(rt, 0, sizeof *rt);
    int weights, rc = kernels_init(o->isa, err);
    if (!rc)
        rc = weight_type_parse(o->weights ? o->weights : "stored", &weights, err);
    if (!rc)
        rc = team_init(&rt->team, o->threads, err);
    if (rc)
        return rc;
    rc = model_open(&rt->model, o->model, o->heads, weights, o->context, &rt->team, err);
    if (!rc)
        rc = open_text(rt, err);
    if (!rc)
        rc = team_reserve(&rt->team, model_lane_bytes(&rt->model), err);
    if (rc)
        runtime_release(rt);
    return rc;
}

void runtime_release(struct runtime *rt)
{
    team_release(&rt->team);
    tokenizer_free(rt->tokenizer);
    buf_release(&rt->chat_template);
    model_release(&rt->model);
    memset(rt, 0, sizeof *rt);
}
