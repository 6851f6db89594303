/* Unicode's normal form C (UAX 15), as the tokenizers that ask for it do it. */
#ifndef TEXT_NFC_H
#define TEXT_NFC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* Whether the text may differ from its normal form; most texts don't, and this is quick. */
bool nfc_may_change(const char *text, size_t len);

/* Appends the normal form; bytes that are no UTF-8 stay as they are. `out` says whether memory ran
 * out. Time grows with len, however many marks follow one another. */
void nfc_append(const char *text, size_t len, struct buf *out);

#endif
