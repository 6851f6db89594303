/* Characters as Python sees them, in UTF-8. Bytes that are not UTF-8 count as one character each,
 * so that no function runs past an end. Any thread. */
#ifndef TEXT_TEMPLATE_CHARS_H
#define TEXT_TEMPLATE_CHARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The character at `at` < end, its bytes in *len. One that is not UTF-8 gives -1 and 1 byte. */
int32_t chars_decode(const char *at, const char *end, size_t *len);
size_t chars_encode(char out[4], int32_t code); /* the bytes written */

/* Bytes of the white space character (str.isspace) at `at`, 0 when there is none. */
size_t chars_space(const char *at, const char *end);
const char *chars_rstrip(const char *begin, const char *end); /* the end without white space */
size_t chars_break(const char *at, const char *end);          /* str.splitlines' line breaks */
size_t chars_word(const char *at, const char *end);           /* a character of a name */

/* The value of a digit or letter, 99 for other characters. */
static inline int chars_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

size_t chars_count(const char *text, size_t len);
size_t chars_offset(const char *text, size_t len, size_t n); /* the byte where character n begins */
void chars_mend(char *text);        /* "?" for what is not UTF-8, as where a message was cut */
bool chars_printable(int32_t code); /* repr() writes it as it is */

/* The character in the other case, 1 to 3 code points; how many. */
int chars_upper(int32_t code, int32_t out[3]);
int chars_lower(int32_t code, int32_t out[3]);
bool chars_is_upper(int32_t code), chars_is_lower(int32_t code);

#endif
