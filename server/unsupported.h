/* Known fields that ask for another text than this server can give. They are refused by name: to
 * ignore them would be to answer something else than what was asked. Called by api.c only. */
#ifndef SERVER_UNSUPPORTED_H
#define SERVER_UNSUPPORTED_H

#include "server/api.h"

/* Returns 0, or ERR_INVALID with the error in `error`. */
int unsupported_refuse(const struct api_request *request, struct response *error);

#endif
