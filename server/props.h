/* GET /props: what the server is, in llama-server's words. Called by route.c. Loop thread. */
#ifndef SERVER_PROPS_H
#define SERVER_PROPS_H

#include "server/app.h"

/* Appends the object. */
void props_write(const struct app *app, struct buf *out);

#endif
