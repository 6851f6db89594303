/* Checking and copying requests. */
#include "engine/request.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

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

static int check_lists(const struct engine_request *r, int vocab, struct err *err)
{
    int rc;
    for (int i = 0; i < r->n_stops; i++)
        if (r->stop_lens[i] < 1 || r->stop_lens[i] > ENGINE_STOP_BYTES_MAX)
            return err_set(err, ERR_INVALID, "stop string %d has %zu bytes, but must have 1 to %d",
                           i, r->stop_lens[i], ENGINE_STOP_BYTES_MAX);
    for (int i = 0; i < r->n_stop_tokens; i++)
        if (r->stop_tokens[i] < 0 || r->stop_tokens[i] >= vocab)
            return err_set(err, ERR_INVALID,
                           "stop_token_ids names token %d, but tokens go from 0 to %d",
                           r->stop_tokens[i], vocab - 1);
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
    return check_lists(r, vocab, err);
}

struct engine_request *request_copy(const struct engine_request *r)
{
    size_t tokens = r->n_tokens * sizeof *r->tokens;
    size_t ends = (size_t)r->n_stop_tokens * sizeof *r->stop_tokens;
    size_t stops = (size_t)r->n_stops * (sizeof(char *) + sizeof(size_t));
    size_t biases = (size_t)r->n_biases * sizeof *r->biases, bytes = 0;
    for (int i = 0; i < r->n_stops; i++)
        bytes += r->stop_lens[i];
    struct engine_request *copy = malloc(sizeof *copy + stops + tokens + ends + biases + bytes);
    if (!copy)
        return NULL;
    *copy = *r;
    const char **strings = (const char **)(void *)(copy + 1);
    size_t *lens = (size_t *)(void *)(strings + r->n_stops);
    int32_t *ids = (int32_t *)(void *)(lens + r->n_stops);
    int32_t *ends_at = ids + r->n_tokens;
    struct engine_bias *bias = (struct engine_bias *)(void *)(ends_at + r->n_stop_tokens);
    char *text = (char *)(bias + r->n_biases);
    memcpy(ids, r->tokens, tokens);
    if (ends)
        memcpy(ends_at, r->stop_tokens, ends);
    if (biases)
        memcpy(bias, r->biases, biases);
    for (int i = 0; i < r->n_stops; i++) {
        strings[i] = memcpy(text, r->stops[i], r->stop_lens[i]);
        lens[i] = r->stop_lens[i];
        text += r->stop_lens[i];
    }
    copy->tokens = ids;
    copy->stop_tokens = ends_at;
    copy->stops = strings;
    copy->stop_lens = lens;
    copy->biases = bias;
    return copy;
}
