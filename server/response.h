/* A response that is sent in one piece: status, type, body, and the error object,
 * OpenAI's or Anthropic's. Whoever
 * declares the struct owns it; exchange.c hands the body's memory to libmicrohttpd. Loop thread. */
#ifndef SERVER_RESPONSE_H
#define SERVER_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

struct response {
    int status;       /* 0 = none yet */
    const char *type; /* Content-Type */
    struct buf body;
    const char *allow;      /* Allow header, with 405 */
    char etag[20];          /* with its quotes; "" = not to be cached */
    int retry_after;        /* seconds, 0 = no such header */
    bool anthropic;         /* errors are Anthropic's, */
    const char *request_id; /* which say this; borrowed */
};

/* Sets status and type. The caller appends the body to the buffer that is returned. */
struct buf *response_begin(struct response *response, int status, const char *type);

/* Makes the response an error: {"error":{"message","type","param","code"}}, or Anthropic's
 * {"type":"error","error":{"type","message"},"request_id"}, the type chosen by the status. param
 * and code may be NULL. Returns ERR_INVALID so that a check can return it. */
int response_error(struct response *response, int status, const char *param, const char *code,
                   const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Whether the client should send the same request again (x-should-retry). */
bool response_may_retry(int status);

void response_release(struct response *response);

/* Appends an error object alone, for streams that fail midway. */
void response_error_object(struct buf *out, int status, const char *param, const char *code,
                           const char *message);
void response_error_anthropic(struct buf *out, int status, const char *message,
                              const char *request_id);

#endif
