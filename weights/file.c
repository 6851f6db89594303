/* Whole files: see file.h. */
#include "weights/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *file_join(const char *folder, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

int file_create(struct file_out *out, const char *path, struct err *err)
{
    *out = (struct file_out){.path = strdup(path)};
    if (!out->path || asprintf(&out->tmp, "%s.tmp", path) < 0) {
        free(out->path);
        *out = (struct file_out){0};
        return err_set(err, ERR_MEMORY, "%s: no memory left", path);
    }
    out->stream = fopen(out->tmp, "wbe");
    if (!out->stream) {
        int rc = err_set(err, ERR_IO, "%s cannot be written: %s", out->tmp, strerror(errno));
        file_abandon(out);
        return rc;
    }
    return 0;
}

/* The rename is in the folder's data: without this a crash may lose it. */
static int sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    free(folder);
    if (fd < 0)
        return -1;
    int rc = fsync(fd);
    close(fd);
    return rc;
}

int file_commit(struct file_out *out, struct err *err)
{
    int bad = fflush(out->stream) || ferror(out->stream) || fsync(fileno(out->stream));
    int cause = errno;
    if (fclose(out->stream) && !bad) {
        bad = 1;
        cause = errno;
    }
    out->stream = NULL;
    if (!bad && (rename(out->tmp, out->path) || sync_folder(out->path))) {
        bad = 1;
        cause = errno;
    }
    int rc =
        bad ? err_set(err, ERR_IO, "%s could not be written: %s", out->path, strerror(cause)) : 0;
    file_abandon(out);
    return rc;
}

void file_abandon(struct file_out *out)
{
    if (out->stream)
        fclose(out->stream);
    if (out->tmp)
        unlink(out->tmp); /* gone already after a rename */
    free(out->path);
    free(out->tmp);
    *out = (struct file_out){0};
}

int file_read(struct buf *buf, const char *path, size_t max, struct err *err)
{
    FILE *stream = fopen(path, "rbe");
    if (!stream)
        return err_set(err, ERR_IO, "%s cannot be read: %s", path, strerror(errno));
    char chunk[16384];
    size_t n, total = 0;
    while (total <= max && (n = fread(chunk, 1, sizeof chunk, stream)) > 0) {
        buf_append(buf, chunk, n);
        total += n;
    }
    int rc = 0;
    if (ferror(stream))
        rc = err_set(err, ERR_IO, "%s cannot be read: %s", path, strerror(errno));
    else if (total > max)
        rc = err_set(err, ERR_INVALID, "%s is larger than %zu bytes", path, max);
    else if (buf->failed)
        rc = err_set(err, ERR_MEMORY, "%s: no memory left", path);
    fclose(stream);
    return rc;
}

int file_read_if(struct buf *buf, const char *folder, const char *name, size_t max, bool *found,
                 struct err *err)
{
    char *path = file_join(folder, name);
    if (!path)
        return err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    *found = !access(path, F_OK);
    int rc = *found ? file_read(buf, path, max, err) : 0;
    free(path);
    return rc;
}
