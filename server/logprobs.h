/* Log-probabilities of a choice, grown token by token as JSON text. Of completions
 * {"tokens":[],"token_logprobs":[],"top_logprobs":[{}],"text_offset":[]}; offsets count characters
 * of the choice's text, and a token that begins inside a character has the character's. Of chats
 * {"content":[{"token","logprob","bytes","top_logprobs":[]}],"refusal":null}. One per choice, owned
 * by it; loop thread. */
#ifndef SERVER_LOGPROBS_H
#define SERVER_LOGPROBS_H

#include "engine/engine.h"
#include "server/utf8.h"
#include "text/tokenizer.h"

/* Made by logprobs_init: empty, at the start of a text. */
struct logprobs {
    const struct tokenizer *tokenizer;
    bool chat;
    int32_t before;    /* the token before, -1 = none */
    struct buf tokens; /* of chats: the objects */
    struct buf values, tops, offsets;
    struct utf8 position;
    struct buf unshown; /* struct engine_token, of a text that has not been shown, */
    size_t shown;       /* and characters of it that have */
};

/* `before`: the token behind which the text begins, -1 = none. */
void logprobs_init(struct logprobs *logprobs, const struct tokenizer *tokenizer, bool chat,
                   int32_t before);

/* Adds a token of the text. One of an echoed prompt takes as many characters as it is written
 * with, even if it is a control token. */
void logprobs_add(struct logprobs *logprobs, const struct engine_token *token, bool echoed);

/* Adds what an event has brought. Its tokens come before its text where that could still become a
 * stop string: they are added when the text has reached them, and not at all when it ends before
 * them. `skip`: tokens that the prompt begins with and that are not echoed. `cut`: a stop string
 * that is not part of the text has ended it. */
void logprobs_take(struct logprobs *logprobs, const struct engine_event *event, size_t skip,
                   bool cut);

/* Appends the object with what came since the last call, and forgets it; the position stays. */
void logprobs_write(struct logprobs *logprobs, struct buf *out);
void logprobs_release(struct logprobs *logprobs);

#endif
