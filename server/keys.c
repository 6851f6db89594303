/* API keys: see keys.h. */
#include "server/keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

int keys_read(struct keys *keys, const char *path, struct err *err)
{
    int rc = 0;
    char line[KEY_BYTES_MAX + 2];
    FILE *file = fopen(path, "re");
    if (!file)
        return err_set(err, ERR_IO, "the key file %s cannot be read: %s", path, strerror(errno));
    memset(keys, 0, sizeof *keys);
    while (!rc && fgets(line, sizeof line, file)) {
        size_t len = strcspn(line, "\r\n");
        if (len > KEY_BYTES_MAX - 1)
            rc = err_set(err, ERR_INVALID, "%s holds a key of more than %d bytes", path,
                         KEY_BYTES_MAX - 1);
        else if (len && line[0] != '#' && keys->n == KEYS_MAX)
            rc = err_set(err, ERR_INVALID, "%s holds more than %d keys", path, KEYS_MAX);
        else if (len && line[0] != '#')
            memcpy(keys->key[keys->n++], line, len);
    }
    fclose(file);
    if (!rc && !keys->n)
        rc = err_set(err, ERR_INVALID, "%s holds no key: write one per line", path);
    return rc;
}

bool keys_allow(const struct keys *keys, const char *authorization, const char *api_key)
{
    char given[KEY_BYTES_MAX] = {0};
    if (!keys->n)
        return true;
    if (authorization && strncasecmp(authorization, "Bearer ", 7))
        return false;
    const char *key = authorization ? authorization + 7 : api_key ? api_key : "";
    size_t len = strlen(key);
    if (!len || len >= sizeof given)
        return false;
    memcpy(given, key, len);
    unsigned found = 0;
    for (int i = 0; i < keys->n; i++) {
        unsigned differ = 0;
        for (int j = 0; j < KEY_BYTES_MAX; j++)
            differ |= (unsigned char)(keys->key[i][j] ^ given[j]);
        found |= (differ - 1) >> 31; /* 1 when no bit differed */
    }
    return found;
}
