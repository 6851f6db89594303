/* One request and its response on a connection: headers, body, route. Owns struct exchange,
 * suspends and resumes its connection. libmicrohttpd calls in, through http.c. Loop thread. */
#ifndef SERVER_EXCHANGE_H
#define SERVER_EXCHANGE_H

#include <microhttpd.h>

#include "server/http.h"

/* libmicrohttpd's access handler; `http` is the struct http. It calls once with the headers, again
 * for each piece of the body, and again when the request is whole or the connection is resumed. */
enum MHD_Result exchange_handler(void *http, struct MHD_Connection *mhd, const char *path,
                                 const char *method, const char *version, const char *data,
                                 size_t *len, void **context);

/* The response has been sent, or never will be. */
void exchange_completed(void *http, struct MHD_Connection *mhd, void **context,
                        enum MHD_RequestTerminationCode why);

#endif
