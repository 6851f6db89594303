/* Mapped text. */
#include "train/corpus.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text/vocab.h"

int corpus_open(struct corpus *corpus, const char *path, size_t least, struct err *err)
{
    struct stat st;
    memset(corpus, 0, sizeof *corpus);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, ERR_IO, "%s could not be opened: %s", path, strerror(errno));
    int rc = 0;
    if (fstat(fd, &st))
        rc = err_set(err, ERR_IO, "%s could not be examined: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode) || (size_t)st.st_size < least)
        rc = err_set(
            err, ERR_INVALID,
            "%s holds %lld bytes, but a window of context and predictions takes %zu: give a "
            "larger file or a smaller --context",
            path, (long long)st.st_size, least);
    if (!rc) {
        void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED)
            rc = err_set(err, ERR_IO, "%s could not be mapped: %s", path, strerror(errno));
        else
            *corpus = (struct corpus){map, (size_t)st.st_size};
    }
    close(fd);
    return rc;
}

void corpus_release(struct corpus *corpus)
{
    if (corpus->bytes)
        munmap((void *)corpus->bytes, corpus->size);
    memset(corpus, 0, sizeof *corpus);
}

void corpus_tokens(const struct corpus *corpus, size_t at, size_t n, int32_t *tokens)
{
    assert(at <= corpus->size && n <= corpus->size - at);
    for (size_t i = 0; i < n; i++)
        tokens[i] = corpus->bytes[at + i] ? corpus->bytes[at + i] : BYTE_TOKEN_END;
}
