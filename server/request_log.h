/* The log's line about a request. Called by exchange.c. Loop thread. */
#ifndef SERVER_REQUEST_LOG_H
#define SERVER_REQUEST_LOG_H

#include "server/exchange.h"

/* When all is over. `why` is how libmicrohttpd saw it end. */
void request_log(const struct exchange *exchange, enum MHD_RequestTerminationCode why);

#endif
