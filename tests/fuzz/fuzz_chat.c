/* Bodies of chats and of completions, in every dialect: parsed or refused with a whole error
 * object, and what becomes of them are tokens that the vocabulary has. The first byte, a
 * digit in the seeds, chooses the kind. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/api.h"
#include "server/text_api.h"

static const char TEMPLATE[] =
    "{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}{{ m.name }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}"
    "{% endfor %}<|im_end|>\n{% endfor %}{{ mood }}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

static struct engine_info info = {.n_predict = 2, .context = 256};
static struct api_model model = {.id = "demo", .info = &info};

static void prepare(void)
{
    static struct tokenizer *tokenizer;
    static struct template *template;
    struct vocab vocab = {0};
    struct err err;
    if (model.template)
        return;
    if (vocab_bytes(&vocab, BYTE_TOKEN_END, BYTE_TOKEN_END, &err) ||
        vocab_add(&vocab, "<|im_start|>", 12, TOKEN_CONTROL, 0, &err) ||
        vocab_add(&vocab, "<|im_end|>", 10, TOKEN_CONTROL, 0, &err) ||
        vocab_add(&vocab, "<|fim_prefix|>", 14, TOKEN_CONTROL, 0, &err) ||
        vocab_add(&vocab, "<|fim_suffix|>", 14, TOKEN_CONTROL, 0, &err) ||
        vocab_add(&vocab, "<|fim_middle|>", 14, TOKEN_CONTROL, 0, &err) ||
        tokenizer_init(&tokenizer, &vocab, &err) ||
        template_parse(&template, TEMPLATE, strlen(TEMPLATE), &err))
        abort();
    info.tokenizer = tokenizer;
    info.vocab = tokenizer_vocab(tokenizer);
    model.template = template;
    model.calls = call_format_of("<tool_call>", strlen("<tool_call>"));
}

static void check_ids(const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= info.vocab)
            abort();
}

/* Lists of tokens are what the engine takes. */
static void check_lists(const struct engine_request *engine)
{
    size_t bad = 0;
    if (engine->n_stop_tokens > ENGINE_STOP_TOKENS_MAX || engine->n_bad > ENGINE_BAD_WORDS_MAX)
        abort();
    for (int i = 0; i < engine->n_bad; bad += (size_t)engine->bad_lens[i++])
        if (engine->bad_lens[i] < 1 || engine->bad_lens[i] > ENGINE_BAD_WORD_TOKENS_MAX)
            abort();
    check_ids(engine->bad_tokens, bad);
    check_ids(engine->stop_tokens, (size_t)engine->n_stop_tokens);
    check_ids(engine->allowed, engine->n_allowed);
}

static void check(const struct api_request *request)
{
    check_lists(&request->engine);
    if (!request->n_prompts || request->n < 1)
        abort();
    for (size_t i = 0; i < request->n_prompts; i++) {
        const struct api_prompt *prompt = &request->prompts[i];
        if (!prompt->n_tokens || prompt->n_tokens >= (size_t)info.context)
            abort();
        check_ids(prompt->tokens, prompt->n_tokens);
    }
}

/* Every response is JSON. */
static void check_json(struct response *response)
{
    json_t *root = json_loadb(response->body.data, response->body.len, JSON_ALLOW_NUL, NULL);
    if (!root || (response->status != 200 && !json_object_get(root, "error")))
        abort();
    json_decref(root);
    response_release(response);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct api_request request;
    struct response response = {0};
    prepare();
    if (!size || size > 8192)
        return 0;
    const char *body = (const char *)data + 1;
    void (*others[])(const struct api_model *, const char *, size_t, struct response *) = {
        text_api_tokenize, text_api_detokenize, text_api_apply_template, text_api_count_tokens};
    static const enum api_kind kinds[] = {API_COMPLETION, API_CHAT,   API_RESPONSES,
                                          API_MESSAGES,   API_INFILL, API_SPEEDUP};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    unsigned which = (uint8_t)(data[0] - '0') % (KINDS + 4);
    response.anthropic = which == 3;
    if (which >= KINDS) {
        others[which - KINDS](&model, body, size - 1, &response);
        check_json(&response);
        return 0;
    }
    if (!api_parse(&request, kinds[which], &model, body, size - 1, 0, &response))
        check(&request);
    else
        check_json(&response);
    api_release(&request);
    return 0;
}
