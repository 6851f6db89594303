/* headway-bench: the options. What they ask for is measured by bench_decode.c (speculation on a
 * model), bench_shape.c (passes of random weights), bench_quality.c and bench_sampler.c;
 * bench_replay.c repeats logged requests. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/opts.h"
#include "engine/scheduler.h"
#include "tools/bench_decode.h"
#include "tools/bench_doctor.h"
#include "tools/bench_quality.h"
#include "tools/bench_replay.h"
#include "tools/bench_sampler.h"
#include "tools/bench_shape.h"

static const char about[] = "headway-bench measures speculative decoding on a model: tokens per "
                            "forward, speed-up over plain\n"
                            "decoding, time per forward relative to plain, acceptance per head, "
                            "and whether the text was the\n"
                            "same. Prompts come from PROMPTS, a JSON object of lists: {\"code\": "
                            "[\"...\"], \"prose\": [...]}, or a file of texts of headway-write's;\n"
                            "the default is prompts.json in the model's folder. MODES are: k for a "
                            "chain of k drafts from heads,\n"
                            "tree:n, lookup:n or both:n for n drafts of a tree from heads, of "
                            "look-up, of both, auto, chain:auto;\n"
                            "the default is every chain, and auto.\n\n"
                            "With --passes, or with --shape on random weights, it measures passes "
                            "instead: what several rows cost\n"
                            "relative to one, and which part of the bandwidth of the memory and "
                            "of the processor's arithmetic\n"
                            "a pass uses. With --sampler it times the choice of a token.\n\n"
                            "With --replay it repeats the requests of a log, lines of "
                            "headway-server's --audit-file or other\n"
                            "bodies of /v1/completions, plainly and with drafts, and says whether "
                            "the tokens are those that were logged;\n"
                            "the exit status is 1 where one differs.";

#define CONTEXT_MAX 131072

struct options {
    const char *model, *heads, *json, *prompts, *batch, *isa, *type, *kv, *shape, *rows, *context,
        *held_out, *modes, *replay;
    double temperature;
    int tokens, threads, repeat, limit, prompt, windows, vocab;
    bool sampler, passes, chat, doctor;
};

struct bench {
    struct options o;
    struct runtime runtime;
    struct scheduler s;
};

static int open_model(struct bench *b, int sequences, struct err *err)
{
    struct runtime_options ro = {.model = b->o.model,
                                 .heads = b->o.heads,
                                 .threads = b->o.threads,
                                 .isa = b->o.isa,
                                 .weights = b->o.type};
    struct scheduler_options so = {.max_sequences = sequences, .kv = b->o.kv};
    int rc = runtime_init(&b->runtime, &ro, err);
    return rc ? rc : scheduler_init(&b->s, &b->runtime, &so, err);
}

static int run_decode(struct bench *b, json_t *json, bool *identical, struct err *err)
{
    char path[4096];
    struct decode_options d = {.prompts = b->o.prompts,
                               .modes = b->o.modes,
                               .tokens = b->o.tokens,
                               .repeat = b->o.repeat,
                               .limit = b->o.limit,
                               .temperature = b->o.temperature,
                               .chat = b->o.chat};
    int rc = list_parse(&d.batch, "batch",
                        b->o.batch    ? b->o.batch
                        : b->o.doctor ? "1,4,16"
                                      : "1",
                        DECODE_BATCH_MAX, err);
    if (!rc && d.batch.values[0] != 1)
        rc = err_set(err, ERR_INVALID,
                     "--batch must begin with 1, whose texts the others are held to");
    if (!rc)
        rc = open_model(b, list_largest(&d.batch), err);
    if (!rc && b->o.doctor && !d.prompts)
        doctor_options(&b->s, &d);
    if (!d.prompts) {
        snprintf(path, sizeof path, "%s/prompts.json", b->o.model);
        d.prompts = path;
    }
    if (!rc)
        rc = decode_measure(&b->s, &d, json, identical, err);
    if (!rc && b->o.doctor)
        doctor_tell(&b->s, json);
    json_decref(d.given);
    return rc;
}

static int run_quality(struct bench *b, json_t *json, struct err *err)
{
    int rc = open_model(b, 1, err);
    return rc ? rc : quality_measure(&b->s, b->o.held_out, b->o.windows, json, err);
}

static int run_replay(struct bench *b, json_t *json, bool *identical, struct err *err)
{
    int rc = open_model(b, 1, err);
    return rc ? rc : replay_measure(&b->s, b->o.replay, json, identical, err);
}

static int run_shape(const struct options *o, json_t *json, struct err *err)
{
    struct shape_options s = {.model = o->model,
                              .heads = o->heads,
                              .shape = o->shape ? o->shape : "model",
                              .type = o->type,
                              .kv = o->kv,
                              .isa = o->isa,
                              .threads = o->threads,
                              .repeat = o->repeat,
                              .prompt = o->prompt};
    int rc = list_parse(&s.batch, "batch", o->batch ? o->batch : "1,4,16", DECODE_BATCH_MAX, err);
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
        {"model", OPT_STRING, &o->model, 0, 0, 0, "folder or file of the model"},
        {"heads", OPT_STRING, &o->heads, 0, 0, 0, "folder of heads for it"},
        {"prompts", OPT_STRING, &o->prompts, 0, 0, 0, "prompts, see above"},
        {"chat", OPT_FLAG, &o->chat, 0, 0, 0, "prompts are questions in the model's chat"},
        {"doctor", OPT_FLAG, &o->doctor, 0, 0, 0,
         "say in sentences what speculation is worth here, on prompts of its own"},
        {"limit", OPT_INT, &o->limit, 0, 1e6, 0, "prompts of each kind that are used; 0 = all"},
        {"modes", OPT_STRING, &o->modes, 0, 0, 0, "ways to draft, see above"},
        {"temperature", OPT_REAL, &o->temperature, 0, 100, 0, "of sampling; 0 = greedy"},
        {"tokens", OPT_INT, &o->tokens, 2, 1e6, 0, "decoded per prompt"},
        {"held-out", OPT_STRING, &o->held_out, 0, 0, 0,
         "text whose bits per byte to measure instead of speed"},
        {"replay", OPT_STRING, &o->replay, 0, 0, 0, "log whose requests to repeat instead"},
        {"windows", OPT_INT, &o->windows, 1, 1e6, 0, "stretches of it, a context long each"},
        {"shape", OPT_CHOICE, &o->shape, 0, 0, SHAPE_NAMES, "passes of random weights instead"},
        {"passes", OPT_FLAG, &o->passes, 0, 0, 0, "passes of the model instead of decoding"},
        {"rows", OPT_STRING, &o->rows, 0, 0, 0, "of a pass, per sequence"},
        {"context", OPT_STRING, &o->context, 0, 0, 0, "positions before the rows of a pass"},
        {"prompt", OPT_INT, &o->prompt, 0, CONTEXT_MAX, 0,
         "tokens of a prompt to read beside passes, 0 = none"},
        {"sampler", OPT_FLAG, &o->sampler, 0, 0, 0, "choices of tokens instead"},
        {"vocab", OPT_INT, &o->vocab, 2, 1e7, 0, "tokens to choose from; with --sampler"},
        {"batch", OPT_STRING, &o->batch, 0, 0, 0,
         "sequences at a time (default 1, of passes 1,4,16)"},
        {"repeat", OPT_INT, &o->repeat, 0, REPEAT_MAX, 0,
         "rounds; medians and extremes are over them; 0 = 3, of passes 5, with "
         "--sampler 31"},
        {"threads", OPT_INT, &o->threads, 0, TEAM_MAX, 0, "0 = all"},
        {"isa", OPT_CHOICE, &o->isa, 0, 0, "auto|" KERNELS_CHOICES, "kernels"},
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
                     "give either --model PATH, to measure speculation, or --shape, to time "
                     "passes of random weights, or --sampler, to time choices of tokens");
    if (!o->repeat)
        o->repeat = o->shape || o->passes ? 5 : o->sampler ? 31 : 3;
    json_t *json = json_object();
    if (!rc && o->sampler)
        rc = sampler_measure(o->vocab, o->threads, o->isa, o->repeat, &err);
    else if (!rc && (o->shape || o->passes))
        rc = run_shape(o, json, &err);
    else if (!rc && o->replay)
        rc = run_replay(&b, json, &identical, &err);
    else if (!rc && o->held_out)
        rc = run_quality(&b, json, &err);
    else if (!rc)
        rc = run_decode(&b, json, &identical, &err);
    if (!rc && o->json)
        rc = write_json(json, o->json, &err);
    json_decref(json);
    scheduler_release(&b.s);
    runtime_release(&b.runtime);
    if (rc)
        fprintf(stderr, "headway-bench: %s\n", err.text);
    else if (!identical && o->replay)
        fprintf(stderr, "headway-bench: what was decoded again differs: where it is what was "
                        "logged, this is a bug, please report it\n");
    else if (!identical)
        fprintf(stderr, "headway-bench: a speculative text differs from the plain one: this is a "
                        "bug, please report it\n");
    return rc || !identical;
}
