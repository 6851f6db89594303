/* Checking and copying requests. */
#include "engine/request.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "text/automaton.h"

static int check_real(const char *field, float value, float low, float high, struct err *err)
{
    if (value >= low && value <= high) /* false for NaN */
        return 0;
    return err_set(err, ERR_INVALID, "%s is %g, but must lie between %g and %g", field,
                   (double)value, (double)low, (double)high);
}

static int check_int(const char *field, int value, int low, int high, struct err *err)
{
    if (value >= low && value <= high)
        return 0;
    return err_set(err, ERR_INVALID, "%s is %d, but must lie between %d and %d", field, value, low,
                   high);
}

static int check_prompt(const struct engine_request *r, int vocab, int context, struct err *err)
{
    if (r->n_tokens < 1 || r->n_tokens >= (size_t)context)
        return err_set(
            err, ERR_INVALID,
            "prompt has %zu tokens, but must have at least 1 and at most %d to leave room "
            "for an answer in a context of %d",
            r->n_tokens, context - 1, context);
    for (size_t i = 0; i < r->n_tokens; i++)
        if (r->tokens[i] < 0 || r->tokens[i] >= vocab)
            return err_set(err, ERR_INVALID, "prompt token %zu is %d, but tokens go from 0 to %d",
                           i, r->tokens[i], vocab - 1);
    return 0;
}

static int check_ids(const char *field, const int32_t *ids, size_t n, int vocab, struct err *err)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            return err_set(err, ERR_INVALID, "%s names token %d, but tokens go from 0 to %d", field,
                           ids[i], vocab - 1);
    return 0;
}

static int check_bans(const struct engine_request *r, int vocab, struct err *err)
{
    size_t n = 0;
    int rc = check_int("the number of bad_words", r->n_bad, 0, ENGINE_BAD_WORDS_MAX, err);
    for (int i = 0; i < r->n_bad && !rc; n += (size_t)r->bad_lens[i++])
        rc = check_int("the tokens of a bad word", r->bad_lens[i], 1, ENGINE_BAD_WORD_TOKENS_MAX,
                       err);
    if (!rc)
        rc = check_ids("bad_words", r->bad_tokens, n, vocab, err);
    return rc ? rc : check_ids("allowed_token_ids", r->allowed, r->n_allowed, vocab, err);
}

static int check_lists(const struct engine_request *r, int vocab, struct err *err)
{
    int rc;
    for (int i = 0; i < r->n_stops; i++)
        if (r->stop_lens[i] < 1 || r->stop_lens[i] > ENGINE_STOP_BYTES_MAX)
            return err_set(err, ERR_INVALID, "stop string %d has %zu bytes, but must have 1 to %d",
                           i, r->stop_lens[i], ENGINE_STOP_BYTES_MAX);
    for (int i = 0; i < r->n_biases; i++) {
        if (r->biases[i].token < 0 || r->biases[i].token >= vocab)
            return err_set(err, ERR_INVALID,
                           "logit_bias names token %d, but tokens go from 0 to %d",
                           r->biases[i].token, vocab - 1);
        if ((rc = check_real("logit_bias", r->biases[i].bias, -100, 100, err)))
            return rc;
    }
    return 0;
}

int request_check(const struct engine_request *r, int vocab, int context, struct err *err)
{
    int rc = check_prompt(r, vocab, context, err);
#define CHECK(name, low, high)                                                                     \
    if (!rc)                                                                                       \
        rc = check_real(#name, r->name, low, high, err);
    ENGINE_REALS(CHECK)
#undef CHECK
    if (rc || (rc = check_int("max_tokens", r->max_tokens, 0, INT_MAX, err)) ||
        (rc = check_int("min_tokens", r->min_tokens, 0, r->max_tokens, err)) ||
        (rc = check_int("top_k", r->top_k, 0, INT_MAX, err)) ||
        (rc = check_int("logprobs", r->top_logprobs, 0, ENGINE_TOP_LOGPROBS_MAX, err)) ||
        (rc = check_int("speculation", r->speculation, SPECULATION_AUTO, ENGINE_DRAFTS_MAX, err)) ||
        (rc = check_int("the number of stop strings", r->n_stops, 0, ENGINE_STOPS_MAX, err)) ||
        (rc = check_int("the number of stop_token_ids", r->n_stop_tokens, 0, ENGINE_STOP_TOKENS_MAX,
                        err)) ||
        (rc = check_int("the size of logit_bias", r->n_biases, 0, ENGINE_BIAS_MAX, err)))
        return rc;
    rc = check_lists(r, vocab, err);
    if (!rc)
        rc = check_ids("stop_token_ids", r->stop_tokens, (size_t)r->n_stop_tokens, vocab, err);
    return rc ? rc : check_bans(r, vocab, err);
}

/* Appends a copy of `bytes` bytes at *to, which moves on, and returns it. */
static void *put(char **to, const void *from, size_t bytes)
{
    char *copy = *to;
    if (bytes)
        memcpy(copy, from, bytes);
    *to += bytes;
    return copy;
}

static size_t bad_tokens(const struct engine_request *r)
{
    size_t n = 0;
    for (int i = 0; i < r->n_bad; i++)
        n += (size_t)r->bad_lens[i];
    return n;
}

/* One block: what is widest comes first, so that all are aligned. */
struct engine_request *request_copy(const struct engine_request *r)
{
    size_t stops = (size_t)r->n_stops, pointers = stops * sizeof(char *);
    size_t lens = stops * sizeof(size_t), biases = (size_t)r->n_biases * sizeof *r->biases;
    size_t ids = r->n_tokens + (size_t)r->n_stop_tokens + r->n_allowed + bad_tokens(r);
    size_t bad_lens = (size_t)r->n_bad * sizeof *r->bad_lens, bytes = 0;
    for (int i = 0; i < r->n_stops; i++)
        bytes += r->stop_lens[i];
    struct engine_request *copy =
        malloc(sizeof *copy + pointers + lens + biases + bad_lens + ids * sizeof(int32_t) + bytes);
    if (!copy)
        return NULL;
    char *to = (char *)(copy + 1);
    *copy = *r;
    const char **strings = put(&to, r->stops, pointers);
    copy->stops = strings;
    copy->stop_lens = put(&to, r->stop_lens, lens);
    copy->biases = put(&to, r->biases, biases);
    copy->bad_lens = put(&to, r->bad_lens, bad_lens);
    copy->tokens = put(&to, r->tokens, r->n_tokens * sizeof *r->tokens);
    copy->stop_tokens = put(&to, r->stop_tokens, (size_t)r->n_stop_tokens * sizeof *r->stop_tokens);
    copy->allowed = put(&to, r->allowed, r->n_allowed * sizeof *r->allowed);
    copy->bad_tokens = put(&to, r->bad_tokens, bad_tokens(r) * sizeof *r->bad_tokens);
    for (int i = 0; i < r->n_stops; i++)
        strings[i] = put(&to, r->stops[i], r->stop_lens[i]);
    copy->grammar = automaton_retain(r->grammar);
    return copy;
}

void request_free(struct engine_request *copy)
{
    if (copy)
        automaton_release(copy->grammar);
    free(copy); /* the struct and what it points to are one block */
}
