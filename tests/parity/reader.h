/* A model in whatever form source_open reads, and what it takes to read one text through it in
 * passes, without the engine: rows that the test chooses, keys and values in f32. */
#ifndef TESTS_PARITY_READER_H
#define TESTS_PARITY_READER_H

#include "heads/heads.h"
#include "model/kv.h"
#include "tests/unit/unit.h"

struct reader {
    struct model model;
    struct team team;
    struct arena arena;
    struct kv_pool pool;
    struct kv kv;
    struct block_acts acts;
    struct head_work work;
    struct row *rows;
    int32_t *tokens;             /* (length) the text */
    int *some;                   /* rows of a pass whose logits are asked for */
    int length, first, n, n_out; /* a pass is of tokens first..first+n-1, n_out of them in some */
    float *z, *h, *normed, *logits; /* logits: (n_out, model_logits_stride) */
};

static void reader_take(struct reader *r)
{
    const struct config *c = &r->model.config;
    size_t n = (size_t)r->length, width = n * (size_t)c->dim * (size_t)head_states(c);
    block_acts_take(&r->acts, &r->arena, c, r->length, false);
    head_work_take(&r->work, &r->arena, c, r->length);
    r->rows = arena_take(&r->arena, n, sizeof *r->rows);
    r->tokens = arena_take(&r->arena, n + 1, sizeof *r->tokens); /* heads may look at the next */
    r->some = arena_take(&r->arena, n, sizeof *r->some);
    r->z = arena_take(&r->arena, width, sizeof(float));
    r->h = arena_take(&r->arena, width, sizeof(float));
    r->normed = arena_take(&r->arena, width, sizeof(float));
    r->logits = arena_take(&r->arena, n * model_logits_stride(&r->model), sizeof(float));
}

/* For texts of `length` tokens; weights as model_open has them. */
static void reader_init(struct reader *r, const char *path, const char *heads, int weights,
                        int lanes, int length)
{
    struct err err;
    memset(r, 0, sizeof *r);
    r->length = length;
    assert_ok(team_init(&r->team, lanes, &err), err);
    assert_ok(model_open(&r->model, path, heads, weights, length, &r->team, &err), err);
    assert_ok(team_reserve(&r->team, model_lane_bytes(&r->model), &err), err);
    reader_take(r);
    assert_ok(arena_init(&r->arena, &err), err);
    reader_take(r);
    assert_ok(kv_pool_init(&r->pool, &r->model.config, r->model.n_blocks, kv_pages(length),
                           WEIGHT_F32, &err),
              err);
    assert_ok(kv_init(&r->kv, &r->pool, length, &err), err);
    assert_true(kv_reserve(&r->kv, length));
}

static void reader_release(struct reader *r)
{
    kv_release(&r->kv);
    kv_pool_release(&r->pool);
    arena_release(&r->arena);
    model_release(&r->model);
    team_release(&r->team);
}

/* The trunk over the pass's rows and the next-token logits of those in some; drafts: more is to
 * come from heads (heads_verify). */
static void reader_pass(struct reader *r, struct lane *lane, bool drafts)
{
    struct pass pass = {&r->model, r->rows, r->n, attend_cached, NULL, NULL};
    struct aux_states aux = model_aux(&r->model, r->z, r->n);
    trunk_forward(lane, &pass, &r->acts, r->tokens + r->first, r->z, &aux);
    heads_verify(lane, &pass, &r->work, r->z, r->some, r->n_out, drafts, r->h);
    model_logits(lane, &r->model, 0, 1, r->h, r->n_out, r->normed, r->logits);
}

#endif
