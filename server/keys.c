/* API keys: see keys.h. */
#include "server/keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* from: where it stands, for the sentence. */
static int add(struct keys *keys, const char *key, size_t len, const char *from, struct err *err)
{
    if (len > KEY_BYTES_MAX - 1)
        return err_set(err, ERR_INVALID, "%s holds a key of more than %d bytes", from,
                       KEY_BYTES_MAX - 1);
    if (keys->n == KEYS_MAX)
        return err_set(err, ERR_INVALID, "%s holds more than %d keys", from, KEYS_MAX);
    memcpy(keys->key[keys->n++], key, len);
    return 0;
}

static int read_file(struct keys *keys, const char *path, struct err *err)
{
    int rc = 0, before = keys->n;
    char line[KEY_BYTES_MAX + 64];
    FILE *file = fopen(path, "re");
    if (!file)
        return err_set(err, ERR_IO, "the key file %s cannot be read: %s", path, strerror(errno));
    while (!rc && fgets(line, sizeof line, file)) {
        char *key = line + strspn(line, " \t");
        size_t len = strcspn(key, "\r\n");
        while (len && strchr(" \t", key[len - 1]))
            len--;
        if (len && key[0] != '#')
            rc = add(keys, key, len, path, err);
    }
    if (!rc && ferror(file))
        rc = err_set(err, ERR_IO, "the key file %s cannot be read: %s", path, strerror(errno));
    fclose(file);
    if (!rc && keys->n == before)
        rc = err_set(err, ERR_INVALID, "%s holds no key: write one per line", path);
    return rc;
}

int keys_read(struct keys *keys, const char *key, const char *path, struct err *err)
{
    struct keys found = {0};
    int rc = 0;
    if (key && !access(key, F_OK))
        rc = err_set(err, ERR_INVALID, "--api-key is a key, not a file: --api-key-file names one");
    else if (key)
        rc = *key ? add(&found, key, strlen(key), "--api-key", err)
                  : err_set(err, ERR_INVALID, "--api-key is empty");
    if (!rc && path)
        rc = read_file(&found, path, err);
    if (!rc)
        *keys = found;
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
