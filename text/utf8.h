/* UTF-8, one character at a time: well-formed sequences are those of the Unicode standard's
 * table 3-7. No memory, no failure; any thread. */
#ifndef TEXT_UTF8_H
#define TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length of the character at s, of which n > 0 bytes are there: 1 to 4; 0 when more bytes could
 * still complete it; negative: that many bytes can never become a character. `code` is set with a
 * positive length; it may be NULL. */
int utf8_decode(const char *s, size_t n, uint32_t *code);

/* Writes a code point below 0x110000 and returns its length, 1 to 4. */
int utf8_encode(uint32_t code, char *s);

/* Bytes at the start of s that are whole characters. */
size_t utf8_valid(const char *s, size_t n);

/* Bytes at the start of s before the next whole character. */
size_t utf8_invalid(const char *s, size_t n);

/* Unicode's White_Space. */
bool utf8_is_space(uint32_t code);

/* Letters, marks, decimal digits, connectors: what belongs to a word. */
bool utf8_is_word(uint32_t code);

#endif
