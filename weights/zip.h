/* ZIP archives as PyTorch writes them: a directory over bytes in memory. Entries are stored, not
 * compressed, so an entry is a piece of the archive and nothing is ever unpacked: there is no bomb.
 * Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, with the records for more
 * than 4 GiB (zip64).
 *
 * An archive is untrusted. The directory must end where its end record begins and the end record
 * must end the file (so no comment, which PyTorch does not write); entries must lie before the
 * directory and apart; an entry's own header must say what the directory says; names are unique.
 * Checksums are not looked at: they would cost a reading of all weights, and protect nobody from
 * an archive made on purpose. Any thread; immutable once parsed. */
#ifndef WEIGHTS_ZIP_H
#define WEIGHTS_ZIP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct zip_entry {
    const char *name; /* in the archive, not terminated; no control characters */
    size_t name_len;
    const unsigned char *data;
    size_t size;
    const unsigned char *header; /* where its part of the archive begins; it ends with the data */
};

struct zip {
    struct zip_entry *entries; /* sorted by name */
    size_t n_entries;
};

/* Reads the directory of an archive in memory, which must outlive *zip. `where` names it in errors.
 * ERR_INVALID, ERR_MEMORY; on error *zip is released. */
int zip_parse(struct zip *zip, const void *bytes, size_t size, const char *where, struct err *err);
void zip_release(struct zip *zip);

/* NULL when there is none of that name. */
const struct zip_entry *zip_find(const struct zip *zip, const char *name, size_t name_len);

#endif
