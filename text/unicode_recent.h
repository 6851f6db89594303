/* Characters of Unicode 15 to 16 with their general categories: the libraries here may be older
 * (PCRE2 10.42 has version 14) than those by which tokenizers are trained. */
#ifndef TEXT_UNICODE_RECENT_H
#define TEXT_UNICODE_RECENT_H

#include <stdint.h>

struct unicode_recent {
    char category[3];
    uint32_t first, last;
};

/* By first; ends with one of category "". */
extern const struct unicode_recent unicode_recent[];

#endif
