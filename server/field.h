/* Typed reading of one JSON field with a sentence for what is wrong. Absent and null fields leave
 * the value as it is. Each returns 0, or ERR_INVALID with a 400 in `error`. Used by whatever reads
 * a body. */
#ifndef SERVER_FIELD_H
#define SERVER_FIELD_H

#include <jansson.h>
#include <stdbool.h>

#include "server/response.h"

/* NULL when absent or null. */
json_t *field_get(const json_t *object, const char *name);

int field_real(const json_t *object, const char *name, float min, float max, float *value,
               struct response *error);
/* Takes 1.0 for 1 too, as some languages write it. */
int field_int(const json_t *object, const char *name, int min, int max, int *value,
              struct response *error);
int field_bool(const json_t *object, const char *name, bool *value, struct response *error);

#endif
