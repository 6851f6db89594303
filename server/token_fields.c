/* Fields that name tokens: see token_fields.h. */
#include "server/token_fields.h"

#include <stdlib.h>
#include <string.h>

#include "server/field.h"
#include "server/prompt.h"
#include "server/token_list.h"

/* A list of ids; *tokens is owned by the caller. */
static int parse_ids(const json_t *root, const char *name, size_t most, int vocab, int32_t **tokens,
                     size_t *n, struct response *error)
{
    const json_t *list = field_get(root, name);
    if (!list)
        return 0;
    if (!json_is_array(list))
        return response_error(error, 400, name, NULL, "'%s' must be a list of token ids.", name);
    if (json_array_size(list) > most)
        return response_error(error, 400, name, NULL, "'%s' has %zu ids, but %zu are allowed.",
                              name, json_array_size(list), most);
    return token_list_parse(list, vocab, name, tokens, n, error);
}

/* ---- bad words ---- */

static int add_bad(struct api_request *request, const struct api_prompt *word,
                   struct response *error)
{
    struct engine_request *engine = &request->engine;
    size_t have = 0;
    for (int i = 0; i < engine->n_bad; i++)
        have += (size_t)request->bad_lens[i];
    if (word->n_tokens > ENGINE_BAD_WORD_TOKENS_MAX)
        return response_error(error, 400, "bad_words", NULL,
                              "A word in 'bad_words' has %zu tokens, but at most %d are allowed.",
                              word->n_tokens, ENGINE_BAD_WORD_TOKENS_MAX);
    int32_t *more = realloc(request->bad_tokens, (have + word->n_tokens) * sizeof *more);
    if (!more)
        return response_error(error, 500, NULL, NULL, "The server has no memory left.");
    memcpy(more + have, word->tokens, word->n_tokens * sizeof *more);
    engine->bad_tokens = request->bad_tokens = more;
    request->bad_lens[engine->n_bad++] = (int)word->n_tokens;
    return 0;
}

/* A word may stand at the start of a text or behind a space, which makes other tokens of it. */
static int add_word(struct api_request *request, const struct api_model *model, const json_t *json,
                    struct response *error)
{
    const struct encode_options plain = {.parse_special = false};
    const char *word = json_string_value(json);
    size_t len = json_string_length(json);
    if (!word || !len || len > ENGINE_STOP_BYTES_MAX)
        return response_error(error, 400, "bad_words", NULL,
                              "'bad_words' must be a list of strings of 1 to %d bytes.",
                              ENGINE_STOP_BYTES_MAX);
    char text[ENGINE_STOP_BYTES_MAX + 1] = " ";
    memcpy(text + 1, word, len);
    int rc = 0;
    for (int spaced = 0; spaced < 2 && !rc; spaced++) {
        struct api_prompt tokens = {0};
        rc = prompt_encode(&tokens, model, text + !spaced, len + (size_t)spaced, &plain,
                           "bad_words", error);
        if (!rc && tokens.n_tokens)
            rc = add_bad(request, &tokens, error);
        free(tokens.tokens);
    }
    return rc;
}

static int parse_bad_words(struct api_request *request, const struct api_model *model,
                           struct response *error)
{
    const json_t *list = field_get(request->json, "bad_words");
    request->engine.bad_lens = request->bad_lens;
    if (list && !json_is_array(list))
        return response_error(error, 400, "bad_words", NULL,
                              "'bad_words' must be a list of strings.");
    if (json_array_size(list) > ENGINE_BAD_WORDS_MAX / 2)
        return response_error(error, 400, "bad_words", NULL,
                              "'bad_words' has %zu words, but %d are allowed.",
                              json_array_size(list), ENGINE_BAD_WORDS_MAX / 2);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (add_word(request, model, json_array_get(list, i), error))
            return ERR_INVALID;
    return 0;
}

/* ---- all ---- */

int token_fields_parse(struct api_request *request, const struct api_model *model,
                       struct response *error)
{
    const json_t *root = request->json;
    struct engine_request *engine = &request->engine;
    size_t n = 0, vocab = (size_t)model->info->vocab;
    if (parse_ids(root, "stop_token_ids", ENGINE_STOP_TOKENS_MAX, model->info->vocab,
                  &request->stop_tokens, &n, error) ||
        parse_ids(root, "allowed_token_ids", vocab, model->info->vocab, &request->allowed,
                  &engine->n_allowed, error))
        return ERR_INVALID;
    engine->stop_tokens = request->stop_tokens;
    engine->n_stop_tokens = (int)n;
    engine->allowed = request->allowed;
    return parse_bad_words(request, model, error);
}

void token_fields_release(struct api_request *request)
{
    free(request->stop_tokens);
    free(request->allowed);
    free(request->bad_tokens);
    request->stop_tokens = request->allowed = request->bad_tokens = NULL;
}
