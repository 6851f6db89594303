/* Responses: see response.h. */
#include "server/response.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "server/json_text.h"

struct buf *response_begin(struct response *response, int status, const char *type)
{
    response->status = status;
    response->type = type;
    response->body.len = 0;
    return &response->body;
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
        json_write(out, text, strlen(text));
    else
        buf_puts(out, "null");
}

void response_error_object(struct buf *out, int status, const char *param, const char *code,
                           const char *message)
{
    buf_puts(out, "{\"error\":{\"message\":");
    json_write(out, message, strlen(message));
    optional_text(out, "type", error_type(status));
    optional_text(out, "param", param);
    optional_text(out, "code", code);
    buf_puts(out, "}}");
}

static const char *anthropic_type(int status)
{
    static const struct {
        int status;
        const char *type;
    } types[] = {{401, "authentication_error"}, {403, "permission_error"},
                 {404, "not_found_error"},      {413, "request_too_large"},
                 {429, "rate_limit_error"},     {503, "overloaded_error"}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].status == status)
            return types[i].type;
    return status >= 500 ? "api_error" : "invalid_request_error";
}

void response_error_anthropic(struct buf *out, int status, const char *message,
                              const char *request_id)
{
    buf_printf(
        out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", anthropic_type(status));
    json_write(out, message, strlen(message));
    buf_puts(out, "}");
    optional_text(out, "request_id", request_id);
    buf_puts(out, "}");
}

int response_error(struct response *response, int status, const char *param, const char *code,
                   const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    struct buf *body = response_begin(response, status, "application/json");
    if (response->anthropic)
        response_error_anthropic(body, status, message, response->request_id);
    else
        response_error_object(body, status, param, code, message);
    buf_puts(body, "\n");
    return ERR_INVALID;
}

bool response_may_retry(int status)
{
    return status == 408 || status == 409 || status == 429 || status >= 500;
}

void response_release(struct response *response)
{
    buf_release(&response->body);
    memset(response, 0, sizeof *response);
}
