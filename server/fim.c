/* Fill in the middle: see fim.h. */
#include "server/fim.h"

#include <stdlib.h>
#include <string.h>

#include "server/field.h"
#include "server/prompt.h"

enum { PREFIX, SUFFIX, MIDDLE, N_GAP, REPOSITORY = N_GAP, A_FILE, N_TOKENS };

/* Names of the tokens, by the family that began with them; not every model has the last two. */
static const char *const NAMES[][N_TOKENS] = {
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|repo_name|>",
     "<|file_sep|>"},                                                              /* Qwen */
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<repo_name>", "<file_sep>"}, /* StarCoder */
    {"<fim-prefix>", "<fim-suffix>", "<fim-middle>"},                              /* SantaCoder */
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"}, /* DeepSeek-Coder */
};

/* The prompt in the order in which it stands. */
struct parts {
    struct api_prompt head;   /* bos, and the repository */
    struct api_prompt *files; /* n_files, of which those from `first` on are in the prompt */
    size_t n_files, first;
    struct api_prompt here; /* which file the gap is in */
    struct api_prompt before, behind;
};

/* Absent ones are -1. */
static bool find(const struct tokenizer *tokenizer, int32_t ids[N_TOKENS])
{
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        for (int j = 0; j < N_TOKENS; j++) {
            const char *name = NAMES[i][j];
            ids[j] = name ? tokenizer_special(tokenizer, name, strlen(name)) : -1;
        }
        if (ids[PREFIX] >= 0 && ids[SUFFIX] >= 0 && ids[MIDDLE] >= 0)
            return true;
    }
    return false;
}

bool fim_known(const struct api_model *model)
{
    int32_t ids[N_TOKENS];
    return find(model->info->tokenizer, ids);
}

static int append(struct api_prompt *prompt, const int32_t *tokens, size_t n,
                  struct response *error)
{
    if (!n)
        return 0;
    int32_t *more = realloc(prompt->tokens, (prompt->n_tokens + n) * sizeof *more);
    if (!more)
        return response_error(error, 500, NULL, NULL, "The server has no memory left.");
    memcpy(more + prompt->n_tokens, tokens, n * sizeof *more);
    prompt->tokens = more;
    prompt->n_tokens += n;
    return 0;
}

/* ---- parts ---- */

static int add_text(struct api_prompt *to, const struct api_model *model, const char *text,
                    size_t len, const char *param, struct response *error)
{
    const struct encode_options plain = {.parse_special = false};
    return prompt_encode(to, model, text, len, &plain, param, error);
}

/* A token of the repository's, where the model has those, and the line behind it. */
static int add_line(struct api_prompt *to, const struct api_model *model, const int32_t *token,
                    const char *line, size_t len, struct response *error)
{
    if (*token < 0)
        return 0;
    return append(to, token, 1, error) || add_text(to, model, line, len, "input_extra", error) ||
                   add_text(to, model, "\n", 1, "input_extra", error)
               ? ERR_INVALID
               : 0;
}

static int add_file(struct api_prompt *to, const struct api_model *model, const int32_t *token,
                    const json_t *file, struct response *error)
{
    const json_t *name = field_get(file, "filename"), *text = field_get(file, "text");
    const char *called = name ? json_string_value(name) : "file";
    size_t len = name ? json_string_length(name) : strlen(called);
    if (add_line(to, model, token, called, len, error) ||
        add_text(to, model, json_string_value(text), json_string_length(text), "input_extra",
                 error))
        return ERR_INVALID;
    return add_text(to, model, "\n", 1, "input_extra", error);
}

/* As many of the last files as there is room for. */
static int add_files(struct parts *parts, const struct api_model *model, const int32_t *token,
                     const json_t *files, size_t room, struct response *error)
{
    size_t n = json_array_size(files);
    parts->files = calloc(n, sizeof *parts->files);
    if (!parts->files)
        return response_error(error, 500, NULL, NULL, "The server has no memory left.");
    parts->n_files = n;
    for (parts->first = n; parts->first; parts->first--) {
        struct api_prompt *file = &parts->files[parts->first - 1];
        if (add_file(file, model, token, json_array_get(files, parts->first - 1), error))
            return ERR_INVALID;
        if (file->n_tokens > room)
            return 0;
        room -= file->n_tokens;
    }
    return 0;
}

/* What stands next to the gap stays; a quarter is for what stands behind it, or more where the
 * text before it is short. */
static void fit_gap(struct parts *parts, size_t room)
{
    struct api_prompt *before = &parts->before, *behind = &parts->behind;
    if (before->n_tokens + behind->n_tokens <= room)
        return;
    size_t most = before->n_tokens < room - room / 4 ? room - before->n_tokens : room / 4;
    if (behind->n_tokens > most)
        behind->n_tokens = most;
    size_t keep = room - behind->n_tokens;
    if (before->n_tokens > keep) {
        memmove(before->tokens, before->tokens + before->n_tokens - keep,
                keep * sizeof *before->tokens);
        before->n_tokens = keep;
    }
}

static int make_parts(struct parts *parts, struct api_prompt *prompt, const struct api_model *model,
                      const struct fim *fim, const int32_t ids[N_TOKENS], struct response *error)
{
    const struct tokenizer *tokenizer = model->info->tokenizer;
    const int32_t bos = tokenizer_bos(tokenizer), none = -1;
    size_t n_files = json_array_size(fim->files), taken;
    bool named = n_files && ids[REPOSITORY] >= 0 && ids[A_FILE] >= 0;
    const int32_t *file = named ? &ids[A_FILE] : &none;
    prompt->bos_added = fim->add_special && tokenizer_adds_bos(tokenizer);
    if ((prompt->bos_added && append(&parts->head, &bos, 1, error)) ||
        add_line(&parts->head, model, named ? &ids[REPOSITORY] : &none, "project", 7, error) ||
        add_line(&parts->here, model, file, "file", 4, error) ||
        add_text(&parts->before, model, fim->before, fim->before_len, fim->before_param, error) ||
        add_text(&parts->behind, model, fim->behind, fim->behind_len, fim->behind_param, error))
        return ERR_INVALID;
    size_t gap = parts->before.n_tokens + parts->behind.n_tokens;
    taken = parts->head.n_tokens + parts->here.n_tokens + N_GAP;
    fit_gap(parts, fim->room > taken ? fim->room - taken : 0);
    size_t left = parts->before.n_tokens + parts->behind.n_tokens;
    taken += left;
    if (n_files &&
        add_files(parts, model, file, fim->files, fim->room > taken ? fim->room - taken : 0, error))
        return ERR_INVALID;
    prompt->cut = left < gap || parts->first;
    return 0;
}

/* ---- the prompt ---- */

static int append_part(struct api_prompt *prompt, const struct api_prompt *part,
                       struct response *error)
{
    return append(prompt, part->tokens, part->n_tokens, error);
}

static int join(struct api_prompt *prompt, const struct parts *parts, const int32_t ids[N_TOKENS],
                struct response *error)
{
    int rc = append_part(prompt, &parts->head, error);
    for (size_t i = parts->first; i < parts->n_files && !rc; i++)
        rc = append_part(prompt, &parts->files[i], error);
    return rc || append_part(prompt, &parts->here, error) ||
                   append(prompt, &ids[PREFIX], 1, error) ||
                   append_part(prompt, &parts->before, error) ||
                   append(prompt, &ids[SUFFIX], 1, error) ||
                   append_part(prompt, &parts->behind, error) ||
                   append(prompt, &ids[MIDDLE], 1, error)
               ? ERR_INVALID
               : 0;
}

static void parts_release(struct parts *parts)
{
    for (size_t i = 0; i < parts->n_files; i++)
        free(parts->files[i].tokens);
    free(parts->files);
    free(parts->head.tokens);
    free(parts->here.tokens);
    free(parts->before.tokens);
    free(parts->behind.tokens);
}

int fim_encode(struct api_prompt *prompt, const struct api_model *model, const struct fim *fim,
               struct response *error)
{
    struct parts parts = {0};
    int32_t ids[N_TOKENS];
    if (!find(model->info->tokenizer, ids))
        return response_error(error, 400, fim->behind_param, NULL,
                              "This model has no tokens to fill in the middle with: leave out "
                              "'%s'.",
                              fim->behind_param);
    int rc = make_parts(&parts, prompt, model, fim, ids, error);
    if (!rc)
        rc = join(prompt, &parts, ids, error);
    parts_release(&parts);
    return rc;
}
