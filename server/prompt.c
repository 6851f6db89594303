/* Prompts: see prompt.h. */
#include "server/prompt.h"

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/field.h"
#include "server/fim.h"
#include "server/token_list.h"
#include "server/utf8.h"

int prompts_make(struct api_request *request, size_t n, struct response *error)
{
    request->prompts = calloc(n, sizeof *request->prompts);
    if (!request->prompts)
        return response_error(error, 500, NULL, NULL, "The server has no memory left.");
    request->n_prompts = n;
    return 0;
}

void prompts_release(struct api_request *request)
{
    for (size_t i = 0; i < request->n_prompts; i++) {
        free(request->prompts[i].tokens);
        free(request->prompts[i].text);
    }
    free(request->prompts);
    request->prompts = NULL;
    request->n_prompts = 0;
}

int prompt_check(const struct api_prompt *prompt, const struct api_model *model, const char *param,
                 struct response *error)
{
    size_t fit = (size_t)model->info->context - 1;
    if (!prompt->n_tokens)
        return response_error(error, 400, param, NULL, "The prompt is empty: give it a token.");
    if (prompt->n_tokens > fit)
        return response_error(
            error, 400, param, "context_length_exceeded",
            "The prompt has %zu tokens, but only %zu fit: the context is %d tokens "
            "long and one is needed for the completion.",
            prompt->n_tokens, fit, model->info->context);
    return 0;
}

int prompt_encode(struct api_prompt *prompt, const struct api_model *model, const char *text,
                  size_t len, const struct encode_options *options, const char *param,
                  struct response *error)
{
    struct tokens tokens = {prompt->tokens, prompt->n_tokens, prompt->n_tokens};
    struct err err;
    int rc = tokenizer_encode(model->info->tokenizer, text, len, options, &tokens, &err);
    prompt->tokens = tokens.ids;
    prompt->n_tokens = tokens.n;
    if (!rc)
        return 0;
    return response_error(error, rc == ERR_INVALID ? 400 : 500, param, NULL,
                          "The text cannot be turned into tokens: %s.", err.text);
}

void prompt_write(const struct api_prompt *prompt, const struct tokenizer *tokenizer,
                  struct buf *out)
{
    struct utf8 utf8 = {0};
    if (prompt->text) {
        buf_append(out, prompt->text, prompt->text_len);
        return;
    }
    for (size_t i = 0; i < prompt->n_tokens; i++) {
        size_t len;
        const char *bytes =
            tokenizer_bytes(tokenizer, i ? prompt->tokens[i - 1] : -1, prompt->tokens[i], &len);
        if (!len)
            bytes = tokenizer_written(tokenizer, prompt->tokens[i], &len);
        utf8_add(&utf8, bytes, len, out);
    }
    utf8_end(&utf8, out);
}

/* How the prompts of a request become tokens. */
struct form {
    const struct api_model *model;
    struct encode_options options;
    bool echo;
    size_t keep;          /* tokens, the last ones */
    const json_t *suffix; /* text behind the gap that is filled in, or NULL */
};

static int add_gap(struct api_prompt *prompt, const char *before, const struct form *form,
                   struct response *error)
{
    const struct fim fim = {.before = before,
                            .before_len = prompt->text_len,
                            .before_param = "prompt",
                            .behind = json_string_value(form->suffix),
                            .behind_len = json_string_length(form->suffix),
                            .behind_param = "suffix",
                            .room = SIZE_MAX,
                            .add_special = form->options.add_special};
    return fim_encode(prompt, form->model, &fim, error);
}

static int add_text(struct api_prompt *prompt, const json_t *json, const struct form *form,
                    struct response *error)
{
    const char *text = json_string_value(json);
    prompt->text_len = json_string_length(json);
    if (form->suffix)
        return add_gap(prompt, text, form, error);
    prompt->bos_added =
        form->options.add_special && tokenizer_adds_bos(form->model->info->tokenizer);
    if (form->echo && !(prompt->text = malloc(prompt->text_len + 1)))
        return response_error(error, 500, NULL, NULL, "The server has no memory left.");
    if (form->echo)
        memcpy(prompt->text, text, prompt->text_len + 1);
    return prompt_encode(prompt, form->model, text, prompt->text_len, &form->options, "prompt",
                         error);
}

static void truncate_prompt(struct api_prompt *prompt, size_t keep)
{
    if (prompt->n_tokens <= keep)
        return;
    memmove(prompt->tokens, prompt->tokens + prompt->n_tokens - keep,
            keep * sizeof *prompt->tokens);
    prompt->n_tokens = keep;
    prompt->bos_added = false;
}

static int add_prompt(struct api_prompt *prompt, const json_t *json, const struct form *form,
                      struct response *error)
{
    int rc;
    if (json_is_string(json))
        rc = add_text(prompt, json, form, error);
    else if (json_is_array(json) && form->suffix)
        rc = response_error(error, 400, "suffix", NULL,
                            "'suffix' needs a 'prompt' that is text, not token ids.");
    else if (json_is_array(json))
        rc = token_list_parse(json, form->model->info->vocab, "prompt", &prompt->tokens,
                              &prompt->n_tokens, error);
    else
        rc = response_error(error, 400, "prompt", NULL,
                            "'prompt' must be a string, a list of strings, a list of token ids, "
                            "or a list of such lists.");
    if (rc)
        return rc;
    truncate_prompt(prompt, form->keep);
    return prompt_check(prompt, form->model, "prompt", error);
}

/* What is not the text that was sent cannot be echoed. */
static int parse_form(struct form *form, struct api_request *request, struct response *error)
{
    const json_t *root = request->json;
    int keep = -1; /* as many as fit */
    form->options = (struct encode_options){.add_special = true, .parse_special = true};
    if (field_bool(root, "echo", &request->echo, error) ||
        field_int(root, "logprobs", 0, ENGINE_TOP_LOGPROBS_MAX, &request->logprobs, error) ||
        field_bool(root, "add_special_tokens", &form->options.add_special, error) ||
        field_bool(root, "parse_special", &form->options.parse_special, error) ||
        field_int(root, "truncate_prompt_tokens", -1, INT_MAX, &keep, error))
        return ERR_INVALID;
    form->echo = request->echo;
    form->keep = SIZE_MAX;
    form->suffix = field_get(root, "suffix");
    bool truncates = field_get(root, "truncate_prompt_tokens");
    if (truncates)
        form->keep = keep < 0 ? (size_t)form->model->info->context - 1 : (size_t)keep;
    if (form->suffix && !json_is_string(form->suffix))
        return response_error(error, 400, "suffix", NULL, "'suffix' must be a string.");
    if (!json_string_length(form->suffix)) /* as clients send it that have none */
        form->suffix = NULL;
    if (form->echo && (form->suffix || truncates))
        return response_error(error, 400, "echo", NULL,
                              "'echo' cannot be given with 'suffix' or 'truncate_prompt_tokens'.");
    return 0;
}

int prompts_parse(struct api_request *request, const struct api_model *model,
                  struct response *error)
{
    struct form form = {.model = model};
    if (parse_form(&form, request, error))
        return ERR_INVALID;
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
    int rc = prompts_make(request, n, error);
    for (size_t i = 0; !rc && i < n; i++)
        rc = add_prompt(&request->prompts[i], many ? json_array_get(json, i) : json, &form, error);
    return rc;
}
