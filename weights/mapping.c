/* Mapped files: see mapping.h. */
#include "weights/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int map_descriptor(struct mapping *mapping, int fd, const char *path, struct err *err)
{
    struct stat info;
    if (fstat(fd, &info))
        return err_set(err, ERR_IO, "%s cannot be read: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return err_set(err, ERR_IO, "%s is not a regular file", path);
    if (info.st_size == 0)
        return 0;
    void *bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return err_set(err, ERR_IO, "%s cannot be mapped: %s", path, strerror(errno));
    *mapping = (struct mapping){bytes, (size_t)info.st_size};
    return 0;
}

int mapping_open(struct mapping *mapping, const char *path, struct err *err)
{
    *mapping = (struct mapping){0};
    /* a pipe would wait for its writer */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, ERR_IO, "%s cannot be read: %s", path, strerror(errno));
    int rc = map_descriptor(mapping, fd, path, err);
    close(fd);
    return rc;
}

void mapping_release(struct mapping *mapping)
{
    if (mapping->bytes)
        munmap((void *)mapping->bytes, mapping->size);
    *mapping = (struct mapping){0};
}

void mapping_rest(const struct mapping *mapping)
{
    if (mapping->bytes)
        madvise((void *)(uintptr_t)mapping->bytes, mapping->size, MADV_DONTNEED);
}
