/* How tokens are chosen: see sampling.h. */
#include "server/sampling.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "server/field.h"
#include "server/speculation.h"

static int parse_numbers(const json_t *root, struct engine_request *engine, struct response *error)
{
    const struct {
        const char *name;
        float min, max, *value;
    } reals[] = {
#define ENTRY(name, low, high) {#name, low, high, &engine->name},
        ENGINE_REALS(ENTRY)
#undef ENTRY
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

int sampling_parse(struct api_request *request, const struct api_model *model,
                   struct response *error)
{
    const json_t *root = request->json;
    struct engine_request *engine = &request->engine;
    if (parse_numbers(root, engine, error) || parse_biases(root, model, request, error))
        return ERR_INVALID;
    return speculation_parse(request, error);
}
