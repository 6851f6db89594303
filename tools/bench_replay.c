/* Logged requests, again: see bench_replay.h. */
#include "tools/bench_replay.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "engine/request.h"
#include "weights/json_field.h"

/* A line, read. Texts point into json. */
struct logged {
    json_t *json;
    struct engine_request request;
    const char *id, *left_out;
    int32_t *prompt, *allowed, *said; /* owned; said: NULL where the line has none */
    size_t n_said;
    int32_t stop_tokens[ENGINE_STOP_TOKENS_MAX];
    const char *stops[ENGINE_STOPS_MAX];
    size_t stop_lens[ENGINE_STOPS_MAX];
    struct engine_bias biases[ENGINE_BIAS_MAX];
};

struct replay {
    struct scheduler *s;
    json_t *list; /* of the JSON */
    size_t requests, differ, left_out;
};

static void release(struct logged *l)
{
    free(l->prompt);
    free(l->allowed);
    free(l->said);
    json_decref(l->json);
}

/* ---- a line ---- */

static int check_names(const struct logged *l, struct err *err)
{
    static const char *const known[] = {
        "prompt",
        "max_tokens",
        "min_tokens",
        "ignore_eos",
        "seed",
        "top_k",
        "stop",
        "logit_bias",
        "stop_token_ids",
        "metadata",
        "model",
        "allowed_token_ids",
        "speculation",
        "temperature",
        "top_p",
        "min_p",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
    };
    const char *name;
    json_t *value;
    json_object_foreach(l->json, name, value)
    {
        size_t i = 0, n = sizeof known / sizeof *known;
        while (i < n && strcmp(name, known[i]) != 0)
            i++;
        if (i == n)
            return err_set(err, ERR_INVALID, "'%.40s' is no field that can be repeated", name);
    }
    return 0;
}

/* *ids: owned by the caller, NULL where the field is absent. */
static int read_ids(const json_t *object, const char *name, int32_t **ids, size_t *n,
                    struct err *err)
{
    const json_t *list = json_field(object, name);
    *n = json_array_size(list);
    if (!list)
        return 0;
    if (!json_is_array(list))
        return json_mistyped(name, list, "a list of token ids", err);
    if (!(*ids = calloc(*n + 1, sizeof **ids)))
        return err_set(err, ERR_MEMORY, "memory ran out");
    for (size_t i = 0; i < *n; i++) {
        const json_t *id = json_array_get(list, i);
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value > INT32_MAX)
            return json_mistyped(name, id, "a token id", err);
        (*ids)[i] = (int32_t)value;
    }
    return 0;
}

static int read_prompt(struct logged *l, const struct tokenizer *tokenizer, struct err *err)
{
    const struct encode_options whole = {.add_special = true, .parse_special = true};
    const json_t *prompt = json_field(l->json, "prompt");
    struct tokens tokens = {0};
    size_t n = 0;
    int rc;
    if (json_is_string(prompt)) {
        rc = tokenizer_encode(tokenizer, json_string_value(prompt), json_string_length(prompt),
                              &whole, &tokens, err);
        l->prompt = tokens.ids;
        n = tokens.n;
    } else {
        rc = read_ids(l->json, "prompt", &l->prompt, &n, err);
    }
    l->request.tokens = l->prompt;
    l->request.n_tokens = n;
    return rc;
}

static int read_numbers(struct logged *l, struct err *err)
{
    struct engine_request *r = &l->request;
    const struct {
        const char *name;
        int *value;
    } ints[] = {
        {"max_tokens", &r->max_tokens}, {"min_tokens", &r->min_tokens}, {"top_k", &r->top_k}};
    const struct {
        const char *name;
        float *value;
    } reals[] = {
#define ENTRY(name, low, high) {#name, &r->name},
        ENGINE_REALS(ENTRY)
#undef ENTRY
    };
    const json_t *seed = json_field(l->json, "seed");
    r->max_tokens = 16; /* /v1/completions' own */
    r->temperature = r->top_p = r->repetition_penalty = 1;
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        if (json_field_int(l->json, ints[i].name, 0, INT_MAX, ints[i].value, err))
            return ERR_INVALID;
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        if (json_field_real(l->json, reals[i].name, -1e9, 1e9, reals[i].value, err))
            return ERR_INVALID;
    if (seed && !json_is_integer(seed))
        return json_mistyped("seed", seed, "a whole number", err);
    r->seed = (uint64_t)json_integer_value(seed);
    return json_field_bool(l->json, "ignore_eos", &r->ignore_eos, err);
}

static int read_stops(struct logged *l, struct err *err)
{
    struct engine_request *r = &l->request;
    const json_t *stops = json_field(l->json, "stop");
    int32_t *ids = NULL;
    size_t n;
    if (stops && (!json_is_array(stops) || json_array_size(stops) > ENGINE_STOPS_MAX))
        return json_mistyped("stop", stops, "a list of a few strings", err);
    for (size_t i = 0; i < json_array_size(stops); i++) {
        const json_t *stop = json_array_get(stops, i);
        if (!json_is_string(stop))
            return json_mistyped("stop", stop, "a string", err);
        l->stops[i] = json_string_value(stop);
        l->stop_lens[i] = json_string_length(stop);
    }
    r->stops = l->stops;
    r->stop_lens = l->stop_lens;
    r->n_stops = (int)json_array_size(stops);
    int rc = read_ids(l->json, "stop_token_ids", &ids, &n, err);
    if (!rc && n > ENGINE_STOP_TOKENS_MAX)
        rc = err_set(err, ERR_INVALID, "'stop_token_ids' has more than %d ids",
                     ENGINE_STOP_TOKENS_MAX);
    if (!rc && n)
        memcpy(l->stop_tokens, ids, n * sizeof *ids);
    free(ids);
    r->stop_tokens = l->stop_tokens;
    r->n_stop_tokens = (int)n;
    return rc;
}

static int read_biases(struct logged *l, struct err *err)
{
    struct engine_request *r = &l->request;
    const json_t *biases = json_field(l->json, "logit_bias");
    const char *token;
    json_t *value;
    r->biases = l->biases;
    if (biases && (!json_is_object(biases) || json_object_size(biases) > ENGINE_BIAS_MAX))
        return json_mistyped("logit_bias", biases, "an object of a few numbers", err);
    json_object_foreach((json_t *)biases, token, value)
    {
        char *end;
        long id = strtol(token, &end, 10);
        if (end == token || *end || id < 0 || id > INT32_MAX || !json_is_number(value))
            return json_mistyped("logit_bias", biases, "an object of token ids and numbers", err);
        l->biases[r->n_biases++] =
            (struct engine_bias){(int32_t)id, (float)json_number_value(value)};
    }
    return 0;
}

/* As it was decoded: "auto", which is the default, or a number of drafts. */
static int read_speculation(struct logged *l, struct err *err)
{
    const json_t *mode = json_field(l->json, "speculation");
    l->request.speculation = SPECULATION_AUTO;
    if (json_is_string(mode) && !strcmp(json_string_value(mode), "auto"))
        return 0;
    return json_field_int(l->json, "speculation", 1, ENGINE_DRAFTS_MAX, &l->request.speculation,
                          err);
}

static int read_logged(struct logged *l, const char *line, size_t len,
                       const struct tokenizer *tokenizer, struct err *err)
{
    const json_t *metadata = NULL;
    l->id = l->left_out = "";
    if (json_parse_object(line, len, "the line", &l->json, err) || check_names(l, err) ||
        read_prompt(l, tokenizer, err) || read_numbers(l, err) || read_stops(l, err) ||
        read_biases(l, err) || read_speculation(l, err) ||
        read_ids(l->json, "allowed_token_ids", &l->allowed, &l->request.n_allowed, err) ||
        json_field_object(l->json, "metadata", &metadata, err))
        return ERR_INVALID;
    l->request.allowed = l->allowed;
    l->request.logprobs = true;
    if (!metadata)
        return 0;
    if (json_field_string(metadata, "id", &l->id, err) ||
        json_field_string(metadata, "left_out", &l->left_out, err))
        return ERR_INVALID;
    return read_ids(metadata, "said", &l->said, &l->n_said, err);
}

/* ---- decoding ---- */

#define WAYS 3
#define TREE_DRAFTS 8

/* One way to decode a line's request, and what it gave. */
struct way {
    const char *name;
    int speculation;
    unsigned drafters;
    struct buf made; /* struct engine_token, of which token and log-probability count */
    uint64_t drafts; /* that were verified */
};

/* Which drafts "auto" makes depends on the clock, and may be none: beside it stands a tree that is
 * always the same. Returns how many ways there are; the first is plain decoding. */
static int list_ways(struct way ways[WAYS], const struct replay *replay, const struct logged *l)
{
    bool heads = replay->s->runtime->model.config.n_predict > 1;
    memset(ways, 0, WAYS * sizeof *ways);
    ways[0].name = "plain";
    ways[1].name = "with drafts";
    ways[1].speculation = l->request.speculation;
    ways[2].name = "with a tree of drafts";
    ways[2].speculation = TREE_DRAFTS;
    ways[2].drafters = (heads ? DRAFT_HEADS : 0) | DRAFT_LOOKUP | DRAFT_TREE;
    return l->request.speculation == SPECULATION_AUTO ? 3 : 2;
}

static int decode(struct scheduler *s, const struct logged *l, struct way *way, struct err *err)
{
    struct engine_request r = l->request;
    r.speculation = way->speculation;
    r.drafters = way->drafters;
    int slot = scheduler_add(s, &r, err);
    if (slot < 0)
        return slot;
    struct sequence *q = &s->sequences[slot];
    while (!q->finish && scheduler_step(s)) {
        buf_append(&way->made, (const char *)q->fresh, (size_t)q->n_fresh * sizeof *q->fresh);
        sequence_collected(q);
    }
    int rc = q->finish == FINISH_ERROR ? err_set(err, ERR_INVALID, "it ended with: %s", q->fault)
             : way->made.failed        ? err_set(err, ERR_MEMORY, "memory ran out")
                                       : 0;
    way->drafts = q->figures.drafted;
    scheduler_remove(s, slot);
    return rc;
}

/* ---- comparing ---- */

static size_t tokens_of(const struct way *way)
{
    return way->made.len / sizeof(struct engine_token);
}

/* What a way gave at a place: behind its end token -1, and no log-probability. */
static struct engine_token token_at(const struct way *way, size_t i)
{
    const struct engine_token *tokens = (const void *)way->made.data;
    return i < tokens_of(way) ? tokens[i] : (struct engine_token){.token = -1};
}

static bool same_at(const struct logged *l, const struct way *ways, int n, size_t i)
{
    struct engine_token plain = token_at(&ways[0], i);
    bool same = !l->said || plain.token == (i < l->n_said ? l->said[i] : -1);
    for (int w = 1; w < n; w++) {
        struct engine_token token = token_at(&ways[w], i);
        same = same && token.token == plain.token &&
               !memcmp(&token.logprob, &plain.logprob, sizeof plain.logprob);
    }
    return same;
}

static void print_line(size_t line, const struct logged *l)
{
    printf("line %zu%s%s: ", line, *l->id ? " " : "", l->id);
}

static void print_difference(const struct logged *l, const struct way *ways, int n, size_t i)
{
    printf("token %zu differs:", i);
    if (l->said && i < l->n_said)
        printf(" logged %d,", l->said[i]);
    else if (l->said)
        printf(" logged nothing,");
    for (int w = 0; w < n; w++) {
        struct engine_token token = token_at(&ways[w], i);
        printf("%s %s ", w ? "," : "", ways[w].name);
        if (token.token < 0)
            printf("nothing");
        else
            printf("%d (%.9g)", token.token, (double)token.logprob);
    }
    printf("\n");
}

static void judge(struct replay *replay, const struct logged *l, const struct way *ways, int n,
                  size_t line)
{
    size_t most = l->n_said, i = 0;
    uint64_t drafts = 0;
    for (int w = 0; w < n; w++) {
        most = tokens_of(&ways[w]) > most ? tokens_of(&ways[w]) : most;
        drafts += ways[w].drafts;
    }
    while (i < most && same_at(l, ways, n, i))
        i++;
    print_line(line, l);
    if (i == most)
        printf("identical, %zu tokens, %" PRIu64 " drafts\n", most, drafts);
    else
        print_difference(l, ways, n, i);
    replay->differ += i < most;
    json_array_append_new(
        replay->list,
        json_pack("{s:I, s:s, s:I, s:I, s:b, s:o}", "line", (json_int_t)line, "id", l->id, "tokens",
                  (json_int_t)tokens_of(&ways[0]), "drafts", (json_int_t)drafts, "identical",
                  i == most, "differs_at", i < most ? json_integer((json_int_t)i) : json_null()));
}

static int compare(struct replay *replay, const struct logged *l, size_t line, struct err *err)
{
    struct way ways[WAYS];
    int n = list_ways(ways, replay, l), rc = 0;
    for (int w = 0; w < n && !rc; w++)
        rc = decode(replay->s, l, &ways[w], err);
    if (!rc)
        judge(replay, l, ways, n, line);
    for (int w = 0; w < n; w++)
        buf_release(&ways[w].made);
    return rc;
}

static int repeat(struct replay *replay, const char *text, size_t len, size_t line, struct err *err)
{
    struct scheduler *s = replay->s;
    struct logged l = {0};
    struct err why = {.text = ""};
    int rc = read_logged(&l, text, len, s->runtime->tokenizer, &why);
    if (!rc && *l.left_out) {
        print_line(line, &l);
        printf("not repeated: the line leaves out %s\n", l.left_out);
        replay->left_out++;
    } else {
        if (!rc)
            rc = request_check(&l.request, s->runtime->model.config.vocab, s->context, &why);
        if (!rc)
            rc = compare(replay, &l, line, &why);
    }
    replay->requests++;
    release(&l);
    return rc ? err_set(err, rc, "line %zu cannot be repeated: %s", line, why.text) : 0;
}

int replay_measure(struct scheduler *s, const char *path, json_t *json, bool *identical,
                   struct err *err)
{
    struct replay replay = {.s = s, .list = json_array()};
    FILE *file = fopen(path, "re");
    char *text = NULL;
    size_t size = 0;
    ssize_t len;
    int rc = 0;
    json_object_set_new(json, "replay", replay.list);
    if (!file)
        return err_set(err, ERR_IO, "--replay %s cannot be read: %s", path, strerror(errno));
    for (size_t line = 1; !rc && (len = getline(&text, &size, file)) >= 0; line++)
        if (text[strspn(text, " \t\r\n")])
            rc = repeat(&replay, text, (size_t)len, line, err);
    if (!rc && ferror(file))
        rc = err_set(err, ERR_IO, "--replay %s cannot be read", path);
    if (!rc && !replay.requests)
        rc = err_set(err, ERR_INVALID, "--replay %s has no request", path);
    if (!rc)
        printf("%zu requests, %zu differ, %zu not repeated\n", replay.requests, replay.differ,
               replay.left_out);
    *identical = !replay.differ;
    free(text);
    fclose(file);
    return rc;
}
