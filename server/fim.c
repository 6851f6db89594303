/* Fill in the middle: see fim.h. */
#include "server/fim.h"

#include <stdlib.h>
#include <string.h>

#include "server/prompt.h"

/* Names of the three tokens, by the family that began with them. */
static const char *const NAMES[][3] = {
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"}, /* Qwen2.5-Coder */
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},       /* StarCoder */
    {"<fim-prefix>", "<fim-suffix>", "<fim-middle>"},       /* SantaCoder */
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"}, /* DeepSeek-Coder */
};

static bool find(const struct tokenizer *tokenizer, int32_t ids[3])
{
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        int found = 0;
        for (int j = 0; j < 3; j++) {
            ids[j] = tokenizer_special(tokenizer, NAMES[i][j], strlen(NAMES[i][j]));
            found += ids[j] >= 0;
        }
        if (found == 3)
            return true;
    }
    return false;
}

static int add_token(struct api_prompt *prompt, int32_t token, struct response *error)
{
    int32_t *more = realloc(prompt->tokens, (prompt->n_tokens + 1) * sizeof *more);
    if (!more)
        return response_error(error, 500, NULL, NULL, "The server has no memory left.");
    prompt->tokens = more;
    more[prompt->n_tokens++] = token;
    return 0;
}

int fim_encode(struct api_prompt *prompt, const struct api_model *model, const char *before,
               size_t before_len, const char *behind, size_t behind_len, bool add_special,
               struct response *error)
{
    const struct tokenizer *tokenizer = model->info->tokenizer;
    const struct encode_options plain = {.parse_special = false};
    int32_t ids[3];
    if (!find(tokenizer, ids))
        return response_error(error, 400, "suffix", NULL,
                              "This model has no tokens to fill in the middle with: leave out "
                              "'suffix'.");
    prompt->bos_added = add_special && tokenizer_adds_bos(tokenizer);
    if ((prompt->bos_added && add_token(prompt, tokenizer_bos(tokenizer), error)) ||
        add_token(prompt, ids[0], error) ||
        prompt_encode(prompt, model, before, before_len, &plain, "prompt", error) ||
        add_token(prompt, ids[1], error) ||
        prompt_encode(prompt, model, behind, behind_len, &plain, "suffix", error))
        return ERR_INVALID;
    return add_token(prompt, ids[2], error);
}
