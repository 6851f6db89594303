/* Normal form C with utf8proc's tables. The library's own function orders marks in quadratic time,
 * so decomposed characters are ordered here. */
#include "text/nfc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "text/utf8.h"

/* What became characters after Unicode 10, the version that Hugging Face's tokenizers normalise by:
 * to them these neither combine nor move, nor does what surrounds them past them. */
static const uint32_t unknown[][2] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},
    {0xc3c, 0xc3c},     {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x1715, 0x1715},
    {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},   {0xa82c, 0xa82c},   {0x10d24, 0x10d27},
    {0x10eab, 0x10eac}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50}, {0x10f82, 0x10f85},
    {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x1183a},
    {0x11930, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47},
    {0x11a99, 0x11a99}, {0x11d42, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42},
    {0x16ff0, 0x16ff1}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae},
    {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef},
};

static bool is_unknown(uint32_t code)
{
    size_t low = 0, high = sizeof unknown / sizeof *unknown;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (unknown[middle][1] < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof unknown / sizeof *unknown && unknown[low][0] <= code;
}

/* Everything below U+0300 is in normal form, whatever stands beside it. */
bool nfc_may_change(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] >= 0xcc)
            return true;
    return false;
}

/* The code points of what stands between two characters that nothing combines with. */
struct run {
    int32_t *codes, *spare;
    size_t n, room;
    bool failed;
};

static void run_reserve(struct run *run, size_t extra)
{
    if (run->n + extra <= run->room || run->failed)
        return;
    size_t room = (run->n + extra) * 2 + 64;
    int32_t *codes = realloc(run->codes, room * sizeof *codes);
    if (codes)
        run->codes = codes;
    int32_t *spare = realloc(run->spare, room * sizeof *spare);
    if (spare)
        run->spare = spare;
    run->failed = !codes || !spare;
    run->room = run->failed ? run->room : room;
}

static unsigned class_of(int32_t code)
{
    return (unsigned)utf8proc_get_property(code)->combining_class & 0xff;
}

static void sort_few(int32_t *codes, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        int32_t moving = codes[i];
        size_t k = i;
        for (; k && class_of(codes[k - 1]) > class_of(moving); k--)
            codes[k] = codes[k - 1];
        codes[k] = moving;
    }
}

/* By counting; both keep the order of equals. */
static void sort_many(int32_t *codes, int32_t *spare, size_t n)
{
    size_t places[257] = {0};
    for (size_t i = 0; i < n; i++)
        places[class_of(codes[i]) + 1]++;
    for (int c = 0; c < 256; c++)
        places[c + 1] += places[c];
    for (size_t i = 0; i < n; i++)
        spare[places[class_of(codes[i])]++] = codes[i];
    memcpy(codes, spare, n * sizeof *codes);
}

static void order_marks(struct run *run)
{
    for (size_t i = 0, end; i < run->n; i = end + 1) {
        for (end = i; end < run->n && class_of(run->codes[end]); end++)
            ;
        if (end - i > 32)
            sort_many(run->codes + i, run->spare, end - i);
        else if (end - i > 1)
            sort_few(run->codes + i, end - i);
    }
}

static void flush(struct run *run, struct buf *out)
{
    order_marks(run);
    utf8proc_ssize_t n = utf8proc_normalize_utf32(run->codes, (utf8proc_ssize_t)run->n,
                                                  UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        char bytes[4];
        buf_append(out, bytes, (size_t)utf8_encode((uint32_t)run->codes[i], bytes));
    }
    run->n = 0;
}

static void add(struct run *run, uint32_t code)
{
    run_reserve(run, 8); /* canonical decompositions have at most four */
    if (run->failed)
        return;
    int boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)code, run->codes + run->n, 8,
                                                 UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &boundary);
    if (n > 0 && n <= 8)
        run->n += (size_t)n;
}

void nfc_append(const char *text, size_t len, struct buf *out)
{
    struct run run = {0};
    for (size_t i = 0; i < len && !run.failed;) {
        uint32_t code = 0;
        int length = utf8_decode(text + i, len - i, &code);
        size_t bytes = length > 0 ? (size_t)length : length ? (size_t)-length : len - i;
        bool fixed = length <= 0 || is_unknown(code);
        /* ASCII characters begin a run: what follows may combine with them. */
        if (run.n && (fixed || code < 0x80))
            flush(&run, out);
        if (fixed)
            buf_append(out, text + i, bytes);
        else if (code < 0x80 && i + 1 < len && (unsigned char)text[i + 1] < 0x80)
            buf_append(out, text + i, 1);
        else
            add(&run, code);
        i += bytes;
    }
    if (run.n && !run.failed)
        flush(&run, out);
    out->failed |= run.failed;
    free(run.codes);
    free(run.spare);
}
