/* A model folder of random weights, for tests that need one to run. */
#ifndef TESTS_UNIT_RANDOM_MODEL_H
#define TESTS_UNIT_RANDOM_MODEL_H

#include "tests/unit/unit.h"
#include "train/checkpoint.h"
#include "text/vocab.h"

/* One layer or two of 32 numbers over bytes. */
static inline struct config random_config(enum head_kind kind, int n_layers, int heads)
{
    return (struct config){.dim = 32,
                           .n_layers = n_layers,
                           .n_heads = 2,
                           .n_kv_heads = 1,
                           .hidden = 32,
                           .vocab = BYTE_VOCAB,
                           .context = 32,
                           .norm_eps = 1e-5f,
                           .rope_theta = 10000,
                           .kind = kind,
                           .n_predict = heads,
                           .head_layers = head_kind_tensors(kind) == HEAD_LAYERS,
                           .bos = BYTE_TOKEN_END,
                           .eos = BYTE_TOKEN_END};
}

static inline void random_model(const char *folder, struct config config, enum dtype dtype)
{
    static struct trainer trainer;
    struct team team;
    struct err err;
    assert_ok(config_check(&config, &err), err);
    assert_ok(team_init(&team, 1, &err), err);
    assert_ok(trainer_init(&trainer, &config, 1, 5, &team, &err), err);
    assert_ok(checkpoint_export(&trainer, folder, dtype, &err), err);
    trainer_release(&trainer);
    team_release(&team);
}

#endif
