/* The table of fields: see fields.h. */
#include "server/fields.h"

#include <string.h>

#include "server/field.h"

enum {
    COMPLETION = 1 << API_COMPLETION,
    CHAT = 1 << API_CHAT,
    RESPONSES = 1 << API_RESPONSES,
    MESSAGES = 1 << API_MESSAGES | 1 << API_COUNT, /* Anthropic's, answered or counted */
    INFILL = 1 << API_INFILL,
    BOTH = COMPLETION | CHAT,
    OTHERS = RESPONSES | MESSAGES,
    PLAIN = BOTH | INFILL, /* llama-server has them too */
    ALL = PLAIN | OTHERS,
};

#define IGNORED "" /* accepted, as OpenAI's clients and those of other servers send it */
#define USE_SCHEMA "use 'response_format' with a JSON schema, or 'guided_regex'"

static const struct {
    const char *name;
    int kinds;       /* of requests that have it */
    const char *why; /* it is refused; NULL: it is read */
} FIELDS[] = {
    /* read here, in api.c, sampling.c and speculation */
    {"model", ALL, NULL},
    {"n", BOTH, NULL},
    {"best_of", BOTH, NULL},
    {"max_tokens", BOTH, NULL},
    {"min_tokens", ALL, NULL},
    {"ignore_eos", ALL, NULL},
    {"temperature", ALL, NULL},
    {"top_p", ALL, NULL},
    {"top_k", ALL, NULL},
    {"min_p", ALL, NULL},
    {"frequency_penalty", ALL, NULL},
    {"presence_penalty", ALL, NULL},
    {"repetition_penalty", ALL, NULL},
    {"logit_bias", ALL, NULL},
    {"logprobs", BOTH, NULL},
    {"seed", ALL, NULL},
    {"stop", PLAIN, NULL},
    {"include_stop_str_in_output", PLAIN, NULL},
    {"stop_token_ids", PLAIN, NULL},
    {"allowed_token_ids", BOTH, NULL},
    {"bad_words", BOTH, NULL},
    {"stream", ALL, NULL},
    {"stream_options", BOTH, NULL},
    {"return_token_ids", BOTH, NULL},
    {"proof", BOTH, NULL},
    {"speculation", ALL, NULL},
    {"user", BOTH, NULL},
    {"cache_salt", ALL, NULL},
    {"skip_special_tokens", BOTH, NULL},
    /* in structure.c */
    {"response_format", BOTH, NULL},
    {"json_schema", PLAIN, NULL},
    {"guided_json", BOTH, NULL},
    {"guided_regex", BOTH, NULL},
    {"guided_choice", BOTH, NULL},
    {"structured_outputs", BOTH, NULL},
    /* in prompt.c */
    {"prompt", COMPLETION, NULL},
    {"echo", COMPLETION, NULL},
    {"suffix", COMPLETION, NULL},
    {"truncate_prompt_tokens", COMPLETION, NULL},
    {"add_special_tokens", COMPLETION, NULL},
    {"parse_special", COMPLETION, NULL},
    /* in infill.c */
    {"input_prefix", INFILL, NULL},
    {"input_suffix", INFILL, NULL},
    {"input_extra", INFILL, NULL},
    {"prompt", INFILL, NULL},
    {"n_predict", INFILL, NULL},
    {"repeat_penalty", INFILL, NULL},
    {"return_tokens", INFILL, NULL},
    {"response_fields", INFILL, NULL},
    /* in chat.c */
    {"messages", CHAT, NULL},
    {"max_completion_tokens", CHAT, NULL},
    {"top_logprobs", CHAT, NULL},
    {"tools", CHAT, NULL},
    {"tool_choice", CHAT, NULL},
    {"parallel_tool_calls", CHAT, NULL},
    {"modalities", CHAT, NULL},
    {"add_generation_prompt", CHAT, NULL},
    {"continue_final_message", CHAT, NULL},
    {"chat_template_kwargs", CHAT | OTHERS, NULL},
    /* in responses.c */
    {"input", RESPONSES, NULL},
    {"instructions", RESPONSES, NULL},
    {"max_output_tokens", RESPONSES, NULL},
    {"parallel_tool_calls", RESPONSES, NULL},
    {"stream_options", RESPONSES, NULL},
    {"text", RESPONSES, NULL},
    {"truncation", RESPONSES, NULL},
    {"background", RESPONSES, NULL},
    {"include", RESPONSES, NULL},
    {"user", RESPONSES, NULL},
    /* in anthropic.c */
    {"messages", MESSAGES, NULL},
    {"system", MESSAGES, NULL},
    {"max_tokens", MESSAGES, NULL},
    {"stop_sequences", MESSAGES, NULL},
    {"thinking", MESSAGES, NULL},
    {"output_config", MESSAGES, NULL},
    {"output_format", MESSAGES, NULL},
    /* in both */
    {"tools", OTHERS, NULL},
    {"tool_choice", OTHERS, NULL},
    /* nothing depends on them */
    {"store", BOTH, IGNORED},
    {"metadata", ALL, IGNORED},
    {"service_tier", ALL, IGNORED},
    {"safety_identifier", BOTH, IGNORED},
    {"prompt_cache_key", BOTH, IGNORED},
    {"prompt_cache_retention", BOTH, IGNORED},
    {"verbosity", CHAT, IGNORED},
    {"reasoning_effort", CHAT, IGNORED},
    {"prediction", CHAT, IGNORED}, /* a draft of the answer: the text is the same without it */
    {"spaces_between_special_tokens", BOTH, IGNORED},
    {"cache_prompt", PLAIN, IGNORED},
    {"priority", BOTH, IGNORED},
    {"request_id", BOTH, IGNORED},
    {"store", RESPONSES, IGNORED},
    {"reasoning", RESPONSES, IGNORED},
    {"safety_identifier", RESPONSES, IGNORED},
    {"prompt_cache_key", RESPONSES, IGNORED},
    {"prompt_cache_retention", RESPONSES, IGNORED},
    {"max_tool_calls", RESPONSES, IGNORED}, /* of tools that a server runs */
    {"cache_control", MESSAGES, IGNORED},
    {"inference_geo", MESSAGES, IGNORED},
    {"guided_decoding_backend", BOTH, IGNORED},
    /* llama.vim and llama.vscode always send these, which in llama-server change the text */
    {"samplers", INFILL, IGNORED},
    {"n_indent", INFILL, IGNORED},
    {"t_max_prompt_ms", INFILL, IGNORED},
    {"t_max_predict_ms", INFILL, IGNORED},
    {"id_slot", INFILL, IGNORED},
    {"timings_per_token", INFILL, IGNORED},
    /* they would change the text */
    {"suffix", CHAT, "/v1/completions fills in the middle"},
    {"use_beam_search", BOTH, "texts are sampled"},
    {"length_penalty", BOTH, "there is no beam search"},
    {"early_stopping", BOTH, "there is no beam search"},
    {"truncate_prompt_tokens", CHAT, "shorten the messages before you send them"},
    {"n_predict", BOTH, "use 'max_tokens'"},
    {"n_keep", PLAIN, "shorten the prompt before you send it"},
    {"max_new_tokens", BOTH, "use 'max_tokens'"},
    {"max_completion_tokens", COMPLETION, "use 'max_tokens'"},
    {"typical_p", PLAIN, "use 'top_p' or 'min_p'"},
    {"top_n_sigma", PLAIN, "use 'top_p' or 'min_p'"},
    {"top_a", PLAIN, "use 'top_p' or 'min_p'"},
    {"tfs_z", PLAIN, "use 'top_p' or 'min_p'"},
    {"mirostat", PLAIN, "use 'top_p' or 'min_p'"},
    {"dynatemp_range", PLAIN, "use 'temperature'"},
    {"xtc_probability", PLAIN, "use 'top_p' or 'min_p'"},
    {"dry_multiplier", PLAIN, "use 'repetition_penalty'"},
    {"repeat_penalty", BOTH, "use 'repetition_penalty'"},
    {"no_repeat_ngram_size", BOTH, "use 'repetition_penalty'"},
    {"logits_processors", BOTH, "use 'logit_bias'"},
    {"prompt_logprobs", BOTH, "use 'echo' and 'logprobs' of /v1/completions"},
    {"n_probs", BOTH, "use 'logprobs'"},
    {"n_probs", INFILL, "/v1/completions gives log-probabilities"},
    {"repeat_last_n", INFILL, "penalties are for all of the text"},
    {"lora", INFILL, "the server has one model"},
    {"max_tokens", INFILL, "use 'n_predict'"},
    {"guided_grammar", BOTH, USE_SCHEMA},
    {"grammar", PLAIN, USE_SCHEMA},
    {"regex", BOTH, "use 'guided_regex'"},
    {"guided_whitespace_pattern", BOTH,
     "spaces are at most one, or a line break with an indentation"},
    {"ebnf", BOTH, USE_SCHEMA},
    {"lora_path", PLAIN, "the server has one model"},
    {"prompt", CHAT, "chats have 'messages'; /v1/completions continues a prompt"},
    {"messages", COMPLETION, "/v1/chat/completions answers messages"},
    {"echo", CHAT, "ask /apply-template for the prompt"},
    {"functions", CHAT, "use 'tools'"},
    {"function_call", CHAT, "use 'tool_choice'"},
    {"audio", CHAT, "this server writes text only"},
    {"web_search_options", CHAT, "this server does not search"},
    {"chat_template", CHAT, "the model's own is used"},
    {"documents", CHAT, "put them into the messages"},
    {"previous_response_id", RESPONSES, "nothing is stored; send the conversation as 'input'"},
    {"conversation", RESPONSES, "nothing is stored; send the conversation as 'input'"},
    {"prompt", RESPONSES, "nothing is stored; use 'instructions' and 'input'"},
    {"messages", RESPONSES, "use 'input'"},
    {"max_tokens", RESPONSES, "use 'max_output_tokens'"},
    {"max_completion_tokens", RESPONSES, "use 'max_output_tokens'"},
    {"response_format", RESPONSES, "use 'text'"},
    {"stop", RESPONSES, "/v1/chat/completions has stop strings"},
    {"top_logprobs", RESPONSES, "/v1/chat/completions gives log-probabilities"},
    {"stop", MESSAGES, "use 'stop_sequences'"},
    {"max_completion_tokens", MESSAGES, "use 'max_tokens'"},
    {"mcp_servers", MESSAGES, "this server calls no others"},
    {"container", MESSAGES, "this server runs no tools"},
    {"context_management", MESSAGES, "shorten the messages before you send them"},
};

#define N_FIELDS (sizeof FIELDS / sizeof FIELDS[0])

/* Whether the field asks for something: null, false, "", [] and {} do not. */
static bool asks(const json_t *field)
{
    if (json_is_string(field))
        return json_string_length(field) > 0;
    if (json_is_array(field))
        return json_array_size(field) > 0;
    if (json_is_object(field))
        return json_object_size(field) > 0;
    return !json_is_false(field) && !json_is_null(field);
}

static int refuse_modalities(const json_t *root, struct response *error)
{
    const json_t *list = field_get(root, "modalities");
    const char *only = json_string_value(json_array_get(list, 0));
    if (!list || (json_array_size(list) == 1 && only && !strcmp(only, "text")))
        return 0;
    return response_error(error, 400, "modalities", NULL,
                          "'modalities' must be [\"text\"]: this server writes nothing else.");
}

/* ---- names that are none ---- */

#define NAME_MAX_LEN 40

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Letters to put in, take out, change or swap with their neighbour, to make one name of the other
 * (optimal string alignment). Both have at most NAME_MAX_LEN letters. */
static int distance(const char *a, const char *b)
{
    int row[3][NAME_MAX_LEN + 1], n = (int)strlen(a), m = (int)strlen(b);
    for (int j = 0; j <= m; j++)
        row[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            now[j] = least(last[j - 1] + (a[i - 1] != b[j - 1]), least(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], before[j - 2] + 1);
        }
    }
    return row[n % 3][m];
}

/* The field that was meant, or NULL where none is near. */
static const char *nearest(const char *name, int kind)
{
    const char *best = NULL;
    int most = (int)strlen(name) / 3 + 1;
    for (size_t i = 0; i < N_FIELDS && strlen(name) <= NAME_MAX_LEN; i++) {
        int d = FIELDS[i].kinds & kind && !FIELDS[i].why ? distance(name, FIELDS[i].name) : most;
        if (d < most) {
            most = d;
            best = FIELDS[i].name;
        }
    }
    return best;
}

static int refuse_unknown(const char *name, int kind, struct response *error)
{
    const char *meant = nearest(name, kind);
    if (meant)
        return response_error(error, 400, name, "unknown_field",
                              "There is no field '%.100s': did you mean '%s'?", name, meant);
    return response_error(error, 400, name, "unknown_field",
                          "There is no field '%.100s': leave it out. README.md lists the fields.",
                          name);
}

static int check_field(const char *name, const json_t *value, int kind, struct response *error)
{
    for (size_t i = 0; i < N_FIELDS; i++)
        if (FIELDS[i].kinds & kind && !strcmp(name, FIELDS[i].name)) {
            const char *why = FIELDS[i].why;
            if (!why || !*why || !asks(value))
                return 0;
            return response_error(error, 400, name, NULL, "'%s' is not supported: %s.", name, why);
        }
    return json_is_null(value) ? 0 : refuse_unknown(name, kind, error);
}

int fields_check(const struct api_request *request, struct response *error)
{
    json_t *root = request->json, *value;
    int kind = 1 << request->kind;
    const char *name;
    json_object_foreach(root, name,
                        value) if (check_field(name, value, kind, error)) return ERR_INVALID;
    return 0;
}

int fields_check_values(const struct api_request *request, struct response *error)
{
    const json_t *root = request->json;
    bool skip_special = true;
    if (field_bool(root, "skip_special_tokens", &skip_special, error))
        return ERR_INVALID;
    if (!skip_special)
        return response_error(error, 400, "skip_special_tokens", NULL,
                              "'skip_special_tokens' must be true: control tokens are no text; "
                              "'return_token_ids' shows them.");
    return refuse_modalities(root, error);
}
