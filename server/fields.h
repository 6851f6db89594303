/* The fields of a body by name: those that are read, those that clients send and that change no
 * text, and those that ask for another text than this server can give. The latter are refused by
 * name, and so is a name that is none of them, with the nearest one that is: to ignore it would be
 * to answer something else than what was asked. Called by api.c only. */
#ifndef SERVER_FIELDS_H
#define SERVER_FIELDS_H

#include "server/api.h"

/* Names, of the body that came. Returns 0, or ERR_INVALID with the error in `error`. */
int fields_check(const struct api_request *request, struct response *error);

/* Values of fields that are known and can only have one, of the body as it is read. The same. */
int fields_check_values(const struct api_request *request, struct response *error);

#endif
