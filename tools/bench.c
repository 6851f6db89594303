/* headway-bench: what speculation brings on a model, measured as users feel it. For every number of
 * drafts k, and for auto (-1 in the JSON), the same prompts are decoded greedily, plain and
 * speculative interleaved in one process, and every text is compared with the plain one. The
 * counterpart of the paper's tables S2 and S3.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/opts.h"
#include "engine/scheduler.h"

static const char about[] = "headway-bench measures speculative decoding on a model: tokens per "
                            "forward, speed-up over plain\n"
                            "decoding, time per forward relative to plain, acceptance per head, "
                            "and whether the text was the\n"
                            "same. Prompts come from PROMPTS, a JSON object of lists: {\"code\": "
                            "[\"...\"], \"prose\": [...]};\n"
                            "the default is prompts.json in the model's folder.";

#define KINDS_MAX 8
#define BATCHES_MAX 8

struct options {
    const char *model, *json, *prompts, *batches, *isa, *type;
    int tokens, threads, repeat, limit;
};

/* One cell of the table: a kind of text, a batch size, a number of drafts. */
struct cell {
    double seconds[64];             /* per repetition */
    size_t tokens, forwards, steps; /* of one repetition; the texts are the same in all */
    uint64_t reached[ENGINE_DRAFTS_MAX], accepted[ENGINE_DRAFTS_MAX];
    bool identical;
};

struct bench {
    struct options o;
    struct scheduler s;
    json_t *prompts;
    json_t *decode; /* the list for --json */
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
    const struct config *c = &b->s.model.config;
    const char *text = json_string_value(prompt);
    size_t len = json_string_length(prompt), room = (size_t)(b->s.context - b->o.tokens - 1);
    int32_t *tokens = malloc((len + 1) * sizeof *tokens);
    if (!tokens)
        return err_set(err, ERR_MEMORY, "no memory for a prompt");
    size_t n = 0;
    if (c->bos >= 0)
        tokens[n++] = c->bos;
    n += tokenizer_encode(&b->s.tokenizer, text, len, tokens + n, len);
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
    int rc = scheduler_check(&b->s, &r, err);
    if (!rc)
        rc = scheduler_add(&b->s, &r, 1, err);
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
        scheduler_collected(s, i);
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
            count(cell, &q->speculation);
        }
        scheduler_remove(s, i);
    }
    if (repetition == 0) {
        cell->tokens -= before;
        cell->steps += steps;
    }
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void report(struct bench *b, const char *kind, int batch, int drafts,
                   const struct cell *cells)
{
    const struct cell *plain = &cells[0],
                      *c = &cells[drafts < 0 ? b->s.model.config.n_predict : drafts];
    int n = b->o.repeat;
    double ratio[64];
    for (int i = 0; i < n; i++)
        ratio[i] = plain->seconds[i] / c->seconds[i];
    qsort(ratio, (size_t)n, sizeof *ratio, by_value);
    double median = n % 2 ? ratio[n / 2] : (ratio[n / 2 - 1] + ratio[n / 2]) / 2;
    double seconds[64];
    memcpy(seconds, c->seconds, sizeof seconds);
    qsort(seconds, (size_t)n, sizeof *seconds, by_value);
    double per_forward = (double)c->tokens / (double)c->forwards;
    double speed = (double)c->tokens / seconds[n / 2];
    double pass = (double)plain->steps / (double)c->steps / median;
    char name[16];
    snprintf(name, sizeof name, drafts < 0 ? "auto" : "%d", drafts);
    printf("%-8s %5d %6s %8.2f %8.2f  %5.2f..%-5.2f %9.0f %9.2f   ", kind, batch, name, per_forward,
           median, ratio[0], ratio[n - 1], speed, pass);
    json_t *acceptance = json_array();
    int columns = b->s.model.config.n_predict - 1, shown = drafts < 0 ? columns : drafts;
    for (int j = 0; j < shown; j++) {
        double rate = c->reached[j] ? (double)c->accepted[j] / (double)c->reached[j] : 0;
        printf(" %.2f", rate);
        json_array_append_new(acceptance, json_real(rate));
    }
    printf("%*s %s\n", 5 * (columns - shown), "", c->identical ? "yes" : "NO");
    fflush(stdout);
    json_array_append_new(
        b->decode,
        json_pack("{s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:b}", "text", kind, "drafts",
                  drafts, "batch", batch, "tokens_per_forward", per_forward, "speedup", median,
                  "speedup_min", ratio[0], "speedup_max", ratio[n - 1], "tokens_per_s", speed,
                  "relative_pass_time", pass, "acceptance", acceptance, "identical", c->identical));
}

/* One kind of text and batch size: all numbers of drafts in turn, prompt by prompt. */
static int measure(struct bench *b, const char *kind, json_t *list, int batch, bool *identical,
                   struct err *err)
{
    int n = b->s.model.config.n_predict, rc = 0;
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

static int parse_batches(const char *text, int *batches, int *n, struct err *err)
{
    *n = 0;
    for (const char *at = text; *at;) {
        char *end;
        long value = strtol(at, &end, 10);
        if (end == at || value < 1 || value > 256 || *n == BATCHES_MAX || (*end && *end != ','))
            return err_set(
                err, ERR_INVALID,
                "--batch takes up to %d numbers from 1 to 256 separated by commas, not '%s'",
                BATCHES_MAX, text);
        batches[(*n)++] = (int)value;
        at = *end ? end + 1 : end;
    }
    if (!*n || batches[0] != 1)
        return err_set(err, ERR_INVALID,
                       "--batch must begin with 1, whose texts the others are held to");
    return 0;
}

static int run(struct bench *b, bool *identical, struct err *err)
{
    int batches[BATCHES_MAX], n_batches, most = 1,
                                         rc = parse_batches(b->o.batches, batches, &n_batches, err);
    if (rc || (rc = read_prompts(b, err)))
        return rc;
    for (int i = 0; i < n_batches; i++)
        most = batches[i] > most ? batches[i] : most;
    struct scheduler_options so = {b->o.model, b->o.threads, most, 0, 0, b->o.isa, b->o.type};
    if ((rc = scheduler_init(&b->s, &so, err)))
        return rc;
    if (b->o.tokens >= b->s.context - 2)
        return err_set(err, ERR_INVALID,
                       "--tokens %d leaves no room for a prompt in a context of %d", b->o.tokens,
                       b->s.context);
    printf("%s: %s heads, %d tokens predicted at once, %zu parameters, %s kernels, %d threads\n\n",
           b->o.model, head_kind_name(b->s.model.config.kind), b->s.model.config.n_predict,
           b->s.model.params.count, kernels.name, b->s.team.n);
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
        for (int i = 0; i < n_batches && !rc; i++)
            rc = measure(b, kind, list, batches[i], identical, err);
        free(b->plain);
        if (rc)
            return rc;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct err err;
    struct bench b = {
        .o = {.isa = "auto", .type = "stored", .batches = "1", .tokens = 128, .repeat = 3}};
    struct options *o = &b.o;
    const struct opt table[] = {
        {"model", OPT_STRING, &o->model, 0, 0, 0, "folder of the model"},
        {"prompts", OPT_STRING, &o->prompts, 0, 0, 0, "prompts, see above"},
        {"limit", OPT_INT, &o->limit, 0, 1e6, 0, "prompts of each kind that are used; 0 = all"},
        {"tokens", OPT_INT, &o->tokens, 2, 1e6, 0, "decoded per prompt"},
        {"batch", OPT_STRING, &o->batches, 0, 0, 0, "sequences at a time, as 1,4,16"},
        {"repeat", OPT_INT, &o->repeat, 1, 64, 0, "rounds; medians and extremes are over them"},
        {"threads", OPT_INT, &o->threads, 0, TEAM_MAX, 0, "0 = all"},
        {"isa", OPT_CHOICE, &o->isa, 0, 0, "auto|generic|avx2|avx512|vnni|amx", "kernels"},
        {"type", OPT_CHOICE, &o->type, 0, 0, WEIGHT_TYPE_NAMES, "of the matrices in memory"},
        {"json", OPT_STRING, &o->json, 0, 0, 0, "also write the table to this file"},
        {0}};
    bool identical = true;
    int rc = opts_parse(table, about, argc, argv, NULL, 0, NULL, &err);
    if (rc > 0)
        return 0;
    if (!rc && !o->model)
        rc = err_set(&err, ERR_INVALID, "--model is missing: name a folder");
    b.decode = json_array();
    if (!rc)
        rc = run(&b, &identical, &err);
    if (!rc && o->json) {
        json_t *all = json_pack("{s:O}", "decode", b.decode);
        if (json_dump_file(all, o->json, JSON_INDENT(1) | JSON_REAL_PRECISION(6)))
            rc = err_set(&err, ERR_IO, "%s could not be written", o->json);
        json_decref(all);
    }
    json_decref(b.decode);
    json_decref(b.prompts);
    scheduler_release(&b.s);
    if (rc)
        fprintf(stderr, "headway-bench: %s\n", err.text);
    else if (!identical)
        fprintf(stderr, "headway-bench: a speculative text differs from the plain one: this is a "
                        "bug, please report it\n");
    return rc || !identical;
}
