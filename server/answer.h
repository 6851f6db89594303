/* What a choice has said so far: parts of text and calls of tools, in order. Text comes in as the
 * model writes it; what could still turn out to be a call is held back, and what turns out to be
 * none is text, to the byte. So the parts do not depend on how the text was cut. A call comes as a
 * whole, because half of one that is malformed could not be taken back. One per choice, owned by
 * it; loop thread.
 *
 * Calls are: what stands in the format's markers and is JSON; and, where the answer is nothing
 * else, in a fence or not, objects that name a declared tool (small models forget the markers). */
#ifndef SERVER_ANSWER_H
#define SERVER_ANSWER_H

#include "server/tool_calls.h"

/* What a request says of calls. A zeroed struct allows none. */
struct answer_tools {
    const struct call_format *format; /* NULL: all is text */
    char **names;                     /* of the declared tools, */
    size_t n;
    bool one_call; /* further calls are left out */
};

struct answer_part {
    bool is_call;
    bool whole; /* nothing will be added */
    bool begun; /* answer_next has given some of it, */
    size_t given;
    char id[24];     /* of a call */
    struct buf name; /* of its tool; UTF-8 without NUL */
    struct buf text; /* or its arguments: a JSON object */
};

enum answer_state { ANSWER_BEGIN, ANSWER_TEXT, ANSWER_CALL, ANSWER_ONLY_CALLS };

/* A zeroed struct with `tools` is empty. */
struct answer {
    const struct answer_tools *tools; /* borrowed */
    struct answer_part *parts;
    size_t n_parts, n_calls;
    size_t next; /* part for answer_next */
    enum answer_state state;
    struct buf held;
    size_t values; /* where values may begin in it: behind the marker or the fence */
    bool fenced;
    bool in_value;         /* one has begun, ... */
    struct json_scan scan; /* ... and was read ... */
    size_t scanned;        /* ... up to here; it, or the last whole one, ends here */
    bool failed;           /* memory ran out */
    bool forgets;          /* text that answer_next has given is not wanted again */
};

void answer_add(struct answer *answer, const char *text, size_t len);
void answer_end(struct answer *answer);

/* What came of a part since the last call, in order. */
struct answer_piece {
    const struct answer_part *part;
    size_t index; /* of the part */
    bool begins, ends;
    const char *text; /* borrowed until the next answer_add */
    size_t len;
};
bool answer_next(struct answer *answer, struct answer_piece *piece);

/* Appends all text, without the calls, as one JSON string. */
void answer_write_text(const struct answer *answer, struct buf *out);

void answer_release(struct answer *answer);

#endif
