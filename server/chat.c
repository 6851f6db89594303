/* Conversations: see chat.h. */
#include "server/chat.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/call_grammar.h"
#include "server/field.h"
#include "server/messages.h"
#include "server/prompt.h"
#include "server/tools.h"

/* A token as the vocabulary writes it; NULL for none. Templates take it as a C string, and one with
 * a NUL in it is none that they could have meant. */
static const char *written(const struct tokenizer *tokenizer, int32_t token, char *to, size_t size)
{
    size_t len;
    const char *text = tokenizer_written(tokenizer, token, &len);
    if (!len || len >= size || memchr(text, '\0', len))
        return NULL;
    memcpy(to, text, len);
    to[len] = '\0';
    return to;
}

static int refuse_model(const struct api_model *model, struct response *error)
{
    if (!model->template_fault)
        return response_error(error, 400, NULL, "no_chat_template",
                              "The model '%.100s' has no chat template, so it cannot chat: use "
                              "/v1/completions.",
                              model->id);
    return response_error(error, 400, NULL, "bad_chat_template",
                          "The chat template of the model '%.100s' cannot be used: %.300s. Use "
                          "/v1/completions.",
                          model->id, model->template_fault);
}

/* ---- fields ---- */

struct chat_fields {
    struct template_input input;
    struct tools tools;
    bool continue_final;
    char bos[256], eos[256]; /* what input's point to */
};

static int parse_fields(const json_t *root, const struct api_model *model,
                        struct chat_fields *fields, struct response *error)
{
    const struct tokenizer *tokenizer = model->info->tokenizer;
    struct template_input *input = &fields->input;
    const json_t *add = field_get(root, "add_generation_prompt");
    bool add_generation = true;
    input->extra = field_get(root, "chat_template_kwargs");
    if (input->extra && !json_is_object(input->extra))
        return response_error(error, 400, "chat_template_kwargs", NULL,
                              "'chat_template_kwargs' must be an object.");
    if (tools_parse(root, model, &fields->tools, error) ||
        field_bool(root, "add_generation_prompt", &add_generation, error) ||
        field_bool(root, "continue_final_message", &fields->continue_final, error))
        return ERR_INVALID;
    if (add && add_generation && fields->continue_final)
        return response_error(error, 400, "continue_final_message", NULL,
                              "'continue_final_message' and 'add_generation_prompt' cannot both be "
                              "true.");
    if (fields->tools.must_call && (!add_generation || fields->continue_final))
        return response_error(error, 400, "tool_choice", NULL,
                              "'tool_choice' asks for a call, which an answer must begin with: "
                              "'add_generation_prompt' must be true.");
    input->tools = fields->tools.list;
    input->add_generation_prompt = add_generation && !fields->continue_final;
    input->bos_token =
        written(tokenizer, tokenizer_bos(tokenizer), fields->bos, sizeof fields->bos);
    input->eos_token =
        written(tokenizer, tokenizer_eos(tokenizer), fields->eos, sizeof fields->eos);
    input->now = time(NULL);
    return 0;
}

/* ---- rendering ---- */

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void append_reversed(struct buf *out, const char *text, size_t len)
{
    buf_reserve(out, len);
    for (size_t i = 0; !out->failed && i < len; i++)
        out->data[i] = text[len - 1 - i];
}

/* Where `what` ends at its last place in a text, 0 for nowhere. Both are turned around, because
 * memmem takes time that grows with the text and not with its square. */
static size_t end_of_last(const char *text, size_t len, const char *what, size_t what_len)
{
    struct buf around = {0}, sought = {0};
    const char *at = NULL;
    append_reversed(&around, text, len);
    append_reversed(&sought, what, what_len);
    if (len && !around.failed && !sought.failed)
        at = memmem(around.data, len, sought.data, what_len);
    size_t end = at ? len - (size_t)(at - around.data) : 0;
    buf_release(&around);
    buf_release(&sought);
    return end;
}

/* The same in what came from the conversation: the template may write the like itself. */
static size_t end_of_message(const struct rendered *rendered, const char *what, size_t len)
{
    size_t end = 0;
    for (size_t i = rendered->n_literal; len && !end && i-- > 0;) {
        const struct text_range *range = &rendered->literal[i];
        end = end_of_last(rendered->text.data + range->begin, range->end - range->begin, what, len);
        end += end ? range->begin : 0;
    }
    return end;
}

static void cut_text(struct rendered *rendered, size_t len)
{
    rendered->text.len = len;
    rendered->text.data[len] = '\0';
    while (rendered->n_literal && rendered->literal[rendered->n_literal - 1].begin >= len)
        rendered->n_literal--;
    if (rendered->n_literal && rendered->literal[rendered->n_literal - 1].end > len)
        rendered->literal[rendered->n_literal - 1].end = len;
}

/* Cuts what the template wrote behind the last message, so that the model goes on with it. Many
 * templates trim messages: then the text ends without its white space. */
static int cut_behind_final(const json_t *messages, struct rendered *rendered,
                            struct response *error)
{
    const json_t *content =
        json_object_get(json_array_get(messages, json_array_size(messages) - 1), "content");
    const char *begin = json_string_value(content), *end = begin + json_string_length(content);
    size_t behind = 0;
    while (begin < end && is_space(*begin))
        begin++;
    while (begin < end && is_space(end[-1])) {
        end--;
        behind++;
    }
    size_t cut = end_of_message(rendered, begin, (size_t)(end - begin));
    if (!cut)
        return response_error(error, 400, "continue_final_message", NULL,
                              "'continue_final_message' finds no last message to continue: it is "
                              "empty, or the template does not write it as it is.");
    if (rendered->text.len - cut >= behind && !memcmp(rendered->text.data + cut, end, behind))
        cut += behind;
    cut_text(rendered, cut);
    return 0;
}

static int render(const json_t *root, const struct api_model *model, struct rendered *rendered,
                  struct api_request *request, struct response *error)
{
    struct chat_fields fields = {0};
    json_t *messages = NULL;
    struct err err;
    memset(rendered, 0, sizeof *rendered);
    if (!model->template)
        return refuse_model(model, error);
    int rc = parse_fields(root, model, &fields, error);
    if (!rc)
        rc = messages_parse(root, &messages, error);
    fields.input.messages = messages;
    int failed = rc ? 0 : template_render(model->template, &fields.input, rendered, &err);
    if (failed)
        rc = response_error(error, failed == ERR_INVALID ? 400 : 500, "messages",
                            failed == ERR_INVALID ? "chat_template_error" : NULL,
                            "The chat template does not take these messages: %.500s.", err.text);
    if (!rc && fields.continue_final)
        rc = cut_behind_final(messages, rendered, error);
    if (!rc)
        rc = tools_begin(&fields.tools, model->calls, rendered, request ? &request->begun : NULL,
                         error);
    if (!rc && request)
        rc = tools_for_answer(&fields.tools, model, &request->tools, error);
    if (!rc && request && fields.tools.must_call)
        rc = call_grammar_make(&fields.tools, model->calls, &request->engine.grammar, error);
    json_decref(messages);
    return rc;
}

int chat_render(const json_t *root, const struct api_model *model, struct rendered *rendered,
                struct response *error)
{
    return render(root, model, rendered, NULL, error);
}

/* ---- the prompt ---- */

/* Whether the template has written bos itself: a second one would be read as a text's begin. */
static bool begins_with_bos(const struct tokenizer *tokenizer, const struct rendered *rendered)
{
    size_t len;
    const char *bos = tokenizer_written(tokenizer, tokenizer_bos(tokenizer), &len);
    return rendered->text.len >= len && !memcmp(rendered->text.data, bos, len) &&
           !(rendered->n_literal && rendered->literal[0].begin < len);
}

static int encode(struct api_prompt *prompt, const struct api_model *model,
                  const struct rendered *rendered, struct response *error)
{
    const struct tokenizer *tokenizer = model->info->tokenizer;
    struct encode_options options = {
        .parse_special = true, .literal = rendered->literal, .n_literal = rendered->n_literal};
    if (!rendered->text.len)
        return prompt_check(prompt, model, "messages", error);
    if (tokenizer_adds_bos(tokenizer) && !begins_with_bos(tokenizer, rendered)) {
        prompt->tokens = malloc(sizeof *prompt->tokens);
        if (!prompt->tokens)
            return response_error(error, 500, NULL, NULL, "The server has no memory left.");
        prompt->tokens[prompt->n_tokens++] = tokenizer_bos(tokenizer);
        prompt->bos_added = true;
    }
    int rc = prompt_encode(prompt, model, rendered->text.data, rendered->text.len, &options,
                           "messages", error);
    return rc ? rc : prompt_check(prompt, model, "messages", error);
}

static int parse_logprobs(struct api_request *request, struct response *error)
{
    bool wanted = false;
    int top = 0;
    if (field_bool(request->json, "logprobs", &wanted, error) ||
        field_int(request->json, "top_logprobs", 0, ENGINE_TOP_LOGPROBS_MAX, &top, error))
        return ERR_INVALID;
    if (top && !wanted)
        return response_error(error, 400, "top_logprobs", NULL,
                              "'top_logprobs' is only allowed when 'logprobs' is true.");
    request->logprobs = wanted ? top : -1;
    return 0;
}

int chat_parse(struct api_request *request, const struct api_model *model, struct response *error)
{
    struct rendered rendered;
    int rc = render(request->json, model, &rendered, request, error);
    if (!rc)
        rc = parse_logprobs(request, error);
    if (!rc)
        rc = prompts_make(request, 1, error);
    if (!rc)
        rc = encode(&request->prompts[0], model, &rendered, error);
    rendered_release(&rendered);
    return rc;
}
