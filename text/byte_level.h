/* GPT-2's way to write bytes as printable characters in vocabularies (Radford et al. 2019): those
 * of Latin-1 that print stand for themselves, the others are U+0100 and up, in order. */
#ifndef TEXT_BYTE_LEVEL_H
#define TEXT_BYTE_LEVEL_H

#include <stdbool.h>
#include <stddef.h>

/* Writes the bytes that `text` stands for, at most len of them, and their number. False, with
 * nothing written, when a character of it stands for no byte. */
bool byte_level_decode(const char *text, size_t len, char *bytes, size_t *n);

#endif
