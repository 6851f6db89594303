/* What comes for a choice: see choice.h. */
#include "server/choice.h"

#include <string.h>

#include "base/clock.h"
#include "server/dialect.h"
#include "server/prompt.h"
#include "server/speculation_json.h"
#include "server/speedup.h"
#include "server/trace.h"

/* The text begins behind the prompt, or with it. */
void choice_init(struct completion *completion, size_t i)
{
    const struct api_request *request = &completion->request;
    struct choice *choice = &completion->choices[i];
    choice->completion = completion;
    choice->prompt = &request->prompts[i / (size_t)request->best_of];
    choice->index = (int)i;
    choice->last_token = choice->prompt->tokens[choice->prompt->n_tokens - 1];
    choice->answer.tools = &request->tools;
    choice->answer.forgets = request->stream && request->kind != API_RESPONSES;
    logprobs_init(&choice->logprobs, completion->app->info->tokenizer, api_is_chat(request->kind),
                  request->echo ? -1 : choice->last_token);
}

void choice_release(struct choice *choice)
{
    answer_release(&choice->answer);
    buf_release(&choice->ids);
    buf_release(&choice->trace);
    buf_release(&choice->captured);
    audit_release(&choice->audit);
    logprobs_release(&choice->logprobs);
}

void choice_measure(struct choice *choice, const struct engine_event *event)
{
    struct metrics *metrics = &choice->completion->app->metrics;
    double now = clock_seconds(), start = choice->completion->start;
    if (!choice->begun && choice->completion->state == COMPLETION_RUNNING)
        histogram_add(&metrics->queue, event->queued, 1);
    if (event->n_tokens && !choice->n_tokens) {
        histogram_add(&metrics->first_token, now - start, 1);
        choice->first = now;
    } else if (event->n_tokens) {
        histogram_add(&metrics->inter_token, (now - choice->last) / (double)event->n_tokens,
                      event->n_tokens);
    }
    if (event->n_tokens)
        choice->last = now;
    choice->n_tokens += event->n_tokens;
    if (event->finish != FINISH_STOP && event->finish != FINISH_LENGTH)
        return;
    histogram_add(&metrics->request, now - start, 1);
    histogram_tokens(&metrics->prompt, event->prompt_tokens);
    histogram_tokens(&metrics->generation, event->completion_tokens);
    if (choice->n_tokens > 1)
        histogram_add(&metrics->per_token,
                      (choice->last - choice->first) / (double)(choice->n_tokens - 1), 1);
}

/* With `echo` a choice begins with its prompt. */
static void echo(struct choice *choice)
{
    struct buf text = {0};
    prompt_write(choice->prompt, choice->completion->app->info->tokenizer, &text);
    answer_add(&choice->answer, text.data, text.len);
    choice->answer.failed |= text.failed;
    buf_release(&text);
}

static void add_ids(struct choice *choice, const struct engine_event *event)
{
    for (size_t i = 0; i < event->n_tokens; i++)
        buf_printf(&choice->ids, choice->ids.len ? ",%d" : "%d", event->tokens[i].token);
}

static void add_trace(struct choice *choice, const struct engine_event *event)
{
    const struct tokenizer *tokenizer = choice->completion->app->info->tokenizer;
    for (size_t i = 0; i < event->n_tokens; i++) {
        trace_add(&choice->trace, tokenizer, choice->last_token, &event->tokens[i]);
        choice->last_token = event->tokens[i].token;
    }
}

static void capture(struct choice *choice, const struct engine_event *event)
{
    struct capture *to = &choice->completion->app->capture;
    if (!to->on)
        return;
    for (size_t i = 0; i < event->n_tokens; i++)
        buf_append(&choice->captured, (const char *)&event->tokens[i].token, sizeof(int32_t));
    if (event->finish)
        capture_add(to, choice->prompt->tokens, choice->prompt->n_tokens, &choice->captured);
}

static void finish(struct choice *choice, const struct engine_event *event)
{
    struct completion *completion = choice->completion;
    answer_end(&choice->answer);
    choice->stop = event->stop;
    choice->finish_reason = event->finish == FINISH_LENGTH ? "length"
                            : choice->answer.n_calls       ? "tool_calls"
                                                           : "stop";
    completion->completion_tokens += event->completion_tokens;
    completion->forwards += event->forwards;
    if (event->speculation) {
        completion->drafted += event->speculation->drafted;
        completion->accepted += event->speculation->accepted;
    }
    if (completion->n_choices == 1 && event->speculation)
        speculation_json_write(&completion->metrics, event);
    if (completion->request.rounds)
        speedup_note(choice, event);
}

/* The first event has come: what the answer begins with, and what is known of its prompt. */
static void begin(struct choice *choice, const struct engine_event *event)
{
    const struct api_request *request = &choice->completion->request;
    choice->begun = true;
    if (choice->index % request->best_of == 0)
        choice->completion->cached_tokens += event->cached_tokens;
    if (request->echo)
        echo(choice);
    if (request->begun.len)
        answer_add(&choice->answer, request->begun.data, request->begun.len);
}

void choice_add(struct choice *choice, const struct engine_event *event)
{
    struct completion *completion = choice->completion;
    const struct api_request *request = &completion->request;
    size_t unread = completion->out.len;
    bool has_prompt = !choice->opened && (request->echo || request->return_token_ids);
    if (!choice->begun)
        begin(choice, event);
    if (event->text_len)
        answer_add(&choice->answer, event->text, event->text_len);
    if (request->logprobs >= 0)
        logprobs_take(&choice->logprobs, event, choice->prompt->bos_added,
                      event->stop && !request->engine.include_stop);
    if (request->return_token_ids)
        add_ids(choice, event);
    if (request->trace)
        add_trace(choice, event);
    for (size_t i = 0; i < event->n_tokens; i++)
        choice->logprob += (double)event->tokens[i].logprob;
    capture(choice, event);
    audit_note(choice, event);
    if (event->finish)
        finish(choice, event);
    if (request->stream)
        completion->dialect->chunk(completion, choice);
    completion->out.failed |= choice->answer.failed;
    if (has_prompt)
        completion->echoed += completion->out.len - unread;
}
