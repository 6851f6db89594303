/* Prompts: see prompt.h. */
#include "server/prompt.h"

#include <stdlib.h>

#include "server/field.h"

static int out_of_memory(struct response *error)
{
    response_error(error, 500, NULL, NULL, "The server has no memory left for the prompt.");
    return ERR_INVALID;
}

static int check_length(size_t n, const struct api_model *model, struct response *error)
{
    size_t fit = (size_t)model->info->context - 1;
    if (!n)
        return response_error(error, 400, "prompt", NULL, "The prompt is empty: give it a token.");
    if (n > fit)
        return response_error(
            error, 400, "prompt", "context_length_exceeded",
            "The prompt has %zu tokens, but only %zu fit: the context is %d tokens "
            "long and one is needed for the completion.",
            n, fit, model->info->context);
    return 0;
}

static int add_text(struct api_prompt *prompt, const json_t *json, const struct api_model *model,
                    struct response *error)
{
    prompt->text = json_string_value(json);
    prompt->text_len = json_string_length(json);
    const struct tokenizer *tokenizer = model->info->tokenizer;
    struct encode_options options = {.add_special = true};
    struct tokens tokens = {0};
    struct err err;
    if (tokenizer_encode(tokenizer, prompt->text, prompt->text_len, &options, &tokens, &err)) {
        free(tokens.ids);
        return out_of_memory(error);
    }
    prompt->tokens = tokens.ids;
    prompt->n_tokens = tokens.n;
    prompt->bos_added = tokenizer_adds_bos(tokenizer);
    return check_length(prompt->n_tokens, model, error);
}

static int add_tokens(struct api_prompt *prompt, const json_t *json, const struct api_model *model,
                      struct response *error)
{
    prompt->n_tokens = json_array_size(json);
    if (check_length(prompt->n_tokens, model, error))
        return ERR_INVALID;
    prompt->tokens = malloc(prompt->n_tokens * sizeof *prompt->tokens);
    if (!prompt->tokens)
        return out_of_memory(error);
    for (size_t i = 0; i < prompt->n_tokens; i++) {
        const json_t *id = json_array_get(json, i);
        if (!json_is_integer(id))
            return response_error(error, 400, "prompt", NULL,
                                  "Token %zu of the prompt is no number.", i);
        json_int_t token = json_integer_value(id);
        if (token < 0 || token >= model->info->vocab)
            return response_error(error, 400, "prompt", NULL,
                                  "Token %zu of the prompt is %" JSON_INTEGER_FORMAT
                                  ", but ids run from 0 to %d.",
                                  i, token, model->info->vocab - 1);
        prompt->tokens[i] = (int32_t)token;
    }
    return 0;
}

static int add_prompt(struct api_prompt *prompt, const json_t *json, const struct api_model *model,
                      struct response *error)
{
    if (json_is_string(json))
        return add_text(prompt, json, model, error);
    if (json_is_array(json))
        return add_tokens(prompt, json, model, error);
    return response_error(error, 400, "prompt", NULL,
                          "'prompt' must be a string, a list of strings, a list of token ids, or a "
                          "list of such lists.");
}

int prompts_parse(struct api_request *request, const struct api_model *model,
                  struct response *error)
{
    const json_t *json = field_get(request->json, "prompt");
    if (!json)
        return response_error(error, 400, "prompt", NULL, "'prompt' is missing.");
    /* A list whose first item is a number is one prompt; any other list holds prompts. */
    bool many = json_is_array(json) && !json_is_integer(json_array_get(json, 0));
    size_t n = many ? json_array_size(json) : 1;
    if (n < 1 || n > API_CHOICES_MAX)
        return response_error(error, 400, "prompt", NULL,
                              "'prompt' holds %zu prompts, but must hold 1 to %d.", n,
                              API_CHOICES_MAX);
    request->prompts = calloc(n, sizeof *request->prompts);
    if (!request->prompts)
        return out_of_memory(error);
    request->n_prompts = n;
    for (size_t i = 0; i < n; i++)
        if (add_prompt(&request->prompts[i], many ? json_array_get(json, i) : json, model, error))
            return ERR_INVALID;
    return 0;
}

void prompts_release(struct api_request *request)
{
    for (size_t i = 0; i < request->n_prompts; i++)
        free(request->prompts[i].tokens);
    free(request->prompts);
    request->prompts = NULL;
    request->n_prompts = 0;
}
