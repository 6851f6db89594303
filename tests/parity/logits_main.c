/* What a model says of given tokens, to hold against an independent reference; no test by itself.
 *
 *   logits_main MODEL logits|nll|greedy IDS OUT [--type T --kv T --isa NAME --threads N]
 *               [--context N --count N --speculation K]
 *
 * IDS: int32 of this machine: for each sequence its length, then its tokens.
 * logits: OUT is f32, V numbers for every token of every sequence.
 * nll: the one sequence in chunks of --context tokens (512), each from position 0; OUT is f32,
 *      -log p(next token), --context - 1 of them for each chunk.
 * greedy: OUT is int32, --count (64) tokens behind each sequence, ends of text notwithstanding, by
 *      the engine's own steps with --speculation drafts (-1: auto, 0: none). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/opts.h"
#include "engine/scheduler.h"
#include "heads/heads.h"
#include "model/kv.h"

#define CHUNK 64 /* rows of a pass */

struct options {
    struct runtime_options runtime;
    const char *kv;
    int context, count, speculation;
};

struct ids {
    int32_t *tokens;
    int n;
};

/* One sequence in passes of CHUNK rows. */
struct passes {
    struct model *model;
    struct team *team;
    struct kv_pool pool;
    struct kv kv;
    struct arena arena;
    struct head_work work;
    struct block_acts acts;
    const int32_t *tokens;
    int first, n;
    float *z, *h, *normed, *logits;
    struct row rows[CHUNK];
    int all[CHUNK];
};

static void fail(const char *what)
{
    fprintf(stderr, "logits_main: %s\n", what);
    exit(1);
}

static void check(int rc, const struct err *err)
{
    if (rc)
        fail(err->text);
}

/* ---- passes ---- */

static void take(struct passes *p)
{
    const struct config *c = &p->model->config;
    size_t width = CHUNK * (size_t)c->dim * (size_t)head_states(c);
    block_acts_take(&p->acts, &p->arena, c, CHUNK, false);
    head_work_take(&p->work, &p->arena, c, CHUNK);
    p->z = arena_take(&p->arena, width, sizeof(float));
    p->h = arena_take(&p->arena, width, sizeof(float));
    p->normed = arena_take(&p->arena, width, sizeof(float));
    p->logits = arena_take(&p->arena, CHUNK * model_logits_stride(p->model), sizeof(float));
}

static void passes_init(struct passes *p, struct model *model, struct team *team, const char *kv,
                        int most)
{
    struct err err;
    enum weight_type type;
    *p = (struct passes){.model = model, .team = team};
    take(p);
    check(arena_init(&p->arena, &err), &err);
    take(p);
    check(kv_type_parse(kv, &type, &err), &err);
    check(kv_pool_init(&p->pool, &model->config, model->n_blocks, kv_pages(most), type, &err),
          &err);
    check(kv_init(&p->kv, &p->pool, most, &err), &err);
}

static void pass_lane(struct lane *lane, void *arg)
{
    struct passes *p = arg;
    struct pass pass = {p->model, p->rows, p->n, attend_cached, NULL, NULL};
    trunk_forward(lane, &pass, &p->acts, p->tokens + p->first, p->z, NULL);
    heads_verify(lane, &pass, &p->work, p->z, p->all, p->n, false, p->h);
    model_logits(lane, p->model, 0, 1, p->h, p->n, p->normed, p->logits);
}

/* Calls `use` with the logits of each token. */
static void passes_run(struct passes *p, const int32_t *tokens, int n,
                       void (*use)(const float *logits, int vocab, int32_t next, FILE *out),
                       FILE *out)
{
    size_t stride = model_logits_stride(p->model);
    kv_truncate(&p->kv, 0);
    if (!kv_reserve(&p->kv, n))
        fail("too few pages");
    p->tokens = tokens;
    for (p->first = 0; p->first < n; p->first += p->n) {
        p->n = n - p->first < CHUNK ? n - p->first : CHUNK;
        for (int i = 0; i < p->n; i++) {
            p->rows[i] = row_in_place(&p->kv, p->first + i);
            p->all[i] = i;
        }
        team_run(p->team, pass_lane, p);
        for (int i = 0; i < p->n; i++)
            use(p->logits + (size_t)i * stride, p->model->config.vocab,
                p->first + i + 1 < n ? tokens[p->first + i + 1] : -1, out);
    }
}

static void put_logits(const float *logits, int vocab, int32_t next, FILE *out)
{
    (void)next;
    fwrite(logits, sizeof *logits, (size_t)vocab, out);
}

static void put_nll(const float *logits, int vocab, int32_t next, FILE *out)
{
    double top = -INFINITY, sum = 0;
    if (next < 0)
        return;
    for (int i = 0; i < vocab; i++)
        top = logits[i] > top ? (double)logits[i] : top;
    for (int i = 0; i < vocab; i++)
        sum += exp((double)logits[i] - top);
    float nll = (float)(top + log(sum) - (double)logits[next]);
    fwrite(&nll, sizeof nll, 1, out);
}

/* ---- greedy ---- */

static void greedy(struct runtime *runtime, const struct options *o, const struct ids *list, int n,
                   FILE *out)
{
    struct err err;
    struct scheduler s;
    struct scheduler_options so = {.max_sequences = 1, .kv = o->kv};
    check(scheduler_init(&s, runtime, &so, &err), &err);
    for (int i = 0; i < n; i++) {
        struct engine_request r = {.tokens = list[i].tokens,
                                   .n_tokens = (size_t)list[i].n,
                                   .max_tokens = o->count,
                                   .top_p = 1,
                                   .repetition_penalty = 1,
                                   .ignore_eos = true,
                                   .speculation = o->speculation};
        int slot = scheduler_add(&s, &r, &err);
        check(slot < 0 ? slot : 0, &err);
        while (!s.sequences[slot].finish) {
            scheduler_step(&s);
            sequence_collected(&s.sequences[slot]);
        }
        fwrite(s.sequences[slot].tokens + list[i].n, sizeof(int32_t), (size_t)o->count, out);
        scheduler_remove(&s, slot);
    }
    scheduler_release(&s);
}

/* ---- files ---- */

static int read_ids(const char *path, struct ids *list, int most)
{
    FILE *in = fopen(path, "rb");
    int32_t n;
    int count = 0;
    if (!in)
        fail("IDS cannot be opened");
    for (; count < most && fread(&n, sizeof n, 1, in) == 1; count++) {
        list[count] = (struct ids){malloc((size_t)n * sizeof n), n};
        if (!list[count].tokens || fread(list[count].tokens, sizeof n, (size_t)n, in) != (size_t)n)
            fail("IDS is cut short");
    }
    fclose(in);
    return count;
}

int main(int argc, char **argv)
{
    static struct runtime runtime;
    static struct ids list[4096];
    struct options o = {.runtime = {.weights = "stored", .isa = "auto"},
                        .context = 512,
                        .count = 64,
                        .speculation = SPECULATION_AUTO};
    const struct opt table[] = {
        {"type", OPT_STRING, &o.runtime.weights, 0, 0, NULL, "of matrices"},
        {"kv", OPT_STRING, &o.kv, 0, 0, NULL, "of keys and values"},
        {"isa", OPT_STRING, &o.runtime.isa, 0, 0, NULL, "kernels"},
        {"threads", OPT_INT, &o.runtime.threads, 0, 64, NULL, "lanes"},
        {"context", OPT_INT, &o.context, 2, 1 << 20, NULL, "tokens of a chunk"},
        {"count", OPT_INT, &o.count, 1, 1 << 20, NULL, "tokens to add"},
        {"speculation", OPT_INT, &o.speculation, -1, 31, NULL, "drafts, -1 = auto"},
        {0}};
    const char *words[4];
    int n_words = 0;
    struct err err;
    int rc = opts_parse(table, "logits_main MODEL logits|nll|greedy IDS OUT", argc, argv, words, 4,
                        &n_words, &err);
    if (rc > 0)
        return 0;
    check(rc, &err);
    if (n_words != 4)
        fail("MODEL logits|nll|greedy IDS OUT are needed");
    int n = read_ids(words[2], list, 4096), most = o.context;
    for (int i = 0; i < n; i++)
        most = list[i].n > most ? list[i].n : most;
    o.runtime.model = words[0];
    o.runtime.context = most + o.count + 1;
    FILE *out = fopen(words[3], "wb");
    if (!out)
        fail("OUT cannot be written");
    if (!strcmp(words[1], "greedy")) {
        check(runtime_init(&runtime, &o.runtime, &err), &err);
        greedy(&runtime, &o, list, n, out);
        return fclose(out);
    }
    struct passes p;
    struct team *team = &runtime.team;
    int type;
    check(kernels_init(o.runtime.isa, &err), &err);
    check(weight_type_parse(o.runtime.weights, &type, &err), &err);
    check(team_init(team, o.runtime.threads, &err), &err);
    check(model_open(&runtime.model, words[0], NULL, type, most, team, &err), &err);
    check(team_reserve(team, model_lane_bytes(&runtime.model), &err), &err);
    passes_init(&p, &runtime.model, team, o.kv, most);
    bool nll = !strcmp(words[1], "nll");
    for (int i = 0; i < n && !nll; i++)
        passes_run(&p, list[i].tokens, list[i].n, put_logits, out);
    for (int at = 0; nll && n && at + o.context <= list[0].n; at += o.context)
        passes_run(&p, list[0].tokens + at, o.context, put_nll, out);
    return fclose(out);
}
