/* Passes of models of random weights: set-up, measuring in turns, and the table. */
#include "tools/bench_shape.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "heads/heads.h"
#include "model/kv.h"
#include "tools/bench_peak.h"

/* The last layer is the next-token head's. */
#define SHAPE(d, l, h, g, f)                                                                       \
    {                                                                                              \
        .dim = d, .n_layers = (l)-1, .n_heads = h, .n_kv_heads = g, .hidden = f, .vocab = 32000,   \
        .context = 2048, .norm_eps = 1e-5f, .rope_theta = 10000, .kind = HEAD_PARALLEL,            \
        .n_predict = 1, .head_layers = 1, .bos = -1, .eos = -1                                     \
    }
static const struct {
    const char *name;
    struct config config;
} shapes[] = {{"110m", SHAPE(768, 12, 12, 12, 2048)},
              {"1b", SHAPE(2048, 22, 32, 4, 5632)}, /* TinyLlama 1.1B */
              {"7b", SHAPE(4096, 32, 32, 32, 11008)}};

/* Reading the weights shows what memory gives, unless caches hold most of them. */
#define BUFFER_BYTES ((size_t)512 << 20)
#define FEW_WEIGHTS_BYTES ((size_t)256 << 20)

struct cell {
    int context, batch, rows;
    bool skipped;
    double seconds[REPEAT_MAX]; /* per repetition */
    double relative[REPEAT_MAX];
};

struct shape_bench {
    const struct shape_options *o;
    const char *type;
    struct model model;
    struct team team;
    struct kv_pool pool;
    struct kv *kv; /* (sequences) */
    int *cached;   /* (sequences) positions that passes read: filled with random numbers */
    int n_sequences;

    size_t weight_bytes, products; /* of a pass; multiplications with weights of one row */
    enum weight_type kv_type;
    size_t kv_bytes;    /* keys and values of a position, all blocks */
    struct area *areas; /* what is read for the bandwidth */
    int n_areas;
    void *buffer;

    struct cell *cells; /* (contexts, batch sizes, rows) */
    int n_cells;
    double bandwidth[REPEAT_MAX], peak[REPEAT_MAX]; /* bytes and operations per second */
    double prompt[REPEAT_MAX];                      /* tokens per second */

    /* The pass, as in the engine. */
    struct arena arena;
    const struct head_type *head;
    struct head_work work;
    struct block_acts acts;
    struct row *rows;
    int32_t *tokens;
    int *full;
    int n_rows, n_out;
    float *z, *h, *normed, *logits;
};

/* ---- set-up ---- */

static void take(struct shape_bench *b)
{
    struct arena *a = &b->arena;
    const struct config *c = &b->model.config;
    size_t rows = SHAPE_ROWS_MOST, dim = (size_t)c->dim;
    b->rows = arena_take(a, rows, sizeof *b->rows);
    b->tokens = arena_take(a, rows, sizeof *b->tokens);
    b->full = arena_take(a, rows, sizeof *b->full);
    b->z = arena_take(a, (size_t)head_states(c) * rows * dim, sizeof(float));
    b->h = arena_take(a, rows * dim, sizeof(float));
    b->normed = arena_take(a, rows * dim, sizeof(float));
    b->logits = arena_take(a, rows * model_logits_stride(&b->model), sizeof(float));
    block_acts_take(&b->acts, a, c, SHAPE_ROWS_MOST, false);
    head_work_take(&b->work, a, c, SHAPE_ROWS_MOST);
}

static void add_weights(struct shape_bench *b, const struct linear *l)
{
    for (int i = 0; i < l->n_parts; i++) {
        size_t bytes = packed_bytes(l->parts[i].type, l->parts[i].outputs, l->inputs);
        b->areas[b->n_areas++] = (struct area){l->parts[i].data, bytes};
        b->weight_bytes += bytes;
    }
    b->products += (size_t)l->inputs * (size_t)l->outputs;
}

/* Lists the matrices of a pass, and what is read to see what memory gives. */
static int list_weights(struct shape_bench *b, struct err *err)
{
    const struct model *m = &b->model;
    b->areas = calloc(((size_t)m->n_blocks * 4 + 1) * LINEAR_PARTS, sizeof *b->areas);
    if (!b->areas)
        return err_set(err, ERR_MEMORY, "no memory for a list of matrices");
    for (int i = 0; i < m->n_blocks; i++) {
        add_weights(b, &m->blocks[i].wqkv);
        add_weights(b, &m->blocks[i].wo);
        add_weights(b, &m->blocks[i].w13);
        add_weights(b, &m->blocks[i].w2);
    }
    add_weights(b, &m->output);
    if (b->weight_bytes >= FEW_WEIGHTS_BYTES)
        return 0;
    b->buffer = mem_alloc(BUFFER_BYTES);
    if (!b->buffer)
        return err_set(err, ERR_MEMORY, "no memory for %zu MiB to read", BUFFER_BYTES >> 20);
    b->areas[0] = (struct area){b->buffer, BUFFER_BYTES};
    b->n_areas = 1;
    return 0;
}

static int positions(const struct shape_options *o)
{
    int most = list_largest(&o->context) + list_largest(&o->rows);
    return most > o->prompt ? most : o->prompt;
}

static int load_model(struct shape_bench *b, int type, struct err *err)
{
    const struct shape_options *o = b->o;
    struct config config = {0};
    b->type = type == WEIGHT_STORED ? "stored" : weight_type_name((enum weight_type)type);
    if (o->model)
        return model_open(&b->model, o->model, o->heads, type, positions(o), &b->team, err);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (!strcmp(o->shape, shapes[i].name))
            config = shapes[i].config;
    type = type == WEIGHT_STORED ? WEIGHT_Q8 : type;
    b->type = weight_type_name((enum weight_type)type);
    int rc = config_check(&config, err);
    return rc ? rc : model_random(&b->model, &config, (enum weight_type)type, positions(o), 1, err);
}

static int load(struct shape_bench *b, struct err *err)
{
    const struct shape_options *o = b->o;
    const struct config *config = &b->model.config;
    int type, rc = kernels_init(o->isa, err);
    if (!rc)
        rc = weight_type_parse(o->type, &type, err);
    if (!rc)
        rc = kv_type_parse(o->kv, &b->kv_type, err);
    if (rc)
        return rc;
    if ((rc = team_init(&b->team, o->threads, err)) || (rc = load_model(b, type, err)) ||
        (rc = list_weights(b, err)) ||
        (rc = team_reserve(&b->team, model_lane_bytes(&b->model), err)))
        return rc;
    b->kv_bytes = kv_position_bytes(config, b->model.n_blocks, b->kv_type);
    take(b);
    if ((rc = arena_init(&b->arena, err)))
        return rc;
    take(b);
    return 0;
}

/* Gives `batch` sequences a cache of `context` positions and the rows of a pass, if memory has room
 * for what that adds. */
static bool cache(struct shape_bench *b, int context, int batch, double room)
{
    int needed = context + list_largest(&b->o->rows);
    double sum = 0;
    for (int i = 0; i < b->n_sequences; i++)
        sum += i < batch && needed > b->cached[i] ? needed : b->cached[i];
    if (sum * (double)b->kv_bytes > room) {
        printf("skipped: context %d with batch %d: %.1f GiB of keys and values, but memory has "
               "room for %.1f\n",
               context, batch, sum * (double)b->kv_bytes * 0x1p-30, room * 0x1p-30);
        return false;
    }
    for (int i = 0; i < batch; i++)
        b->cached[i] = needed > b->cached[i] ? needed : b->cached[i];
    return true;
}

static int plan_cells(struct shape_bench *b, struct err *err)
{
    const struct shape_options *o = b->o;
    b->n_sequences = list_largest(&o->batch);
    b->n_cells = o->context.n * o->batch.n * o->rows.n;
    b->cells = calloc((size_t)b->n_cells, sizeof *b->cells);
    b->kv = calloc((size_t)b->n_sequences, sizeof *b->kv);
    b->cached = calloc((size_t)b->n_sequences, sizeof *b->cached);
    if (!b->cells || !b->kv || !b->cached)
        return err_set(err, ERR_MEMORY, "no memory for the table");
    double room = (double)mem_available() * 15 / 16;
    struct cell *cell = b->cells;
    b->cached[0] = o->prompt;
    for (int i = 0; i < o->context.n; i++)
        for (int j = 0; j < o->batch.n; j++) {
            int context = o->context.values[i], batch = o->batch.values[j];
            bool cached = cache(b, context, batch, room);
            for (int k = 0; k < o->rows.n; k++, cell++) {
                int rows = o->rows.values[k];
                bool many = batch * rows > SHAPE_ROWS_MOST;
                *cell = (struct cell){context, batch, rows, many || !cached, {0}, {0}};
                if (many && cached)
                    printf("skipped: batch %d with %d rows each: a pass here has at most %d\n",
                           batch, rows, SHAPE_ROWS_MOST);
            }
        }
    int rc = kv_pool_init(&b->pool, &b->model.config, b->model.n_blocks,
                          b->n_sequences * kv_pages(positions(o)), b->kv_type, err);
    for (int i = 0; i < b->n_sequences && !rc; i++) {
        rc = kv_init(&b->kv[i], &b->pool, positions(o), err);
        if (!rc)
            kv_reserve(&b->kv[i], positions(o));
    }
    return rc;
}

/* Memory never written would be one page of zeros, read from the nearest cache. */
static void fill_lane(struct lane *lane, void *arg)
{
    const struct shape_bench *b = arg;
    const struct config *c = &b->model.config;
    uint64_t state = rng_mix((uint64_t)lane->id);
    int begin, end;
    lane_share(lane, b->model.n_blocks * c->n_kv_heads, 1, &begin, &end);
    for (int i = 0; i < b->n_sequences; i++)
        for (int j = begin; j < end; j++) {
            float head[HEAD_DIM_MAX];
            for (int pos = 0; pos < (b->cached[i] + 15) / 16 * 16; pos++) {
                for (int k = 0; k < c->head_dim; k++) {
                    state = state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX */
                    head[k] = (float)(int32_t)(state >> 32) * 0x1p-31f;
                }
                kv_put_key(&b->kv[i], j / c->n_kv_heads, j % c->n_kv_heads, pos, head);
                kv_put_value(&b->kv[i], j / c->n_kv_heads, j % c->n_kv_heads, pos, head);
            }
        }
}

static void release(struct shape_bench *b)
{
    for (int i = 0; b->kv && i < b->n_sequences; i++)
        kv_release(&b->kv[i]);
    kv_pool_release(&b->pool);
    team_release(&b->team);
    model_release(&b->model);
    arena_release(&b->arena);
    free(b->kv);
    free(b->cached);
    free(b->areas);
    free(b->buffer);
    free(b->cells);
}

/* ---- measuring ---- */

static void pass_lane(struct lane *lane, void *arg)
{
    struct shape_bench *b = arg;
    struct pass pass = {&b->model, b->rows, b->n_rows, attend_cached, NULL, NULL};
    trunk_forward(lane, &pass, &b->acts, b->tokens, b->z, NULL);
    heads_verify(lane, &pass, &b->work, b->z, b->full, b->n_out, false, b->h);
    model_logits(lane, &b->model, 0, 1, b->h, b->n_out, b->normed, b->logits);
}

static void add_rows(struct shape_bench *b, struct kv *kv, int first, int n)
{
    for (int i = 0; i < n; i++, b->n_rows++) {
        b->rows[b->n_rows] = row_in_place(kv, first + i);
        b->tokens[b->n_rows] = (first + i) * 7919 % b->model.config.vocab;
    }
}

/* Seconds of one pass. */
static double decode(struct shape_bench *b, int context, int batch, int rows)
{
    b->n_rows = 0;
    for (int i = 0; i < batch; i++)
        add_rows(b, &b->kv[i], context, rows);
    for (b->n_out = 0; b->n_out < b->n_rows; b->n_out++)
        b->full[b->n_out] = b->n_out;
    double start = clock_seconds();
    team_run(&b->team, pass_lane, b);
    return clock_seconds() - start;
}

/* Seconds of reading a prompt into the first sequence's cache. */
static double read_prompt(struct shape_bench *b, int n)
{
    double start = clock_seconds();
    for (int first = 0; first < n; first += b->n_rows) {
        b->n_rows = 0;
        add_rows(b, b->kv, first, n - first < SHAPE_ROWS_MOST ? n - first : SHAPE_ROWS_MOST);
        b->n_out = first + b->n_rows == n;
        b->full[0] = b->n_rows - 1;
        team_run(&b->team, pass_lane, b);
    }
    return clock_seconds() - start;
}

static void measure(struct shape_bench *b)
{
    const struct shape_options *o = b->o;
    bool terminal = isatty(STDERR_FILENO);
    team_run(&b->team, fill_lane, b);
    decode(b, o->context.values[0], 1, 1); /* the first touch of everything */
    assert(isfinite(kernels.logsumexp(b->logits, b->model.config.vocab)));
    for (int r = 0; r < o->repeat; r++) {
        if (terminal)
            fprintf(stderr, "repetition %d of %d\r", r + 1, o->repeat);
        b->bandwidth[r] = peak_bandwidth(&b->team, b->areas, b->n_areas);
        b->peak[r] = peak_arithmetic(&b->team, b->model.output.parts[0].type);
        for (int i = 0; i < b->n_cells; i++) {
            struct cell *c = &b->cells[i], *single = c - i % o->rows.n;
            if (c->skipped)
                continue;
            c->seconds[r] = decode(b, c->context, c->batch, c->rows);
            c->relative[r] = c->seconds[r] / single->seconds[r];
        }
        if (o->prompt)
            b->prompt[r] = o->prompt / read_prompt(b, o->prompt);
    }
}

/* ---- the table ---- */

/* Additions and multiplications of a cell's pass: matrices, and attention of each row over its
 * position and those before. */
static double cell_operations(const struct shape_bench *b, const struct cell *c)
{
    double attention = 0, rows = (double)c->batch * c->rows;
    for (int i = 0; i < c->rows; i++)
        attention +=
            2.0 * b->model.config.dim * b->model.n_blocks * c->batch * (c->context + i + 1);
    return 2 * ((double)b->products * rows + attention);
}

/* Bytes of its weights, keys and values, as if each were read once. */
static double cell_bytes(const struct shape_bench *b, const struct cell *c)
{
    return (double)b->weight_bytes + (double)b->kv_bytes * c->batch * (c->context + c->rows);
}

/* Zero, for what the machine doesn't have, becomes null. */
static json_t *known(double x)
{
    return x > 0 ? json_real(x) : json_null();
}

static void report_cell(const struct shape_bench *b, const struct cell *c, json_t *passes)
{
    struct spread s = spread_of(c->seconds, b->o->repeat), r = spread_of(c->relative, b->o->repeat);
    double bandwidth = spread_of(b->bandwidth, b->o->repeat).median;
    double peak = spread_of(b->peak, b->o->repeat).median;
    double read = cell_bytes(b, c) / s.median / bandwidth;
    double calculated = peak > 0 ? cell_operations(b, c) / s.median / peak : 0;
    char arithmetic[16] = "n/a";
    if (peak > 0)
        snprintf(arithmetic, sizeof arithmetic, "%.3f", calculated);
    printf("%7d %5d %4d %9.2f %9.2f..%-9.2f %6.2f %6.2f..%-6.2f %9.2f %10s\n", c->context, c->batch,
           c->rows, s.median * 1e3, s.min * 1e3, s.max * 1e3, r.median, r.min, r.max, read,
           arithmetic);
    json_array_append_new(
        passes, json_pack("{s:s, s:s, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:s, "
                          "s:i}",
                          "shape", b->o->shape, "type", b->type, "context", c->context, "batch",
                          c->batch, "rows", c->rows, "ms", s.median * 1e3, "ms_min", s.min * 1e3,
                          "ms_max", s.max * 1e3, "relative", r.median, "relative_min", r.min,
                          "relative_max", r.max, "bandwidth_fraction", read, "arithmetic_fraction",
                          known(calculated), "isa", kernels.name, "threads", b->team.n));
}

static void report_machine(const struct shape_bench *b, json_t *json)
{
    struct spread m = spread_of(b->bandwidth, b->o->repeat), p = spread_of(b->peak, b->o->repeat);
    const char *instruction = peak_instruction(b->model.output.parts[0].type);
    printf(
        "%s: %zu parameters, %s weights of %.0f MB, %s keys and values, %s kernels, %d threads\n",
        b->o->shape, b->model.params.count, b->type, (double)b->weight_bytes * 1e-6,
        weight_type_name(b->kv_type), kernels.name, b->team.n);
    printf("memory: %.1f GB/s (%.1f..%.1f); arithmetic", m.median * 1e-9, m.min * 1e-9,
           m.max * 1e-9);
    if (instruction)
        printf(" (%s): %.0f Gop/s (%.0f..%.0f)\n\n", instruction, p.median * 1e-9, p.min * 1e-9,
               p.max * 1e-9);
    else
        printf(": n/a\n\n");
    json_object_set_new(
        json, "machine",
        json_pack("{s:f, s:f, s:f, s:o, s:s?, s:i, s:s, s:s}", "bandwidth_gb_s", m.median * 1e-9,
                  "bandwidth_gb_s_min", m.min * 1e-9, "bandwidth_gb_s_max", m.max * 1e-9,
                  "peak_gops", known(p.median * 1e-9), "peak_instruction", instruction, "threads",
                  b->team.n, "isa", kernels.name, "kv", weight_type_name(b->kv_type)));
}

static void report_prompt(const struct shape_bench *b, json_t *prompts)
{
    struct spread s = spread_of(b->prompt, b->o->repeat);
    printf("\nreading a prompt of %d tokens: %.1f tokens/s (%.1f..%.1f)\n", b->o->prompt, s.median,
           s.min, s.max);
    json_array_append_new(prompts, json_pack("{s:s, s:s, s:i, s:f, s:f, s:f, s:s, s:i}", "shape",
                                             b->o->shape, "type", b->type, "prompt", b->o->prompt,
                                             "tokens_per_s", s.median, "tokens_per_s_min", s.min,
                                             "tokens_per_s_max", s.max, "isa", kernels.name,
                                             "threads", b->team.n));
}

int shape_measure(const struct shape_options *options, json_t *json, struct err *err)
{
    struct shape_bench b = {.o = options};
    json_t *passes = json_array(), *prompts = json_array();
    assert(options->repeat >= 1 && options->repeat <= REPEAT_MAX && options->rows.values[0] == 1);
    int rc = load(&b, err);
    if (!rc)
        rc = plan_cells(&b, err);
    if (rc)
        goto out;
    measure(&b);
    report_machine(&b, json);
    printf("context batch rows   ms/pass       min..max       relative   min..max    memory "
           "arithmetic\n");
    for (int i = 0; i < b.n_cells; i++)
        if (!b.cells[i].skipped)
            report_cell(&b, &b.cells[i], passes);
    if (options->prompt)
        report_prompt(&b, prompts);
    json_object_set(json, "passes", passes);
    json_object_set(json, "prompts", prompts);
out:
    json_decref(passes);
    json_decref(prompts);
    release(&b);
    return rc;
}
