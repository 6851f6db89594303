/* What libmicrohttpd refuses by itself, before exchange.c sees it: a request line or headers that
 * are malformed or too long, a missing Host, a length or a chunk that is no number. Its own answers
 * are pages of HTML, not counted and not logged, and after some of them (0.9.75) it goes on and
 * queues a second answer. Here each gets one answer, in the shape of all errors, and the connection
 * is closed.
 *
 * How: the library queues its own answers with the function that we use, MHD_queue_response, and
 * calls it through the dynamic linker, which takes the program's function of that name before the
 * library's. So refusal.c defines it: every call that does not come from refusal_queue is the
 * library's own. Where a build of the library binds its calls within itself, its own answers go out
 * as they are; tests/e2e/test_refusals.py shows it. Loop thread. */
#ifndef SERVER_REFUSAL_H
#define SERVER_REFUSAL_H

#include <microhttpd.h>

/* As MHD_queue_response, for our responses. */
enum MHD_Result refusal_queue(struct MHD_Connection *mhd, unsigned status,
                              struct MHD_Response *response);

#endif
