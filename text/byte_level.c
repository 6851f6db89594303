/* GPT-2's table of bytes: see byte_level.h. */
#include "text/byte_level.h"

#include <stdint.h>

#include "text/utf8.h"

/* The bytes of U+0100 and up: what does not print in Latin-1, with the soft hyphen. */
static int unprintable(uint32_t nth)
{
    return nth < 33 ? (int)nth : nth < 67 ? (int)nth - 33 + 127 : nth == 67 ? 173 : -1;
}

static int byte_of(uint32_t code)
{
    if ((code >= 33 && code <= 126) || (code >= 161 && code <= 172) || (code >= 174 && code <= 255))
        return (int)code;
    return code < 256 ? -1 : unprintable(code - 256);
}

bool byte_level_decode(const char *text, size_t len, char *bytes, size_t *n)
{
    for (int write = 0; write < 2; write++) {
        *n = 0;
        for (size_t i = 0; i < len;) {
            uint32_t code = 0;
            int length = utf8_decode(text + i, len - i, &code), byte = byte_of(code);
            if (length <= 0 || byte < 0)
                return false;
            if (write)
                bytes[*n] = (char)byte;
            ++*n;
            i += (size_t)length;
        }
    }
    return true;
}
