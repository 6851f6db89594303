/* A whole answer: status, type, body, and OpenAI's error object. Whoever declares the struct owns
 * it; http takes the body's memory when it queues the answer. Loop thread. */
#ifndef SERVER_REPLY_H
#define SERVER_REPLY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

struct reply {
    int status;       /* 0 = no answer yet */
    const char *type; /* Content-Type */
    struct buf body;
    const char *allow; /* Allow header, with 405 */
    int retry_after;   /* seconds, 0 = no such header */
};

/* Sets the status and type of an answer whose body the caller appends. */
struct buf *reply_begin(struct reply *reply, int status, const char *type);

/* Makes the answer an error: {"error":{"message","type","param","code"}}, the type chosen by the
 * status. param and code may be NULL. Returns ERR_INVALID so that a check can return it. */
int reply_error(struct reply *reply, int status, const char *param, const char *code,
                const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Whether the client should send the same request again (x-should-retry). */
bool reply_may_retry(int status);

void reply_release(struct reply *reply);

/* Appends an error object alone, for streams that fail midway. */
void reply_error_object(struct buf *out, int status, const char *param, const char *code,
                        const char *message);

/* Appends text as a quoted JSON string; what is not UTF-8 in it becomes U+FFFD. */
void json_text(struct buf *out, const char *text, size_t len);

/* The same, but appends nothing and returns false when the bytes are not UTF-8. */
bool json_text_strict(struct buf *out, const char *text, size_t len);

#endif
