/* Loading what runs. */
#include "engine/runtime.h"

#include <string.h>

int runtime_init(struct runtime *rt, const struct runtime_options *o, struct err *err)
{
    memset(rt, 0, sizeof *rt);
    int weights, rc = kernels_init(o->isa, err);
    if (!rc)
        rc = weight_type_parse(o->weights ? o->weights : "stored", &weights, err);
    if (!rc)
        rc = model_open(&rt->model, o->model, weights, o->context, err);
    if (rc)
        return rc;
    rc = tokenizer_open(&rt->tokenizer, o->model, &rt->model.config, err);
    if (!rc)
        rc = team_init(&rt->team, o->threads, err);
    if (!rc)
        rc = team_reserve(&rt->team, model_lane_bytes(&rt->model), err);
    if (rc)
        runtime_release(rt);
    return rc;
}

void runtime_release(struct runtime *rt)
{
    team_release(&rt->team);
    tokenizer_release(&rt->tokenizer);
    model_release(&rt->model);
    memset(rt, 0, sizeof *rt);
}
