/* What every test file needs: cmocka with the headers it wants first, and a folder to write in. */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <unistd.h>

#include "base/err.h"

#define assert_ok(rc, err)                                                                         \
    do {                                                                                           \
        if ((rc) != 0)                                                                             \
            fail_msg("%s", (err).text);                                                            \
    } while (0)

/* The sentence must hold that text. */
#define assert_says(err, part)                                                                     \
    do {                                                                                           \
        if (!strstr((err).text, (part)))                                                           \
            fail_msg("'%s' does not say '%s'", (err).text, (part));                                \
    } while (0)

struct folder {
    char path[64];
    char file[512]; /* the last folder_file */
};

static inline void folder_make(struct folder *folder)
{
    strcpy(folder->path, "/tmp/headway-test-XXXXXX");
    assert_non_null(mkdtemp(folder->path));
}

static inline const char *folder_file(struct folder *folder, const char *name)
{
    snprintf(folder->file, sizeof folder->file, "%s/%s", folder->path, name);
    return folder->file;
}

/* Files in it, "." and ".." not counted. */
static inline int folder_count(const struct folder *folder)
{
    int n = 0;
    DIR *dir = opendir(folder->path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static inline void folder_remove(struct folder *folder)
{
    DIR *dir = opendir(folder->path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.')
            remove(folder_file(folder, e->d_name));
    closedir(dir);
    assert_int_equal(rmdir(folder->path), 0);
}

#endif
