/* API keys: one from the options, and a file with one per line, read again on SIGHUP; and the check
 * of a request's Authorization header. Used by main.c and route.c on the loop thread. */
#ifndef SERVER_KEYS_H
#define SERVER_KEYS_H

#include <stdbool.h>

#include "base/err.h"

#define KEYS_MAX 64
#define KEY_BYTES_MAX 256

struct keys {
    int n;                             /* 0 = everyone may use the server */
    char key[KEYS_MAX][KEY_BYTES_MAX]; /* padded with NUL */
};

/* Takes the key and those of the file, each NULL for none. Empty lines and lines that begin with #
 * don't count, nor do spaces at a line's ends. ERR_IO, ERR_INVALID: then keys are as before. */
int keys_read(struct keys *keys, const char *key, const char *path, struct err *err);

/* Whether "Bearer KEY", or an `api_key` alone, is one of the keys. Takes the same time whichever
 * byte differs and whichever key it is. Both may be NULL; where both are given, the first counts.
 */
bool keys_allow(const struct keys *keys, const char *authorization, const char *api_key);

#endif
