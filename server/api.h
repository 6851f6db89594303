/* The body of a POST that a text answers, checked by name and turned into engine requests. What has
 * messages is turned into the body of a chat first (responses.h, anthropic.h). Knows neither HTTP
 * nor the engine's inside: what it needs of the model is in struct api_model. Called by
 * completion.c, on any thread, and by tests.
 *
 * Fields: https://github.com/openai/openai-openapi (createCompletion, createChatCompletion), those
 * that vLLM adds (top_k, min_p, repetition_penalty, ignore_eos, min_tokens, return_token_ids,
 * stop_token_ids, allowed_token_ids, bad_words, include_stop_str_in_output, truncate_prompt_tokens,
 * add_special_tokens, chat_template_kwargs, add_generation_prompt, continue_final_message, those of
 * structure.h), and of
 * ours parse_special and speculation. null means absent. Fields of the wrong type or out of
 * range, those that ask for another text than this server can give, and names that are none are
 * refused by name (fields.h). */
#ifndef SERVER_API_H
#define SERVER_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"
#include "server/answer.h"
#include "server/response.h"
#include "text/template.h"
#include "text/tokenizer.h"

#define API_CHOICES_MAX 64 /* prompts times n */

/* At most this many log-probabilities in one response, about 30 bytes each. */
#define API_LOGPROBS_MAX (1u << 20)

enum api_kind {
    API_COMPLETION, /* `prompt` is continued */
    API_CHAT,       /* `messages` are answered, */
    API_RESPONSES,  /* in OpenAI's newer shape: `input` is, */
    API_MESSAGES,   /* in Anthropic's shape, */
    API_COUNT,      /* or not answered: their tokens are counted */
    API_INFILL,     /* a gap is filled in, in llama-server's shape: see infill.h */
    API_SPEEDUP,    /* either of the first two, which it becomes: see speedup.h */
};

static inline bool api_is_chat(enum api_kind kind)
{
    return kind != API_COMPLETION && kind != API_INFILL;
}

struct api_model {
    const char *id;
    const struct engine_info *info;
    int max_tokens;                  /* that a text may ask for, 0 = any */
    const struct template *template; /* NULL: the model cannot chat ... */
    const char *template_fault;      /* ... because of that; NULL: it has no template */
    const struct call_format *calls; /* how it calls tools; NULL: in no way that we know */
};

struct api_prompt {
    int32_t *tokens; /* owned */
    size_t n_tokens;
    char *text; /* owned, of texts that are echoed; else NULL */
    size_t text_len;
    bool cut;       /* there was more than there is room for: see fim.h */
    bool bos_added; /* the first token is a bos that the client did not write */
};

/* A zeroed struct is empty. It must not be moved: `engine` points into it. */
struct api_request {
    enum api_kind kind;
    json_t *json; /* while it is parsed */
    struct api_prompt *prompts;
    size_t n_prompts;
    int n;        /* choices per prompt, */
    int best_of;  /* and texts that are written for them, at least as many: the best are given */
    int logprobs; /* alternatives per token, -1 = none wanted */
    int rounds;   /* texts are timed so many times, 0 = they are not */
    bool trace;   /* each token's origin is wanted, */
    bool proof;   /* and that plain decoding gives the same: see audit.h */
    bool echo, stream, include_usage, include_obfuscation, return_token_ids;
    struct engine_request engine; /* everything but tokens and user; choice i adds i to the seed */
    const char *stops[ENGINE_STOPS_MAX]; /* owned */
    size_t stop_lens[ENGINE_STOPS_MAX];
    struct engine_bias biases[ENGINE_BIAS_MAX];
    int32_t *stop_tokens, *allowed, *bad_tokens; /* owned, token_fields.c's */
    int bad_lens[ENGINE_BAD_WORDS_MAX];
    struct answer_tools tools; /* of chats; its names are owned */
    struct buf begun;          /* what the prompt has the answer begin with: a call */
    json_t *response_fields;   /* of /infill, that the answer has; owned, NULL = all */
    struct buf shown;          /* fields that a Responses' answer repeats, as JSON members */
};

/* Reads a body. Returns 0, or ERR_INVALID with the error in `error`. Release it in both cases.
 * seed is what to use when the request names none. */
int api_parse(struct api_request *request, enum api_kind kind, const struct api_model *model,
              const char *body, size_t len, uint64_t seed, struct response *error);
void api_release(struct api_request *request);

#endif
