/* JSON body to engine requests: see api.h. Prompts are in prompt.c. */
#include "server/api.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "server/field.h"
#include "server/prompt.h"

static int parse_model(const json_t *root, const struct api_model *model, struct response *error)
{
    const json_t *field = field_get(root, "model");
    if (!field)
        return 0; /* there is only one */
    if (!json_is_string(field))
        return response_error(error, 400, "model", NULL, "'model' must be a string.");
    const char *name = json_string_value(field);
    if (json_string_length(field) != strlen(name) || strcmp(name, model->id))
        return response_error(error, 404, "model", "model_not_found",
                              "The model '%.100s' does not exist here: this server serves '%s'.",
                              name, model->id);
    return 0;
}

/* What changes the text in ways this server does not have must not be ignored. */
static int refuse_unsupported(const json_t *root, struct response *error)
{
    const json_t *suffix = field_get(root, "suffix");
    if (suffix && !(json_is_string(suffix) && !json_string_length(suffix)))
        return response_error(error, 400, "suffix", NULL,
                              "'suffix' is not supported: this model only continues a text.");
    const json_t *ids = field_get(root, "stop_token_ids");
    if (ids && !(json_is_array(ids) && !json_array_size(ids)))
        return response_error(error, 400, "stop_token_ids", NULL,
                              "'stop_token_ids' is not supported: give strings in 'stop'.");
    const json_t *user = field_get(root, "user");
    if (user && !json_is_string(user))
        return response_error(error, 400, "user", NULL, "'user' must be a string.");
    return 0;
}

static int parse_sampling(const json_t *root, struct engine_request *engine, struct response *error)
{
    const struct {
        const char *name;
        double min, max;
        float *value;
    } reals[] = {
        {"temperature", 0, 2, &engine->temperature},
        {"top_p", 0, 1, &engine->top_p},
        {"min_p", 0, 1, &engine->min_p},
        {"frequency_penalty", -2, 2, &engine->frequency_penalty},
        {"presence_penalty", -2, 2, &engine->presence_penalty},
        {"repetition_penalty", 0.01, 100, &engine->repetition_penalty},
    };
    engine->temperature = engine->top_p = engine->repetition_penalty = 1;
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++)
        if (field_real(root, reals[i].name, reals[i].min, reals[i].max, reals[i].value, error))
            return ERR_INVALID;
    /* -1 means all, as in other servers. */
    if (field_int(root, "top_k", -1, INT_MAX, &engine->top_k, error))
        return ERR_INVALID;
    if (engine->top_k < 0)
        engine->top_k = 0;
    const json_t *seed = field_get(root, "seed");
    if (seed && !json_is_integer(seed))
        return response_error(error, 400, "seed", NULL, "'seed' must be a whole number.");
    if (seed)
        engine->seed = (uint64_t)json_integer_value(seed);
    return 0;
}

static int parse_length(const json_t *root, struct engine_request *engine, struct response *error)
{
    engine->max_tokens = 16;
    if (field_int(root, "max_tokens", 0, INT_MAX, &engine->max_tokens, error) ||
        field_int(root, "min_tokens", 0, INT_MAX, &engine->min_tokens, error))
        return ERR_INVALID;
    if (engine->min_tokens > engine->max_tokens)
        return response_error(error, 400, "min_tokens", NULL,
                              "'min_tokens' is %d, but 'max_tokens' allows only %d.",
                              engine->min_tokens, engine->max_tokens);
    return field_bool(root, "ignore_eos", &engine->ignore_eos, error);
}

static int parse_choices(const json_t *root, struct api_request *request, struct response *error)
{
    int best_of = 0;
    request->n = 1;
    if (field_int(root, "n", 1, API_CHOICES_MAX, &request->n, error) ||
        field_int(root, "best_of", 1, API_CHOICES_MAX, &best_of, error))
        return ERR_INVALID;
    if (best_of && best_of != request->n)
        return response_error(error, 400, "best_of", NULL,
                              "'best_of' is %d, but this server only takes the value of 'n', %d.",
                              best_of, request->n);
    return 0;
}

static int parse_stream(const json_t *root, struct api_request *request, struct response *error)
{
    if (field_bool(root, "stream", &request->stream, error) ||
        field_bool(root, "echo", &request->echo, error))
        return ERR_INVALID;
    const json_t *options = field_get(root, "stream_options");
    if (!options)
        return 0;
    if (!json_is_object(options))
        return response_error(error, 400, "stream_options", NULL,
                              "'stream_options' must be an object.");
    if (!request->stream)
        return response_error(error, 400, "stream_options", NULL,
                              "'stream_options' is only allowed when 'stream' is true.");
    if (field_bool(options, "include_usage", &request->include_usage, error) ||
        field_bool(options, "include_obfuscation", &request->include_obfuscation, error))
        return ERR_INVALID;
    return 0;
}

static int parse_logprobs(const json_t *root, struct api_request *request, struct response *error)
{
    request->logprobs = -1;
    if (field_int(root, "logprobs", 0, ENGINE_TOP_LOGPROBS_MAX, &request->logprobs, error))
        return ERR_INVALID;
    if (request->logprobs >= 0) {
        request->engine.logprobs = true;
        request->engine.top_logprobs = request->logprobs;
        request->engine.prompt_logprobs = request->echo;
    }
    return 0;
}

static int add_stop(struct api_request *request, const json_t *stop, struct response *error)
{
    if (!json_is_string(stop))
        return response_error(error, 400, "stop", NULL,
                              "'stop' must be a string or a list of strings.");
    size_t len = json_string_length(stop);
    if (!len || len > ENGINE_STOP_BYTES_MAX)
        return response_error(error, 400, "stop", NULL,
                              "A string in 'stop' has %zu bytes, but must have 1 to %d.", len,
                              ENGINE_STOP_BYTES_MAX);
    request->stops[request->engine.n_stops] = json_string_value(stop);
    request->stop_lens[request->engine.n_stops++] = len;
    return 0;
}

static int parse_stops(const json_t *root, struct api_request *request, struct response *error)
{
    const json_t *stop = field_get(root, "stop");
    request->engine.stops = request->stops;
    request->engine.stop_lens = request->stop_lens;
    if (!stop)
        return 0;
    if (!json_is_array(stop))
        return add_stop(request, stop, error);
    if (json_array_size(stop) > ENGINE_STOPS_MAX)
        return response_error(error, 400, "stop", NULL,
                              "'stop' has %zu strings, but %d are allowed.", json_array_size(stop),
                              ENGINE_STOPS_MAX);
    for (size_t i = 0; i < json_array_size(stop); i++)
        if (add_stop(request, json_array_get(stop, i), error))
            return ERR_INVALID;
    return 0;
}

static int add_bias(struct api_request *request, int vocab, const char *key, const json_t *value,
                    struct response *error)
{
    char *end;
    size_t len = strlen(key);
    long token = strtol(key, &end, 10);
    if (!len || len > 9 || key[0] < '0' || key[0] > '9' || *end || token >= vocab)
        return response_error(error, 400, "logit_bias", NULL,
                              "'logit_bias' names the token '%.20s', but ids run from 0 to %d.",
                              key, vocab - 1);
    double bias = json_number_value(value);
    if (!json_is_number(value) || !(bias >= -100 && bias <= 100))
        return response_error(error, 400, "logit_bias", NULL,
                              "'logit_bias' of token %ld must be a number between -100 and 100.",
                              token);
    request->biases[request->engine.n_biases++] =
        (struct engine_bias){.token = (int32_t)token, .bias = (float)bias};
    return 0;
}

static int parse_biases(const json_t *root, const struct api_model *model,
                        struct api_request *request, struct response *error)
{
    json_t *bias = field_get(root, "logit_bias");
    request->engine.biases = request->biases;
    if (!bias)
        return 0;
    if (!json_is_object(bias))
        return response_error(error, 400, "logit_bias", NULL,
                              "'logit_bias' must be an object of token ids and numbers.");
    if (json_object_size(bias) > ENGINE_BIAS_MAX)
        return response_error(error, 400, "logit_bias", NULL,
                              "'logit_bias' has %zu entries, but %d are allowed.",
                              json_object_size(bias), ENGINE_BIAS_MAX);
    const char *key;
    json_t *value;
    json_object_foreach(bias, key, value) if (add_bias(request, model->info->vocab, key, value,
                                                       error)) return ERR_INVALID;
    return 0;
}

/* Drafts do not only come from the heads, so their number does not limit k. */
static int parse_speculation(const json_t *root, struct engine_request *engine,
                             struct response *error)
{
    const json_t *field = field_get(root, "speculation");
    const char *word = json_string_value(field); /* NULL unless a string */
    engine->speculation = SPECULATION_AUTO;
    if (!field || (word && !strcmp(word, "auto")))
        return 0;
    if (word && !strcmp(word, "off")) {
        engine->speculation = 0;
        return 0;
    }
    if (!json_is_integer(field) || json_integer_value(field) < 0 ||
        json_integer_value(field) > ENGINE_DRAFTS_MAX)
        return response_error(error, 400, "speculation", NULL,
                              "'speculation' must be \"auto\", \"off\" or a number of drafts "
                              "from 0 to %d.",
                              ENGINE_DRAFTS_MAX);
    engine->speculation = (int)json_integer_value(field);
    return 0;
}

/* The response's size is bounded before it is begun. */
static int check_amount(const struct api_request *request, const struct api_model *model,
                        struct response *error)
{
    size_t choices = request->n_prompts * (size_t)request->n;
    size_t tokens = (size_t)request->engine.max_tokens;
    if (choices > API_CHOICES_MAX)
        return response_error(error, 400, "n", NULL,
                              "%zu prompts with %d choices each make %zu choices, but %d are "
                              "allowed in one request.",
                              request->n_prompts, request->n, choices, API_CHOICES_MAX);
    if (request->echo || tokens > (size_t)model->info->context)
        tokens = (size_t)model->info->context;
    size_t most = choices * tokens * (size_t)(request->logprobs + 1);
    if (most > API_LOGPROBS_MAX)
        return response_error(
            error, 400, "logprobs", NULL,
            "The request asks for up to %zu log-probabilities, but %u are allowed: "
            "lower 'logprobs', 'n' or 'max_tokens', or send fewer prompts.",
            most, API_LOGPROBS_MAX);
    return 0;
}

static int parse_root(struct api_request *request, const char *body, size_t len,
                      struct response *error)
{
    json_error_t why;
    request->json =
        json_loadb(body ? body : "", len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!request->json)
        return response_error(error, 400, NULL, "invalid_json",
                              "The body is not valid JSON: %s (line %d, column %d).", why.text,
                              why.line, why.column);
    if (!json_is_object(request->json))
        return response_error(error, 400, NULL, "invalid_json", "The body must be a JSON object.");
    return 0;
}

int api_parse(struct api_request *request, const struct api_model *model, const char *body,
              size_t len, uint64_t seed, struct response *error)
{
    memset(request, 0, sizeof *request);
    request->engine.seed = seed;
    if (parse_root(request, body, len, error))
        return ERR_INVALID;
    const json_t *root = request->json;
    struct engine_request *engine = &request->engine;
    if (parse_model(root, model, error) || refuse_unsupported(root, error) ||
        parse_sampling(root, engine, error) || parse_length(root, engine, error) ||
        parse_choices(root, request, error) || parse_stream(root, request, error) ||
        parse_logprobs(root, request, error) || parse_stops(root, request, error) ||
        parse_biases(root, model, request, error) || parse_speculation(root, engine, error) ||
        prompts_parse(request, model, error))
        return ERR_INVALID;
    return check_amount(request, model, error);
}

void api_release(struct api_request *request)
{
    prompts_release(request);
    json_decref(request->json);
    request->json = NULL;
}
