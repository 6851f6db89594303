/* UTF-8: see utf8.h. */
#include "text/utf8.h"

#include <string.h>

#include <utf8proc.h>

#include "text/unicode_recent.h"

int utf8_decode(const char *text, size_t n, uint32_t *code)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned char first = s[0], low = 0x80, high = 0xbf;
    int length = first < 0x80                    ? 1
                 : first >= 0xc2 && first < 0xe0 ? 2
                 : first >= 0xe0 && first < 0xf0 ? 3
                 : first >= 0xf0 && first < 0xf5 ? 4
                                                 : -1;
    if (length < 0)
        return length;
    uint32_t bits = length == 1 ? first : first & (0x7fu >> length);
    if (first == 0xe0)
        low = 0xa0;
    if (first == 0xed)
        high = 0x9f;
    if (first == 0xf0)
        low = 0x90;
    if (first == 0xf4)
        high = 0x8f;
    for (int i = 1; i < length; i++, low = 0x80, high = 0xbf) {
        if ((size_t)i >= n)
            return 0;
        if (s[i] < low || s[i] > high)
            return -i;
        bits = bits << 6 | (s[i] & 0x3f);
    }
    if (code)
        *code = bits;
    return length;
}

int utf8_encode(uint32_t code, char *s)
{
    return (int)utf8proc_encode_char((utf8proc_int32_t)code, (utf8proc_uint8_t *)s);
}

size_t utf8_valid(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        if ((unsigned char)s[i] < 0x80) {
            i++;
            continue;
        }
        int length = utf8_decode(s + i, n - i, NULL);
        if (length <= 0)
            break;
        i += (size_t)length;
    }
    return i;
}

size_t utf8_invalid(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        int length = utf8_decode(s + i, n - i, NULL);
        if (length > 0)
            break;
        i += length ? (size_t)-length : n - i;
    }
    return i;
}

bool utf8_is_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0d) || code == 0x20 || code == 0x85 || code == 0xa0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
           code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

/* Of a character that utf8proc doesn't know. */
static bool is_recent_word(uint32_t code)
{
    for (const struct unicode_recent *u = unicode_recent; *u->category && u->first <= code; u++)
        if (code <= u->last)
            return *u->category == 'L' || *u->category == 'M' || !strcmp(u->category, "Nd");
    return false;
}

bool utf8_is_word(uint32_t code)
{
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    case UTF8PROC_CATEGORY_CN:
        return is_recent_word(code);
    default:
        /* Joiners and letters in circles or squares. */
        return code == 0x200c || code == 0x200d || (code >= 0x24b6 && code <= 0x24e9) ||
               (code >= 0x1f130 && code <= 0x1f149) || (code >= 0x1f150 && code <= 0x1f169) ||
               (code >= 0x1f170 && code <= 0x1f189);
    }
}
