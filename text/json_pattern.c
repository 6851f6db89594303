/* Expressions for formats and ranges: see json_pattern.h. */
#include "text/json_pattern.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- formats ---- */

/* Dates of RFC 3339 from the year 1000 on, with the days that months have. */
#define LEAP "([1-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)"
#define DATE                                                                                       \
    "([1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|" \
    "02-"                                                                                          \
    "(0[1-9]|1[0-9]|2[0-8]))|" LEAP "-02-29)"
#define HOUR "([01][0-9]|2[0-3])"
#define TIME HOUR ":[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]" HOUR ":[0-5][0-9])"
#define N "[0-9]{1,9}"
#define DAYS "(" N "D|" N "M(" N "D)?|" N "Y(" N "M(" N "D)?)?)"
#define HOURS "T(" N "S|" N "M(" N "S)?|" N "H(" N "M(" N "S)?)?)"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define HOST LABEL "(\\." LABEL "){0,7}"
#define ATOM "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
#define BYTE "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define IPV4 BYTE "(\\." BYTE "){3}"
#define H "[0-9a-fA-F]"
#define GROUP H "{1,4}"
#define IPV6                                                                                       \
    "(" GROUP ":){7}" GROUP "|(" GROUP ":){1,7}:|(" GROUP ":){1,6}:" GROUP "|(" GROUP              \
    ":){1,5}(:" GROUP "){1,2}|(" GROUP ":){1,4}(:" GROUP "){1,3}|(" GROUP ":){1,3}(:" GROUP        \
    "){1,4}|(" GROUP ":){1,2}(:" GROUP "){1,5}|" GROUP ":(:" GROUP "){1,6}|:((:" GROUP "){1,7}|:)"
#define URI                                                                                        \
    "[A-Za-z][A-Za-z0-9+.-]{1,15}://" HOST "(:[0-9]{1,4})?(/[A-Za-z0-9._~!$&'()*+,;=:@-]{0,64}){"  \
    "0,16}(\\?[A-Za-z0-9._~!$&'()*+,;=:@/-]{0,256})?(#[A-Za-z0-9._~!$&'()*+,;=:@/-]{0,64})?"

const char *json_pattern_format(const char *name)
{
    static const struct {
        const char *name, *expression;
    } formats[] = {
        {"date", DATE},
        {"time", TIME},
        {"date-time", DATE "T" TIME},
        {"duration", "P(" N "W|" DAYS "(" HOURS ")?|" HOURS ")"},
        {"email", ATOM "{1,24}(\\." ATOM "{1,24}){0,3}@" LABEL "(\\." LABEL "){1,6}"},
        {"hostname", HOST},
        {"ipv4", IPV4},
        {"ipv6", IPV6},
        {"uuid", H "{8}-(" H "{4}-){3}" H "{12}"},
        {"uri", URI},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(name, formats[i].name))
            return formats[i].expression;
    return NULL;
}

/* ---- ranges ---- */

static bool is_all(const char *digits, int n, char digit)
{
    for (int i = 0; i < n; i++)
        if (digits[i] != digit)
            return false;
    return true;
}

static void put_digits(struct buf *out, char low, char high, int more)
{
    buf_printf(out, low == high ? "%c" : "[%c-%c]", low, high);
    if (more)
        buf_printf(out, "[0-9]{%d}", more);
}

/* Numbers of n digits between two of them. */
static void put_same_length(struct buf *out, const char *low, const char *high, int n)
{
    static const char nines[] = "999999999999999999", zeros[] = "000000000000000000";
    if (n == 0)
        return;
    if (is_all(low + 1, n - 1, '0') && is_all(high + 1, n - 1, '9')) {
        put_digits(out, low[0], high[0], n - 1);
        return;
    }
    if (low[0] == high[0]) {
        buf_printf(out, "%c", low[0]);
        put_same_length(out, low + 1, high + 1, n - 1);
        return;
    }
    buf_printf(out, "(%c", low[0]);
    put_same_length(out, low + 1, nines, n - 1);
    if (low[0] + 1 < high[0]) {
        buf_puts(out, "|");
        put_digits(out, (char)(low[0] + 1), (char)(high[0] - 1), n - 1);
    }
    buf_printf(out, "|%c", high[0]);
    put_same_length(out, zeros, high + 1, n - 1);
    buf_puts(out, ")");
}

/* Whole numbers from low to high, neither below 0. */
static void put_whole(struct buf *out, int64_t low, int64_t high)
{
    char a[32], b[32];
    bool first = true;
    buf_puts(out, "(");
    for (int64_t end = 9; low <= high; end = end < JSON_PATTERN_BOUND ? end * 10 + 9 : end) {
        if (low > end)
            continue;
        int64_t last = high < end ? high : end;
        int n = snprintf(a, sizeof a, "%" PRId64, low);
        snprintf(b, sizeof b, "%" PRId64, last);
        buf_puts(out, first ? "" : "|");
        put_same_length(out, a, b, n);
        first = false;
        low = last + 1;
    }
    buf_puts(out, ")");
}

#define FRACTION "(\\.[0-9]{1,9})?"
#define NO_FRACTION "(\\.0{1,9})?"
#define SOME_FRACTION "\\.0{0,8}[1-9][0-9]{0,8}"

/* Appends what is there in parts with | between them. */
static void put_part(struct buf *out, const char *sign, int64_t low, int64_t high,
                     const char *fraction)
{
    if (low > high)
        return;
    buf_puts(out, out->len ? "|" : "");
    buf_puts(out, sign);
    put_whole(out, low, high);
    buf_puts(out, fraction);
}

/* Numbers of one sign by their magnitude, low not below 0. */
static void put_sign(struct buf *out, const char *sign, const struct json_range *r, bool whole)
{
    if (whole) {
        put_part(out, sign, r->low + r->low_open, r->high - r->high_open, "");
        return;
    }
    if (r->low > r->high)
        return;
    if (r->low < r->high)
        put_part(out, sign, r->low, r->low, r->low_open ? SOME_FRACTION : FRACTION);
    put_part(out, sign, r->low + 1, r->high - 1, FRACTION);
    if (!r->high_open && (r->low < r->high || !r->low_open))
        put_part(out, sign, r->high, r->high, NO_FRACTION);
}

static void put_range(const struct json_range *r, bool whole, struct buf *out)
{
    struct buf parts = {0};
    struct json_range above = {r->low < 0 ? 0 : r->low, r->high, r->low >= 0 && r->low_open,
                               r->high_open};
    struct json_range below = {r->high > 0 ? 0 : -r->high, -r->low, r->high <= 0 && r->high_open,
                               r->low_open};
    put_sign(&parts, "", &above, whole);
    if (r->low < 0)
        put_sign(&parts, "-", &below, whole);
    buf_append(out, parts.data ? parts.data : "", parts.len);
    out->failed |= parts.failed;
    buf_release(&parts);
}

void json_pattern_whole(const struct json_range *range, struct buf *out)
{
    put_range(range, true, out);
}

void json_pattern_decimal(const struct json_range *range, struct buf *out)
{
    put_range(range, false, out);
}
