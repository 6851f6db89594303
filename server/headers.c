/* Header hygiene: see headers.h. */
#include "server/headers.h"

#include <string.h>
#include <strings.h>

static const char BROKEN_LINE[] =
    "A header line is folded, holds a NUL, or does not end with CRLF.";

/* RFC 9110, section 5.6.2. */
static bool is_token(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        bool letter = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
        if (!letter && (!c || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return len > 0;
}

/* Letters, digits and what others' ids hold beside them, nothing that must be escaped anywhere. */
static bool is_id(const char *value, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_token(value + i, 1) && !strchr(":/=@", value[i]))
            return false;
    return len > 0 && len <= HEADERS_ID_MAX;
}

static bool has_controls(const char *value, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)value[i] < 32 && value[i] != '\t') || value[i] == 127)
            return true;
    return false;
}

static void add_length(struct headers *headers, const char *value, size_t len)
{
    if (headers->has_length)
        headers->fault = "The request has more than one Content-Length header.";
    headers->has_length = true;
    headers->length = 0;
    if (!len || len > 18 || strspn(value, "0123456789") != len)
        headers->fault = "The Content-Length header is not a whole number of bytes.";
    else
        for (size_t i = 0; i < len; i++)
            headers->length = headers->length * 10 + (uint64_t)(value[i] - '0');
}

static void add_coding(struct headers *headers, const char *value)
{
    if (headers->chunked)
        headers->fault = "The request has more than one Transfer-Encoding header.";
    else if (strcasecmp(value, "chunked"))
        headers->fault = "The only Transfer-Encoding this server reads is chunked.";
    headers->chunked = true;
}

void headers_check_lines(struct headers *headers, const char *version, const char *end)
{
    headers->next = version + strlen(version) + 2;
    headers->end = end;
}

void headers_add(struct headers *headers, const char *name, size_t name_len, const char *value,
                 size_t value_len)
{
    /* A folded line stands behind the name it was glued to: "Content-Length5". */
    static const char *const framing[] = {"Content-Length", "Transfer-Encoding"};
    for (int i = 0; i < 2; i++)
        if (!strncasecmp(name, framing[i], strlen(framing[i])) && name_len != strlen(framing[i]))
            headers->fault = "A header that frames the request is folded or misspelt.";
    if (!is_token(name, name_len))
        headers->fault = "A header's name holds characters that HTTP does not allow there.";
    if (!value)
        return;
    if (headers->next && name != headers->next)
        headers->fault = BROKEN_LINE;
    if (headers->next)
        headers->next = value + value_len + 2;
    if (has_controls(value, value_len))
        headers->fault = "A header's value holds control characters.";
    if (!strcasecmp(name, "Content-Length"))
        add_length(headers, value, value_len);
    else if (!strcasecmp(name, "Transfer-Encoding"))
        add_coding(headers, value);
    else if (!strcasecmp(name, "Content-Type"))
        headers->content_type = value;
    else if (!strcasecmp(name, "Authorization"))
        headers->authorization = value;
    else if (!strcasecmp(name, "X-Request-Id"))
        headers->request_id = is_id(value, value_len) ? value : NULL;
    else if (!strcasecmp(name, "x-api-key"))
        headers->api_key = value;
    else if (!strcasecmp(name, "If-None-Match"))
        headers->if_none_match = value;
    else if (!strcasecmp(name, "Access-Control-Request-Headers"))
        headers->asked_headers = value;
    else if (!strcasecmp(name, "Expect"))
        headers->expects_continue = true;
    else if (!strcasecmp(name, "Host"))
        headers->hosts++;
}

void headers_end(struct headers *headers, const char *version)
{
    if (headers->fault)
        return;
    if (headers->next != headers->end)
        headers->fault = BROKEN_LINE;
    else if (headers->has_length && headers->chunked)
        headers->fault = "The request has both Content-Length and Transfer-Encoding.";
    else if (headers->chunked && strcmp(version, "HTTP/1.1"))
        headers->fault = "Transfer-Encoding needs HTTP/1.1.";
    else if (headers->hosts > 1)
        headers->fault = "The request has more than one Host header.";
}
