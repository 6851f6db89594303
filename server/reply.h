/* Sending an exchange's response: its headers, and the body in one piece or as a stream. Called by
 * exchange.c. Loop thread. */
#ifndef SERVER_REPLY_H
#define SERVER_REPLY_H

#include "server/exchange.h"

/* Queues a response, whose body's memory libmicrohttpd gets. MHD_NO: the connection will be closed
 * without one. */
enum MHD_Result reply_send(struct exchange *exchange, struct response *response);

/* Queues the head of a stream, whose body is what its completion brings. */
enum MHD_Result reply_stream(struct exchange *exchange);

#endif
