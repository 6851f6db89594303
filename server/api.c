/* JSON body to engine requests: see api.h. Fields of their own are in prompt.c (completions) and
 * chat.c, how tokens are chosen in sampling.c. */
#include "server/api.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "server/anthropic.h"
#include "server/body.h"
#include "server/chat.h"
#include "server/field.h"
#include "server/fields.h"
#include "server/infill.h"
#include "server/prompt.h"
#include "server/responses.h"
#include "server/sampling.h"
#include "server/speedup.h"
#include "server/structure.h"
#include "server/token_fields.h"
#include "server/tools.h"
#include "text/automaton.h"

#define COMPLETION_TOKENS 16 /* OpenAI's default */

/* An answer ends by itself, so that its length is only bounded by what the context leaves. */
static int parse_length(struct api_request *request, const struct api_model *model,
                        struct response *error)
{
    const json_t *root = request->json;
    struct engine_request *engine = &request->engine;
    bool chat = api_is_chat(request->kind), infill = request->kind == API_INFILL;
    engine->max_tokens = chat || infill ? model->info->context : COMPLETION_TOKENS;
    if (field_int(root, infill ? "n_predict" : "max_tokens", infill ? -1 : 0, INT_MAX,
                  &engine->max_tokens, error) ||
        (chat &&
         field_int(root, "max_completion_tokens", 0, INT_MAX, &engine->max_tokens, error)) ||
        field_int(root, "min_tokens", 0, INT_MAX, &engine->min_tokens, error))
        return ERR_INVALID;
    if (engine->max_tokens < 0) /* llama-server's word for any */
        engine->max_tokens = model->info->context;
    if (model->max_tokens && engine->max_tokens > model->max_tokens)
        engine->max_tokens = model->max_tokens;
    if (engine->min_tokens > engine->max_tokens)
        return response_error(error, 400, "min_tokens", NULL,
                              "'min_tokens' is %d, but at most %d tokens are allowed.",
                              engine->min_tokens, engine->max_tokens);
    return field_bool(root, "ignore_eos", &engine->ignore_eos, error);
}

static int parse_choices(struct api_request *request, struct response *error)
{
    const json_t *root = request->json;
    request->n = 1;
    if (field_int(root, "n", 1, API_CHOICES_MAX, &request->n, error))
        return ERR_INVALID;
    request->best_of = request->n;
    return field_int(root, "best_of", request->n, API_CHOICES_MAX, &request->best_of, error);
}

/* Which are the best is known at the end. */
static int check_best_of(const struct api_request *request, struct response *error)
{
    if (request->stream && request->best_of > request->n)
        return response_error(error, 400, "best_of", NULL,
                              "'best_of' is %d and 'n' %d, but a stream can only give all that is "
                              "written: leave out 'best_of', or 'stream'.",
                              request->best_of, request->n);
    return 0;
}

/* What the response is to hold beside the text, and whether it comes in pieces. */
static int parse_form(struct api_request *request, struct response *error)
{
    const json_t *root = request->json;
    const json_t *user = field_get(root, "user");
    if (user && !json_is_string(user))
        return response_error(error, 400, "user", NULL, "'user' must be a string.");
    if (field_bool(root, "stream", &request->stream, error) ||
        field_bool(root, "return_token_ids", &request->return_token_ids, error) ||
        field_bool(root, "proof", &request->proof, error))
        return ERR_INVALID;
    const json_t *salt = field_get(root, "cache_salt");
    if (salt && !json_is_string(salt))
        return response_error(error, 400, "cache_salt", NULL, "'cache_salt' must be a string.");
    if (salt)
        request->engine.prefix_salt = hash_bytes(json_string_value(salt), json_string_length(salt));
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

static const char *stop_field(const struct api_request *request)
{
    return request->kind == API_MESSAGES ? "stop_sequences" : "stop";
}

static int add_stop(struct api_request *request, const json_t *stop, struct response *error)
{
    const char *name = stop_field(request);
    if (!json_is_string(stop))
        return response_error(error, 400, name, NULL, "'%s' must be a string or a list of strings.",
                              name);
    size_t len = json_string_length(stop);
    if (!len || len > ENGINE_STOP_BYTES_MAX)
        return response_error(error, 400, name, NULL,
                              "A string in '%s' has %zu bytes, but must have 1 to %d.", name, len,
                              ENGINE_STOP_BYTES_MAX);
    char *copy = malloc(len + 1);
    if (!copy)
        return response_error(error, 500, NULL, NULL, "The server has no memory left.");
    request->stops[request->engine.n_stops] = memcpy(copy, json_string_value(stop), len + 1);
    request->stop_lens[request->engine.n_stops++] = len;
    return 0;
}

static int parse_stops(struct api_request *request, struct response *error)
{
    const json_t *stop = field_get(request->json, "stop");
    if (field_bool(request->json, "include_stop_str_in_output", &request->engine.include_stop,
                   error))
        return ERR_INVALID;
    request->engine.stops = request->stops;
    request->engine.stop_lens = request->stop_lens;
    if (!stop)
        return 0;
    if (!json_is_array(stop))
        return add_stop(request, stop, error);
    if (json_array_size(stop) > ENGINE_STOPS_MAX)
        return response_error(error, 400, stop_field(request), NULL,
                              "'%s' has %zu strings, but %d are allowed.", stop_field(request),
                              json_array_size(stop), ENGINE_STOPS_MAX);
    for (size_t i = 0; i < json_array_size(stop); i++)
        if (add_stop(request, json_array_get(stop, i), error))
            return ERR_INVALID;
    return 0;
}

/* A whole response's size is bounded before it is begun; what a stream's client leaves unread is
 * bounded while it runs, except for prompts, which come at once. */
static int check_amount(const struct api_request *request, const struct api_model *model,
                        struct response *error)
{
    size_t choices = request->n_prompts * (size_t)request->best_of;
    size_t tokens = (size_t)request->engine.max_tokens, room = (size_t)model->info->max_queue;
    if (choices > room)
        return response_error(error, 400, "n", NULL,
                              "%zu prompts with %d choices each make %zu choices, but this "
                              "server's queue holds %zu.",
                              request->n_prompts, request->best_of, choices, room);
    if (choices > API_CHOICES_MAX)
        return response_error(error, 400, "n", NULL,
                              "%zu prompts with %d choices each make %zu choices, but %d are "
                              "allowed in one request.",
                              request->n_prompts, request->best_of, choices, API_CHOICES_MAX);
    if (request->echo || tokens > (size_t)model->info->context)
        tokens = (size_t)model->info->context;
    size_t most = choices * tokens * (size_t)(request->logprobs + 1);
    if (most > API_LOGPROBS_MAX && (request->echo || !request->stream))
        return response_error(
            error, 400, "logprobs", NULL,
            "The request asks for up to %zu log-probabilities, but %u are allowed: "
            "ask for fewer alternatives, choices, tokens or prompts.",
            most, API_LOGPROBS_MAX);
    return 0;
}

/* Other dialects are read as chats from here on. */
static int make_chat(struct api_request *request, struct response *error)
{
    json_t *chat = NULL;
    int rc = 0;
    if (request->kind == API_RESPONSES)
        rc = responses_to_chat(request->json, &chat, &request->shown, error);
    else if (request->kind == API_MESSAGES || request->kind == API_COUNT)
        rc = anthropic_to_chat(request->json, request->kind == API_COUNT, &chat, error);
    if (chat) {
        json_decref(request->json);
        request->json = chat;
    }
    return rc;
}

static int parse(struct api_request *request, const struct api_model *model, const char *body,
                 size_t len, struct response *error)
{
    if (body_parse(&request->json, model->id, body, len, error) || speedup_begin(request, error) ||
        fields_check(request, error) || make_chat(request, error) || infill_begin(request, error) ||
        fields_check_values(request, error) || sampling_parse(request, model, error) ||
        token_fields_parse(request, model, error) || structure_parse(request, error) ||
        parse_length(request, model, error) || parse_choices(request, error) ||
        parse_form(request, error) || check_best_of(request, error) || parse_stops(request, error))
        return ERR_INVALID;
    int rc = api_is_chat(request->kind)    ? chat_parse(request, model, error)
             : request->kind == API_INFILL ? infill_parse(request, model, error)
                                           : prompts_parse(request, model, error);
    if (rc)
        return rc;
    request->engine.logprobs = request->logprobs >= 0 || request->best_of > request->n;
    request->engine.top_logprobs = request->logprobs > 0 ? request->logprobs : 0;
    request->engine.prompt_logprobs = request->echo && request->logprobs >= 0;
    return speedup_check(request, error) || check_amount(request, model, error) ? ERR_INVALID : 0;
}

int api_parse(struct api_request *request, enum api_kind kind, const struct api_model *model,
              const char *body, size_t len, uint64_t seed, struct response *error)
{
    memset(request, 0, sizeof *request);
    request->kind = kind;
    request->logprobs = -1;
    request->engine.seed = seed;
    int rc = parse(request, model, body, len, error);
    json_decref(request->json); /* may be large: what is needed of it has been copied */
    request->json = NULL;
    return rc;
}

void api_release(struct api_request *request)
{
    prompts_release(request);
    token_fields_release(request);
    tools_release(&request->tools);
    buf_release(&request->begun);
    buf_release(&request->shown);
    json_decref(request->response_fields);
    request->response_fields = NULL;
    for (int i = 0; i < request->engine.n_stops; i++)
        free((char *)request->stops[i]);
    request->engine.n_stops = 0;
    automaton_release(request->engine.grammar);
    request->engine.grammar = NULL;
}
