/* headway-bench: options, and what speculation brings on a model, measured as users feel it
 * (--model; passes of random weights, --shape, are bench_shape.c). For every number of drafts k,
 * and for auto (-1 in the JSON), the same prompts are decoded greedily, plain and speculative
 * interleaved in one process, and every text is compared with the plain one. The counterpart of the
 * paper's tables S2 and S3.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/opts.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "tools/bench_numbers.h"
#include "tools/bench_quality.h"
#include "tools/bench_sampler.h"
#include "tools/bench_shape.h"

static const char about[] = "headway-bench measures speculative decoding on a model: tokens per "
                            "forward, speed-up over plain\n"
                            "decoding, time per forward relative to plain, acceptance per head, "
                            "and whether the text was the\n"
                            "same. Prompts come from PROMPTS, a JSON object of lists: {\"code\": "
                            "[\"...\"], \"prose\": [...]};\n"
                            "the default is prompts.json in the model's folder.\n\n"
                            "With --shape it measures passes of a model of random weights "
                            "instead: what several rows cost\n"
                            "relative to one, and which part of the bandwidth of the memory and "
                            "of the processor's arithmetic\n"
                            "a pass uses. With --sampler it times the choice of a token.";

#define BATCH_MAX 256
#define CONTEXT_MAX 131072

struct options {
    const char *model, *json, *prompts, *batch, *isa, *type, *kv, *shape, *rows, *context,
        *held_out;
    int tokens, threads, repeat, limit, prompt, windows, vocab;
    bool sampler;
};

/* One cell of the table: a kind of text, a batch size, a number of drafts. */
struct cell {
    double seconds[REPEAT_MAX];     /* per repetition */
    size_t tokens, forwards, steps; /* of one repetition; the texts are the same in all */
    uint64_t reached[ENGINE_DRAFTS_MAX], accepted[ENGINE_DRAFTS_MAX];
    bool identical;
};

struct bench {
    struct options o;
    struct runtime runtime;
    struct scheduler s;
    json_t *prompts;
    json_t *decode; /* the list for --json, borrowed from it */
    int32_t *plain; /* (prompts of a kind, tokens) what plain decoding gave */
};

static int read_prompts(struct bench *b, struct err *err)
{
    char path[4096];
    json_error_t where;
    if (!b->o.prompts) {
        snprintf(path, sizeof path, "%s/prompts.json", b->o.model);
        b->o.prompts = path;
    }
    b->prompts = json_load_file(b->o.prompts, JSON_REJECT_DUPLICATES, &where);
    if (!b->prompts)
        return err_set(err, ERR_INVALID, "%s could not be read: %s (line %d): give --prompts FILE",
                       b->o.prompts, where.text, where.line);
    const char *kind;
    json_t *list, *text;
    size_t i;
    bool good = json_is_object(b->prompts) && json_object_size(b->prompts) > 0;
    json_object_foreach(b->prompts, kind, list)
    {
        good = good && json_is_array(list) && json_array_size(list) > 0;
        json_array_foreach(list, i, text) good = good && json_string_length(text) > 0;
    }
    if (!good)
        return err_set(err, ERR_INVALID,
                       "the prompts must be an object of non-empty lists of non-empty strings");
    return 0;
}

/* Puts a prompt into a slot: bos, then the end of the text that fits. */
static int add(struct bench *b, json_t *prompt, int drafts, struct err *err)
{
    const struct config *c = &b->runtime.model.config;
    const char *text = json_string_value(prompt);
    size_t len = json_string_length(prompt), room = (size_t)(b->s.context - b->o.tokens - 1);
    int32_t *tokens = malloc((len + 1) * sizeof *tokens);
    if (!tokens)
        return err_set(err, ERR_MEMORY, "no memory for a prompt");
    size_t n = 0;
    if (c->bos >= 0)
        tokens[n++] = c->bos;
    n += tokenizer_encode(&b->runtime.tokenizer, text, len, tokens + n, len);
    if (n > room) {
        memmove(tokens + 1, tokens + n - room + 1, (room - 1) * sizeof *tokens);
        n = room;
    }
    struct engine_request r = {.tokens = tokens,
                               .n_tokens = n,
                               .max_tokens = b->o.tokens,
                               .top_p = 1,
                               .repetition_penalty = 1,
                               .ignore_eos = true,
                               .speculation = drafts};
    int rc = request_check(&r, c->vocab, b->s.context, err);
    if (!rc)
        rc = scheduler_add(&b->s, &r, err);
    free(tokens);
    return rc;
}

static bool prompts_read(const struct scheduler *s)
{
    for (int i = 0; i < s->max_sequences; i++)
        if (s->sequences[i].active && s->sequences[i].n_tokens == s->sequences[i].n_prompt)
            return false;
    return true;
}

static bool all_finished(const struct scheduler *s)
{
    for (int i = 0; i < s->max_sequences; i++)
        if (s->sequences[i].active && !s->sequences[i].finish)
            return false;
    return true;
}

static void collect_all(struct scheduler *s)
{
    for (int i = 0; i < s->max_sequences; i++)
        sequence_collected(&s->sequences[i]);
}

/* How often draft j was verified after those before it were accepted, and how often it was. */
static void count(struct cell *cell, const struct engine_speculation *p)
{
    for (int drafted = 1; drafted <= ENGINE_DRAFTS_MAX; drafted++)
        for (int accepted = 0; accepted <= drafted; accepted++) {
            uint32_t n = p->histogram[drafted - 1][accepted];
            for (int j = 0; j < drafted && j <= accepted; j++) {
                cell->reached[j] += n;
                cell->accepted[j] += j < accepted ? n : 0;
            }
        }
}

/* Decodes `batch` prompts from number `first` of a list on, together. The clock runs from when all
 * prompts have been read and drafted from. */
static int decode(struct bench *b, json_t *list, size_t first, int batch, int drafts,
                  int repetition, struct cell *cell, struct err *err)
{
    struct scheduler *s = &b->s;
    size_t before = 0;
    for (int i = 0; i < batch; i++) {
        json_t *prompt = json_array_get(list, (first + (size_t)i) % json_array_size(list));
        int rc = add(b, prompt, drafts, err);
        if (rc < 0)
            return rc;
    }
    while (!prompts_read(s)) {
        scheduler_step(s);
        collect_all(s);
    }
    for (int i = 0; i < batch; i++)
        before += (size_t)(s->sequences[i].n_tokens - s->sequences[i].n_prompt);
    double start = clock_seconds();
    size_t steps = 0;
    for (; !all_finished(s); steps++) {
        scheduler_step(s);
        collect_all(s);
    }
    cell->seconds[repetition] += clock_seconds() - start;
    for (int i = 0; i < batch; i++) {
        struct sequence *q = &s->sequences[i];
        int32_t *plain =
            b->plain + ((first + (size_t)i) % json_array_size(list)) * (size_t)b->o.tokens;
        int32_t *made = q->tokens + q->n_prompt;
        size_t size = (size_t)b->o.tokens * sizeof *made;
        if (drafts == 0 && batch == 1 && repetition == 0)
            memcpy(plain, made, size);
        cell->identical = cell->identical && !memcmp(plain, made, size);
        if (repetition == 0) {
            cell->tokens += (size_t)b->o.tokens;
            cell->forwards += q->forwards - 1; /* the first came with the prompt */
            count(cell, &q->figures);
        }
        scheduler_remove(s, i);
    }
    if (repetition == 0) {
        cell->tokens -= before;
        cell->steps += steps;
    }
    return 0;
}

static void report(struct bench *b, const char *kind, int batch, int drafts,
                   const struct cell *cells)
{
    const struct cell *plain = &cells[0],
                      *c = &cells[drafts < 0 ? b->runtime.model.config.n_predict : drafts];
    int n = b->o.repeat;
    double ratios[REPEAT_MAX];
    for (int i = 0; i < n; i++)
        ratios[i] = plain->seconds[i] / c->seconds[i];
    struct spread ratio = spread_of(ratios, n);
    double per_forward = (double)c->tokens / (double)c->forwards;
    double speed = (double)c->tokens / spread_of(c->seconds, n).median;
    double pass = (double)plain->steps / (double)c->steps / ratio.median;
    char name[16];
    snprintf(name, sizeof name, drafts < 0 ? "auto" : "%d", drafts);
    printf("%-8s %5d %6s %8.2f %8.2f  %5.2f..%-5.2f %9.0f %9.2f   ", kind, batch, name, per_forward,
           ratio.median, ratio.min, ratio.max, speed, pass);
    json_t *acceptance = json_array();
    int columns = b->runtime.model.config.n_predict - 1, shown = drafts < 0 ? columns : drafts;
    for (int j = 0; j < shown; j++) {
        double rate = c->reached[j] ? (double)c->accepted[j] / (double)c->reached[j] : 0;
        printf(" %.2f", rate);
        json_array_append_new(acceptance, json_real(rate));
    }
    printf("%*s %s\n", 5 * (columns - shown), "", c->identical ? "yes" : "NO");
    fflush(stdout);
    json_array_append_new(
        b->decode, json_pack("{s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:b}", "text",
                             kind, "drafts", drafts, "batch", batch, "tokens_per_forward",
                             per_forward, "speedup", ratio.median, "speedup_min", ratio.min,
                             "speedup_max", ratio.max, "tokens_per_s", speed, "relative_pass_time",
                             pass, "acceptance", acceptance, "identical", c->identical));
}

/* One kind of text and batch size: all numbers of drafts in turn, prompt by prompt. */
static int measure(struct bench *b, const char *kind, json_t *list, int batch, bool *identical,
                   struct err *err)
{
    int n = b->runtime.model.config.n_predict, rc = 0;
    struct cell *cells = calloc((size_t)n + 1, sizeof *cells); /* the last: auto */
    size_t prompts = json_array_size(list);
    if (b->o.limit && (size_t)b->o.limit < prompts)
        prompts = (size_t)b->o.limit;
    if (!cells)
        return err_set(err, ERR_MEMORY, "no memory for the table");
    for (int k = 0; k <= n; k++)
        cells[k].identical = true;
    for (int rep = 0; rep < b->o.repeat && !rc; rep++)
        for (size_t p = 0; p < prompts && !rc; p += (size_t)batch)
            for (int k = 0; k <= n && !rc; k++)
                rc = decode(b, list, p, batch, k < n ? k : SPECULATION_AUTO, rep, &cells[k], err);
    for (int k = 0; k <= n && !rc; k++) {
        report(b, kind, batch, k < n ? k : SPECULATION_AUTO, cells);
        *identical = *identical && cells[k].identical;
    }
    free(cells);
    return rc;
}

static int open_model(struct bench *b, int sequences, struct err *err)
{
    struct runtime_options ro = {
        .model = b->o.model, .threads = b->o.threads, .isa = b->o.isa, .weights = b->o.type};
    struct scheduler_options so = {.max_sequences = sequences, .kv = b->o.kv};
    int rc = runtime_init(&b->runtime, &ro, err);
    return rc ? rc : scheduler_init(&b->s, &b->runtime, &so, err);
}

static int run(struct bench *b, json_t *json, bool *identical, struct err *err)
{
    struct list batch;
    int rc = list_parse(&batch, "batch", b->o.batch ? b->o.batch : "1", BATCH_MAX, err);
    if (!rc && batch.values[0] != 1)
        rc = err_set(err, ERR_INVALID,
                     "--batch must begin with 1, whose texts the others are held to");
    if (rc || (rc = read_prompts(b, err)))
        return rc;
    b->decode = json_array();
    json_object_set_new(json, "decode", b->decode);
    if ((rc = open_model(b, list_largest(&batch), err)))
        return rc;
    if (b->o.tokens >= b->s.context - 2)
        return err_set(err, ERR_INVALID,
                       "--tokens %d leaves no room for a prompt in a context of %d", b->o.tokens,
                       b->s.context);
    printf("%s: %s heads, %d tokens predicted at once, %zu parameters, %s kernels, %d threads\n\n",
           b->o.model, head_kind_name(b->runtime.model.config.kind), b->runtime.model.config.n_predict,
           b->runtime.model.params.count, kernels.name, b->runtime.team.n);
    printf(
        "text     batch drafts  tokens/ speed-up  min..max     tokens/s time per    acceptance of "
        "draft 1, 2, ...\n"
        "                       forward                               forward\n");
    const char *kind;
    json_t *list;
    json_object_foreach(b->prompts, kind, list)
    {
        b->plain = calloc(json_array_size(list), (size_t)b->o.tokens * sizeof *b->plain);
        if (!b->plain)
            return err_set(err, ERR_MEMORY, "no memory for the texts");
        for (int i = 0; i < batch.n && !rc; i++)
            rc = measure(b, kind, list, batch.values[i], identical, err);
        free(b->plain);
        if (rc)
            return rc;
    }
    return 0;
}

static int run_quality(struct bench *b, json_t *json, struct err *err)
{
    int rc = open_model(b, 1, err);
    return rc ? rc : quality_measure(&b->s, b->o.held_out, b->o.windows, json, err);
}

static int run_shape(const struct options *o, json_t *json, struct err *err)
{
    struct shape_options s = {.shape = o->shape,
                              .type = o->type,
                              .kv = o->kv,
                              .isa = o->isa,
                              .threads = o->threads,
                              .repeat = o->repeat,
                              .prompt = o->prompt};
    int rc = list_parse(&s.batch, "batch", o->batch ? o->batch : "1,4,16", BATCH_MAX, err);
    if (!rc)
        rc = list_parse(&s.rows, "rows", o->rows, SHAPE_ROWS_MOST, err);
    if (!rc)
        rc = list_parse(&s.context, "context", o->context, CONTEXT_MAX, err);
    if (!rc && s.rows.values[0] != 1)
        rc = err_set(err, ERR_INVALID, "--rows must begin with 1, which the others are held to");
    return rc ? rc : shape_measure(&s, json, err);
}

static int write_json(const json_t *json, const char *path, struct err *err)
{
    if (json_dump_file(json, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6)))
        return err_set(err, ERR_IO, "%s could not be written", path);
    return 0;
}

int main(int argc, char **argv)
{
    struct err err;
    struct bench b = {.o = {.isa = "auto",
                            .type = "stored",
                            .tokens = 128,
                            .rows = "1,2,3,4,5,6,7,8,12,16",
                            .context = "256,2048",
                            .prompt = 512,
                            .windows = 64,
                            .vocab = 151936}};
    struct options *o = &b.o;
    const struct opt table[] = {
        {"model", OPT_STRING, &o->model, 0, 0, 0, "folder of the model"},
        {"prompts", OPT_STRING, &o->prompts, 0, 0, 0, "prompts, see above"},
        {"limit", OPT_INT, &o->limit, 0, 1e6, 0, "prompts of each kind that are used; 0 = all"},
        {"tokens", OPT_INT, &o->tokens, 2, 1e6, 0, "decoded per prompt"},
        {"held-out", OPT_STRING, &o->held_out, 0, 0, 0,
         "text whose bits per byte to measure instead of speed"},
        {"windows", OPT_INT, &o->windows, 1, 1e6, 0, "stretches of it, a context long each"},
        {"shape", OPT_CHOICE, &o->shape, 0, 0, SHAPE_NAMES, "passes of random weights instead"},
        {"rows", OPT_STRING, &o->rows, 0, 0, 0, "of a pass, per sequence; with --shape"},
        {"context", OPT_STRING, &o->context, 0, 0, 0, "positions before the rows; with --shape"},
        {"prompt", OPT_INT, &o->prompt, 0, CONTEXT_MAX, 0,
         "tokens of a prompt to read, 0 = none; with --shape"},
        {"sampler", OPT_FLAG, &o->sampler, 0, 0, 0, "choices of tokens instead"},
        {"vocab", OPT_INT, &o->vocab, 2, 1e7, 0, "tokens to choose from; with --sampler"},
        {"batch", OPT_STRING, &o->batch, 0, 0, 0,
         "sequences at a time (default 1, with --shape 1,4,16)"},
        {"repeat", OPT_INT, &o->repeat, 0, REPEAT_MAX, 0,
         "rounds; medians and extremes are over them; 0 = 3, with --shape 5, with "
         "--sampler 31"},
        {"threads", OPT_INT, &o->threads, 0, TEAM_MAX, 0, "0 = all"},
        {"isa", OPT_CHOICE, &o->isa, 0, 0, "auto|generic|avx2|avx512|vnni|amx", "kernels"},
        {"type", OPT_CHOICE, &o->type, 0, 0, WEIGHT_TYPE_NAMES,
         "of the matrices in memory; with --shape, stored means q8"},
        {"kv", OPT_CHOICE, &o->kv, 0, 0, KV_TYPE_NAMES, "type of cached keys and values"},
        {"json", OPT_STRING, &o->json, 0, 0, 0, "also write the table to this file"},
        {0}};
    bool identical = true;
    int rc = opts_parse(table, about, argc, argv, NULL, 0, NULL, &err);
    if (rc > 0)
        return 0;
    if (!rc && (o->model != NULL) + (o->shape != NULL) + o->sampler != 1)
        rc = err_set(&err, ERR_INVALID,
                     "give either --model FOLDER, to measure speculation, or --shape, to time "
                     "passes of random weights, or --sampler, to time choices of tokens");
    if (!o->repeat)
        o->repeat = o->shape ? 5 : o->sampler ? 31 : 3;
    json_t *json = json_object();
    if (!rc && o->sampler)
        rc = sampler_measure(o->vocab, o->threads, o->isa, o->repeat, &err);
    else if (!rc && o->shape)
        rc = run_shape(o, json, &err);
    else if (!rc && o->held_out)
        rc = run_quality(&b, json, &err);
    else if (!rc)
        rc = run(&b, json, &identical, &err);
    if (!rc && o->json)
        rc = write_json(json, o->json, &err);
    json_decref(json);
    json_decref(b.prompts);
    scheduler_release(&b.s);
    runtime_release(&b.runtime);
    if (rc)
        fprintf(stderr, "headway-bench: %s\n", err.text);
    else if (!identical)
        fprintf(stderr, "headway-bench: a speculative text differs from the plain one: this is a "
                        "bug, please report it\n");
    return rc || !identical;
}
