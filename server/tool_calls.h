/* How models write a call of a tool: the formats, which of them a chat template teaches, and one
 * JSON object read as a call. Where calls stand in an answer is found by answer.c.
 *
 * Formats as the models' own templates write them: <tool_call>{"name", "arguments"}</tool_call>
 * (Hermes, Qwen 2.5 and 3, SmolLM), [TOOL_CALLS] [{"name", "arguments"}] (Mistral), and a bare
 * {"name", "parameters"} (Llama 3). Immutable; any thread. */
#ifndef SERVER_TOOL_CALLS_H
#define SERVER_TOOL_CALLS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

struct call_format {
    const char *open, *close; /* around calls; "" = none */
    const char *control;      /* in front of them: a control token, which no answer's text shows */
    const char *force;        /* what an answer begins with that must call, up to the name */
    const char *arguments;    /* what the object's second member is called */
    const char *behind;       /* what stands behind its value, ... */
    const char *next;         /* ... from there to the next call's name; NULL: there is only one */
    const char *end;          /* behind the last call */
    bool short_ids;           /* its template takes ids of nine letters and digits only */
};

/* The format in which a template writes calls; NULL where it knows none of ours. */
const struct call_format *call_format_of(const char *template, size_t len);

/* Where a JSON value ends, byte by byte. A zeroed struct stands at its begin. Brackets are counted,
 * not checked. */
struct json_scan {
    size_t depth;
    bool in_string, escaped;
};

/* Returns the bytes up to the one that closes the object or list that `text` begins or goes on
 * with, 0 when that is still to come. */
size_t json_scan(struct json_scan *scan, const char *text, size_t len);

/* Reads one JSON object as a call: its name, and its arguments as the text that the model wrote,
 * "{}" for none. False for what is no call; then the buffers may hold anything. */
bool tool_call_read(const char *text, size_t len, struct buf *name, struct buf *arguments);

#endif
