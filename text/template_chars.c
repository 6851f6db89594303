/* UTF-8 and the properties of characters, from utf8proc. */
#include "text/template_chars.h"

#include <string.h>

#include <utf8proc.h>

int32_t chars_decode(const char *at, const char *end, size_t *len)
{
    utf8proc_int32_t code;
    *len = 1;
    if ((unsigned char)*at < 0x80)
        return *at;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)at, end - at, &code);
    if (n < 1)
        return -1;
    *len = (size_t)n;
    return code;
}

size_t chars_encode(char out[4], int32_t code)
{
    return (size_t)utf8proc_encode_char(code, (utf8proc_uint8_t *)out);
}

static bool is_space(int32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

size_t chars_space(const char *at, const char *end)
{
    size_t n;
    return is_space(chars_decode(at, end, &n)) ? n : 0;
}

const char *chars_rstrip(const char *begin, const char *end)
{
    while (end > begin) {
        const char *at = end - 1;
        while (at > begin && end - at < 4 && ((unsigned char)*at & 0xc0) == 0x80)
            at--;
        if (chars_space(at, end) != (size_t)(end - at))
            break;
        end = at;
    }
    return end;
}

size_t chars_break(const char *at, const char *end)
{
    size_t n;
    int32_t c = chars_decode(at, end, &n);
    if (c == '\r')
        return at + 1 < end && at[1] == '\n' ? 2 : 1;
    bool is =
        (c >= 10 && c <= 12) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
    return is ? n : 0;
}

size_t chars_word(const char *at, const char *end)
{
    size_t n;
    int32_t c = chars_decode(at, end, &n);
    if (c < 0x80)
        return c == '_' || chars_digit((char)(c < 0 ? 0 : c)) < 99 ? n : 0;
    utf8proc_category_t category = utf8proc_category(c);
    bool is = (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_MC) ||
              category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_PC;
    return is ? n : 0;
}

size_t chars_count(const char *text, size_t len)
{
    size_t count = 0;
    for (const char *at = text, *end = text + len; at < end; count++) {
        size_t n;
        chars_decode(at, end, &n);
        at += n;
    }
    return count;
}

size_t chars_offset(const char *text, size_t len, size_t n)
{
    const char *at = text, *end = text + len;
    for (size_t bytes; n && at < end; n--, at += bytes)
        chars_decode(at, end, &bytes);
    return (size_t)(at - text);
}

void chars_mend(char *text)
{
    char *end = text + strlen(text);
    for (size_t n; text < end; text += n)
        if (chars_decode(text, end, &n) < 0)
            *text = '?';
}

bool chars_printable(int32_t code)
{
    if (code < 0x7f)
        return code >= 0x20;
    switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

/* Letters whose upper case is several (Unicode's SpecialCasing); the rarer ones are left out. */
static const int32_t special[][4] = {
    {0xdf, 'S', 'S', 0},      {0x149, 0x2bc, 'N', 0},  {0x1f0, 'J', 0x30c, 0},
    {0x587, 0x535, 0x552, 0}, {0x1e96, 'H', 0x331, 0}, {0x1e97, 'T', 0x308, 0},
    {0x1e98, 'W', 0x30a, 0},  {0x1e99, 'Y', 0x30a, 0}, {0x1e9a, 'A', 0x2be, 0},
    {0xfb00, 'F', 'F', 0},    {0xfb01, 'F', 'I', 0},   {0xfb02, 'F', 'L', 0},
    {0xfb03, 'F', 'F', 'I'},  {0xfb04, 'F', 'F', 'L'}, {0xfb05, 'S', 'T', 0},
    {0xfb06, 'S', 'T', 0},
};

int chars_upper(int32_t code, int32_t out[3])
{
    for (size_t i = 0; code >= 0xdf && i < sizeof special / sizeof *special; i++)
        if (special[i][0] == code) {
            memcpy(out, special[i] + 1, 3 * sizeof *out);
            return out[2] ? 3 : 2;
        }
    out[0] = code < 0 ? code : utf8proc_toupper(code);
    return 1;
}

int chars_lower(int32_t code, int32_t out[3])
{
    out[0] = code < 0 ? code : utf8proc_tolower(code);
    if (code != 0x130)
        return 1;
    out[0] = 'i';
    out[1] = 0x307;
    return 2;
}

bool chars_is_upper(int32_t code)
{
    return code >= 0 && utf8proc_category(code) == UTF8PROC_CATEGORY_LU;
}

bool chars_is_lower(int32_t code)
{
    return code >= 0 && utf8proc_category(code) == UTF8PROC_CATEGORY_LL;
}
