/* How a kind of request is answered: a table of functions for each. They read struct completion and
 * append to its buffers; called by completion.c only, on the loop thread. Bodies are read by api.c,
 * which makes chats of all that have messages, so that a dialect is: what it takes (api.h), what it
 * gives (here), and its row in route.c. */
#ifndef SERVER_DIALECT_H
#define SERVER_DIALECT_H

#include "server/completion.h"

struct dialect {
    const char *id; /* what ids of its answers begin with */

    /* Of a stream. What came of a choice since the last call; nothing when nothing came. */
    void (*chunk)(struct completion *completion, struct choice *choice);
    /* What ends it, */
    void (*end)(struct completion *completion);
    /* or an error in the middle. */
    void (*error)(struct completion *completion, int status, const char *code, const char *message);

    /* The object of a completion that is not streamed, into completion->response. */
    void (*whole)(struct completion *completion);
};

extern const struct dialect dialect_completions; /* completion_json.c: OpenAI's completions, */
extern const struct dialect dialect_chat;        /* chat_json.c: and its chats; */
extern const struct dialect dialect_responses;   /* responses_json.c: OpenAI's Responses; */
extern const struct dialect dialect_messages;    /* messages_json.c: Anthropic's Messages; */
extern const struct dialect dialect_infill;      /* infill_json.c: llama-server's infill; */
extern const struct dialect dialect_speedup;     /* speedup.c: plain decoding against drafts */

static inline const struct dialect *dialect_of(enum api_kind kind)
{
    return kind == API_RESPONSES  ? &dialect_responses
           : kind == API_MESSAGES ? &dialect_messages
           : kind == API_INFILL   ? &dialect_infill
           : kind == API_SPEEDUP  ? &dialect_speedup
           : kind == API_CHAT     ? &dialect_chat
                                  : &dialect_completions;
}

#endif
