/* Answers and JSON strings: see reply.h. jansson does the escaping. */
#include "server/reply.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "server/utf8.h"

struct buf *reply_begin(struct reply *reply, int status, const char *type)
{
    reply->status = status;
    reply->type = type;
    reply->body.len = 0;
    return &reply->body;
}

static const char *error_type(int status)
{
    if (status == 401)
        return "authentication_error";
    if (status == 429)
        return "rate_limit_error";
    return status >= 500 ? "server_error" : "invalid_request_error";
}

static void optional_text(struct buf *out, const char *key, const char *text)
{
    buf_printf(out, ",\"%s\":", key);
    if (text)
        json_text(out, text, strlen(text));
    else
        buf_puts(out, "null");
}

void reply_error_object(struct buf *out, int status, const char *param, const char *code,
                        const char *message)
{
    buf_puts(out, "{\"error\":{\"message\":");
    json_text(out, message, strlen(message));
    optional_text(out, "type", error_type(status));
    optional_text(out, "param", param);
    optional_text(out, "code", code);
    buf_puts(out, "}}");
}

int reply_error(struct reply *reply, int status, const char *param, const char *code,
                const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    struct buf *body = reply_begin(reply, status, "application/json");
    reply_error_object(body, status, param, code, message);
    buf_puts(body, "\n");
    return ERR_INVALID;
}

bool reply_may_retry(int status)
{
    return status == 408 || status == 409 || status == 429 || status >= 500;
}

void reply_release(struct reply *reply)
{
    buf_release(&reply->body);
    memset(reply, 0, sizeof *reply);
}

static int append(const char *data, size_t len, void *out)
{
    buf_append(out, data, len);
    return 0;
}

bool json_text_strict(struct buf *out, const char *text, size_t len)
{
    json_t *string = json_stringn(text, len);
    if (!string)
        return false;
    json_dump_callback(string, append, out, JSON_ENCODE_ANY);
    json_decref(string);
    return true;
}

void json_text(struct buf *out, const char *text, size_t len)
{
    struct buf repaired = {0};
    struct utf8 utf8 = {0};
    if (json_text_strict(out, text, len))
        return;
    utf8_add(&utf8, text, len, &repaired);
    utf8_end(&utf8, &repaired);
    if (repaired.failed || !json_text_strict(out, repaired.data, repaired.len))
        out->failed = true;
    buf_release(&repaired);
}
