/* What the server reads from a request's headers, and whether they may be trusted to say where the
 * request ends. libmicrohttpd 0.9.75 takes the first of several Content-Length, lets
 * Transfer-Encoding and Content-Length stand together, accepts unknown transfer codings and spaces
 * before the colon, and glues a folded line to the header's name; a proxy that reads any of these
 * differently would let one client's bytes be taken for another's request (RFC 9112, sections 5.1,
 * 5.2, 6.1 and 11.2). All of it is refused here. Knows nothing of connections; called by
 * exchange.c with each header in turn. */
#ifndef SERVER_HEADERS_H
#define SERVER_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEADERS_ID_MAX 64 /* bytes of an X-Request-Id */

struct headers {
    bool has_length, chunked, expects_continue;
    uint64_t length;
    const char *content_type; /* NULL when absent; live as long as the request */
    const char *authorization;
    const char *api_key; /* x-api-key, as Anthropic's clients send it */
    const char *if_none_match;
    const char *asked_headers; /* Access-Control-Request-Headers */
    const char *request_id;    /* X-Request-Id, where it may go into the log and back */
    int hosts;
    const char *next, *end; /* where the next line and the empty line must begin; NULL = unknown */
    const char *fault;      /* a sentence; the connection must be closed. NULL = all is well */
};

/* libmicrohttpd 0.9.75 leaves the lines where they came in and puts two NUL over each CRLF, so a
 * line that ended in a bare LF, held a NUL or was folded shows in the addresses. version is the end
 * of the request line, end the empty line behind the headers. Call it first, and with that version
 * only. */
void headers_check_lines(struct headers *headers, const char *version, const char *end);

/* Adds one header. name and value are NUL-terminated and outlive the struct. */
void headers_add(struct headers *headers, const char *name, size_t name_len, const char *value,
                 size_t value_len);

/* After the last header. version is "HTTP/1.1" or "HTTP/1.0". */
void headers_end(struct headers *headers, const char *version);

#endif
