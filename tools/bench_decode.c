/* Decoding prompts in several ways. */
#include "tools/bench_decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/request.h"
#include "text/chat_frame.h"
#include "text/text_file.h"

/* A way to decode. */
struct mode {
    char name[24];
    int speculation;
    unsigned drafters;
};

/* One cell of the table: a kind of text, a batch size, a mode. */
struct cell {
    double seconds[REPEAT_MAX];   /* per repetition */
    size_t tokens[REPEAT_MAX];    /* decoded in them */
    size_t forwards, made, steps; /* of one repetition; the texts are the same in all */
    uint64_t reached[ENGINE_DRAFTS_MAX], accepted[ENGINE_DRAFTS_MAX];
    bool identical;
};

struct bench {
    const struct decode_options *o;
    struct scheduler *s;
    json_t *decode; /* the list for the JSON, borrowed from it */
    struct mode modes[DECODE_MODES_MAX];
    int n_modes;             /* the first is plain */
    int32_t *plain;          /* (prompts of a kind, tokens) what plain decoding gave */
    struct chat_frame frame; /* with chat */
};

/* ---- what to decode, and how ---- */

/* The prompts of a file of texts as lists of tokens: questions that no text of the model's own has
 * been kept for. */
static int read_texts(const char *path, int vocab, json_t **prompts, struct err *err)
{
    struct text_file texts;
    struct text_record record;
    json_t *list = json_array();
    size_t at = 0;
    int rc = text_file_read(&texts, path, err);
    if (!rc && texts.vocab != vocab)
        rc = err_set(err, ERR_INVALID, "%s is of a vocabulary of %d tokens, the model has %d", path,
                     texts.vocab, vocab);
    while (!rc && text_file_next(&texts, &at, &record)) {
        json_t *tokens = record.prompt ? json_array() : NULL;
        for (uint32_t i = 0; i < record.prompt; i++)
            json_array_append_new(tokens, json_integer(record.tokens[i]));
        if (tokens)
            json_array_append_new(list, tokens);
    }
    text_file_release(&texts);
    if (!rc && !json_array_size(list))
        rc = err_set(err, ERR_INVALID, "%s has no text with a prompt", path);
    *prompts = json_pack("{s:o}", "texts", list);
    return rc;
}

static bool is_text_file(const char *path)
{
    char magic[12] = "";
    FILE *file = fopen(path, "rb");
    bool is =
        file && fread(magic, sizeof magic, 1, file) == 1 && !memcmp(magic, "headway-text", 12);
    if (file)
        fclose(file);
    return is;
}

static int read_prompts(const char *path, int vocab, json_t **prompts, struct err *err)
{
    json_error_t where;
    if (is_text_file(path))
        return read_texts(path, vocab, prompts, err);
    *prompts = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    if (!*prompts)
        return err_set(err, ERR_INVALID, "%s could not be read: %s (line %d): give --prompts FILE",
                       path, where.text, where.line);
    const char *kind;
    json_t *list, *text;
    size_t i;
    bool good = json_is_object(*prompts) && json_object_size(*prompts) > 0;
    json_object_foreach(*prompts, kind, list)
    {
        good = good && json_is_array(list) && json_array_size(list) > 0;
        json_array_foreach(list, i, text) good = good && json_string_length(text) > 0;
    }
    if (!good)
        return err_set(err, ERR_INVALID,
                       "the prompts must be an object of non-empty lists of non-empty strings");
    return 0;
}

static int add_mode(struct bench *b, const char *name, struct err *err)
{
    static const struct {
        const char *name;
        unsigned drafters;
    } kinds[] = {{"", DRAFT_HEADS},
                 {"chain:", DRAFT_HEADS},
                 {"tree:", DRAFT_HEADS | DRAFT_TREE},
                 {"both:", DRAFT_HEADS | DRAFT_TREE | DRAFT_LOOKUP},
                 {"lookup:", DRAFT_LOOKUP}};
    struct mode *m = &b->modes[b->n_modes];
    if (b->n_modes == DECODE_MODES_MAX)
        return err_set(err, ERR_INVALID, "there are more than %d modes", DECODE_MODES_MAX);
    snprintf(m->name, sizeof m->name, "%s", name);
    m->speculation = SPECULATION_AUTO;
    m->drafters = 0;
    if (!strcmp(name, "auto")) {
        b->n_modes++;
        return 0;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t len = strlen(kinds[i].name);
        char *end;
        if (strncmp(name, kinds[i].name, len))
            continue;
        m->drafters = kinds[i].drafters;
        if (len && !strcmp(name + len, "auto")) {
            b->n_modes++;
            return 0;
        }
        long k = strtol(name + len, &end, 10);
        if (end == name + len || *end || k < 0 || k > ENGINE_DRAFTS_MAX)
            continue;
        m->speculation = (int)k;
        b->n_modes++;
        return 0;
    }
    return err_set(err, ERR_INVALID, "'%s' is no way to decode: use " DECODE_MODES_ABOUT, name);
}

static int list_modes(struct bench *b, struct err *err)
{
    char name[24];
    int rc = add_mode(b, "0", err), heads = b->s->runtime->model.config.n_predict;
    if (!b->o->modes) {
        for (int k = 1; k < heads && !rc; k++) {
            snprintf(name, sizeof name, "%d", k);
            rc = add_mode(b, name, err);
        }
        return rc ? rc : add_mode(b, "auto", err);
    }
    for (const char *at = b->o->modes; *at && !rc;) {
        size_t len = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), at);
        if (strcmp(name, "0") != 0)
            rc = add_mode(b, name, err);
        at += len + (at[len] == ',');
    }
    return rc;
}

/* ---- decoding ---- */

/* A prompt's tokens: those it is a list of, or the text as it is, with bos, or as a question in the
 * model's chat. */
static int encode(struct bench *b, const json_t *prompt, struct tokens *tokens, struct err *err)
{
    const char *text = json_string_value(prompt);
    size_t len = json_string_length(prompt), i;
    json_t *token;
    int rc = 0;
    if (json_is_array(prompt)) { /* of a file of texts */
        json_array_foreach(prompt, i, token)
        {
            int32_t id = (int32_t)json_integer_value(token);
            if ((rc = tokens_append(tokens, &id, 1, err)))
                return rc;
        }
        return 0;
    }
    const struct tokenizer *tokenizer = b->s->runtime->tokenizer;
    struct encode_options whole = {.add_special = true, .parse_special = true}, plain = {0};
    if (!b->o->chat)
        return tokenizer_encode(tokenizer, text, len, &whole, tokens, err);
    rc = tokens_append(tokens, b->frame.before.ids, b->frame.before.n, err);
    if (!rc)
        rc = tokenizer_encode(tokenizer, text, len, &plain, tokens, err);
    return rc ? rc : tokens_append(tokens, b->frame.behind.ids, b->frame.behind.n, err);
}

/* Puts a prompt into a slot: the end of it that fits. */
static int add(struct bench *b, json_t *prompt, size_t number, const struct mode *mode,
               struct err *err)
{
    const struct config *c = &b->s->runtime->model.config;
    size_t room = (size_t)(b->s->context - b->o->tokens - 1);
    struct tokens all = {0};
    int rc = encode(b, prompt, &all, err);
    if (rc) {
        free(all.ids);
        return rc;
    }
    int32_t *tokens = all.ids;
    size_t n = all.n;
    if (n > room) {
        memmove(tokens + 1, tokens + n - room + 1, (room - 1) * sizeof *tokens);
        n = room;
    }
    struct engine_request r = {.tokens = tokens,
                               .n_tokens = n,
                               .max_tokens = b->o->tokens,
                               .temperature = (float)b->o->temperature,
                               .top_p = 1,
                               .repetition_penalty = 1,
                               .seed = number,
                               .ignore_eos = true,
                               .speculation = mode->speculation,
                               .drafters = mode->drafters};
    rc = request_check(&r, c->vocab, b->s->context, err);
    if (!rc)
        rc = scheduler_add(b->s, &r, err);
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

static int unfinished(const struct scheduler *s)
{
    int n = 0;
    for (int i = 0; i < s->max_sequences; i++)
        n += s->sequences[i].active && !s->sequences[i].finish;
    return n;
}

static size_t tokens_made(const struct scheduler *s)
{
    size_t n = 0;
    for (int i = 0; i < s->max_sequences; i++)
        if (s->sequences[i].active)
            n += (size_t)(s->sequences[i].n_tokens - s->sequences[i].n_prompt);
    return n;
}

static void step(struct scheduler *s)
{
    scheduler_step(s);
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

/* Holds a text to the plain one, which comes first. */
static void compare(struct bench *b, const struct sequence *q, size_t prompt, bool first,
                    struct cell *cell)
{
    int32_t *plain = b->plain + prompt * (size_t)b->o->tokens;
    const int32_t *made = q->tokens + q->n_prompt;
    size_t size = (size_t)b->o->tokens * sizeof *made;
    if (first)
        memcpy(plain, made, size);
    cell->identical = cell->identical && !memcmp(plain, made, size);
}

/* Decodes `batch` prompts from number `first` of the first n of a list on, together. The clock runs
 * from when all prompts have been read and drafted from until the first text ends: what comes then
 * is no batch of that size any more, and lasts longer the less evenly the texts progress. */
static int decode(struct bench *b, json_t *list, size_t n, size_t first, int batch, int mode,
                  int repetition, struct cell *cell, struct err *err)
{
    struct scheduler *s = b->s;
    size_t steps = 0;
    for (int i = 0; i < batch; i++) {
        size_t prompt = (first + (size_t)i) % n;
        int rc = add(b, json_array_get(list, prompt), prompt, &b->modes[mode], err);
        if (rc < 0)
            return rc;
    }
    while (!prompts_read(s))
        step(s);
    size_t before = tokens_made(s);
    double start = clock_seconds();
    if (unfinished(s) < batch)
        return err_set(err, ERR_INVALID,
                       "of %d prompts read together one had its whole answer before the last was "
                       "read: use more than --tokens %d",
                       batch, b->o->tokens);
    for (; unfinished(s) == batch; steps++)
        step(s);
    cell->seconds[repetition] += clock_seconds() - start;
    cell->tokens[repetition] += tokens_made(s) - before;
    while (unfinished(s))
        step(s);
    for (int i = 0; i < batch; i++) {
        struct sequence *q = &s->sequences[i];
        compare(b, q, (first + (size_t)i) % n, mode == 0 && batch == 1 && repetition == 0, cell);
        if (repetition == 0) {
            cell->made += (size_t)b->o->tokens - 1; /* the first came with the prompt */
            cell->forwards += q->forwards - 1;
            count(cell, &q->figures);
        }
        scheduler_remove(s, i);
    }
    if (repetition == 0)
        cell->steps += steps;
    return 0;
}

/* ---- the table ---- */

static json_t *drafts_of(const struct mode *mode)
{
    const char *colon = strchr(mode->name, ':');
    if (mode->speculation == SPECULATION_AUTO)
        return json_string("auto");
    return colon && strncmp(mode->name, "chain", 5)
               ? json_stringn(mode->name, (size_t)(colon - mode->name))
               : json_integer(mode->speculation);
}

static void report(struct bench *b, const char *kind, int batch, int mode, const struct cell *cells)
{
    const struct cell *plain = &cells[0], *c = &cells[mode];
    const struct mode *m = &b->modes[mode];
    int n = b->o->repeat;
    double ratios[REPEAT_MAX], speeds[REPEAT_MAX], passes[REPEAT_MAX];
    for (int i = 0; i < n; i++) {
        speeds[i] = (double)c->tokens[i] / c->seconds[i];
        ratios[i] = speeds[i] / ((double)plain->tokens[i] / plain->seconds[i]);
        passes[i] = c->seconds[i] / (double)c->steps / (plain->seconds[i] / (double)plain->steps);
    }
    struct spread ratio = spread_of(ratios, n);
    double per_forward = (double)c->made / (double)c->forwards;
    double speed = spread_of(speeds, n).median, pass = spread_of(passes, n).median;
    printf("%-8s %5d %9s %8.2f %8.2f  %5.2f..%-5.2f %9.0f %9.2f   ", kind, batch, m->name,
           per_forward, ratio.median, ratio.min, ratio.max, speed, pass);
    json_t *acceptance = json_array();
    for (int j = 0; j < ENGINE_DRAFTS_MAX && c->reached[j]; j++) {
        double rate = (double)c->accepted[j] / (double)c->reached[j];
        json_array_append_new(acceptance, json_real(rate));
        if (j < 7)
            printf(" %.2f", rate);
    }
    printf("  %s\n", c->identical ? "yes" : "NO");
    fflush(stdout);
    json_array_append_new(
        b->decode,
        json_pack("{s:s, s:o, s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:b}", "text", kind,
                  "drafts", drafts_of(m), "mode", m->name, "most_drafts", m->speculation, "batch",
                  batch, "tokens_per_forward", per_forward, "speedup", ratio.median, "speedup_min",
                  ratio.min, "speedup_max", ratio.max, "tokens_per_s", speed, "relative_pass_time",
                  pass, "acceptance", acceptance, "identical", c->identical));
}

/* One kind of text and batch size: all modes in turn, prompt by prompt. */
static int measure(struct bench *b, const char *kind, json_t *list, int batch, bool *identical,
                   struct err *err)
{
    int rc = 0;
    struct cell *cells = calloc((size_t)b->n_modes, sizeof *cells);
    size_t prompts = json_array_size(list);
    if (b->o->limit && (size_t)b->o->limit < prompts)
        prompts = (size_t)b->o->limit;
    if (!cells)
        return err_set(err, ERR_MEMORY, "no memory for the table");
    for (int k = 0; k < b->n_modes; k++)
        cells[k].identical = true;
    for (int rep = 0; rep < b->o->repeat && !rc; rep++)
        for (size_t p = 0; p < prompts && !rc; p += (size_t)batch)
            for (int k = 0; k < b->n_modes && !rc; k++)
                rc = decode(b, list, prompts, p, batch, k, rep, &cells[k], err);
    for (int k = 0; k < b->n_modes && !rc; k++) {
        report(b, kind, batch, k, cells);
        *identical = *identical && cells[k].identical;
    }
    free(cells);
    return rc;
}

static int measure_all(struct bench *b, json_t *prompts, bool *identical, struct err *err)
{
    const char *kind;
    json_t *list;
    int rc = 0;
    json_object_foreach(prompts, kind, list)
    {
        b->plain = calloc(json_array_size(list), (size_t)b->o->tokens * sizeof *b->plain);
        if (!b->plain)
            return err_set(err, ERR_MEMORY, "no memory for the texts");
        for (int i = 0; i < b->o->batch.n && !rc; i++)
            rc = measure(b, kind, list, b->o->batch.values[i], identical, err);
        free(b->plain);
        if (rc)
            return rc;
    }
    return 0;
}

int decode_measure(struct scheduler *s, const struct decode_options *o, json_t *json,
                   bool *identical, struct err *err)
{
    struct bench b = {.o = o, .s = s};
    json_t *prompts = NULL;
    const struct model *m = &s->runtime->model;
    int rc = list_modes(&b, err);
    if (!rc && o->tokens >= s->context - 2)
        rc = err_set(err, ERR_INVALID, "--tokens %d leaves no room for a prompt in a context of %d",
                     o->tokens, s->context);
    if (!rc && o->given)
        prompts = json_incref(o->given);
    else if (!rc)
        rc = read_prompts(o->prompts, s->runtime->model.config.vocab, &prompts, err);
    const struct buf *template = &s->runtime->chat_template;
    if (!rc && o->chat)
        rc = template->len ? chat_frame_init(&b.frame, s->runtime->tokenizer, template->data,
                                             template->len, err)
                           : err_set(err, ERR_INVALID, "--chat: the model has no chat template");
    if (!rc) {
        b.decode = json_array();
        json_object_set_new(json, "decode", b.decode);
        if (m->config.n_predict > 1)
            printf("%s heads, %d tokens predicted at once, ", head_kind_name(m->config.kind),
                   m->config.n_predict);
        else
            printf("no heads, ");
        printf("%zu parameters, %s kernels, %d threads\n\n", m->params.count, kernels.name,
               s->runtime->team.n);
        printf("text     batch    drafts  tokens/ speed-up  min..max     tokens/s time per    "
               "acceptance at depth 1, 2, ...\n"
               "                          forward                               forward\n");
        rc = measure_all(&b, prompts, identical, err);
    }
    json_decref(prompts);
    chat_frame_release(&b.frame);
    return rc;
}
