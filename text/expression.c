/* From Oniguruma's syntax to PCRE2's: see expression.h. */
#include "text/expression.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "text/unicode_recent.h"

/* Unicode's White_Space as members of a class, and all other characters: PCRE2 10.42 counts U+180E
 * among white space, Unicode does not since version 6.3. */
#define SPACE                                                                                      \
    "\\x09-\\x0D\\x20\\x85\\xA0\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}"   \
    "\\x{3000}"
#define NO_SPACE                                                                                   \
    "\\x00-\\x08\\x0E-\\x1F\\x21-\\x84\\x86-\\x9F\\xA1-\\x{167F}\\x{1681}-\\x{1FFF}"               \
    "\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}"                 \
    "\\x{3001}-\\x{10FFFF}"
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"

struct rewriting {
    const char *whole, *at;
    struct buf *out;
    bool in_class;
    struct err *err;
};

static int refuse(const struct rewriting *r, const char *what)
{
    return err_set(r->err, ERR_INVALID, "expression '%.200s': %s at byte %zu is not supported",
                   r->whole, what, (size_t)(r->at - r->whole));
}

/* A set of characters, inside a class or as one of its own. */
static void put_set(struct rewriting *r, const char *members, bool negated)
{
    if (r->in_class)
        buf_puts(r->out, members);
    else
        buf_printf(r->out, negated ? "[^%s]" : "[%s]", members);
}

/* Newer characters of a category, as members of a class; true when there are any. */
static bool put_recent(struct rewriting *r, const char *category, size_t len)
{
    bool any = false;
    for (const struct unicode_recent *u = unicode_recent; *u->category; u++)
        if (len <= 2 && !strncmp(u->category, category, len)) {
            if (!any && !r->in_class)
                buf_printf(r->out, "[\\p{%.*s}", (int)len, category);
            any = true;
            buf_printf(r->out, "\\x{%X}-\\x{%X}", (unsigned)u->first, (unsigned)u->last);
        }
    if (any && !r->in_class)
        buf_puts(r->out, "]");
    return any;
}

/* \p{...} with at at the p. */
static int property(struct rewriting *r)
{
    const char *name = r->at + 2, *end = *name ? strchr(name, '}') : NULL;
    size_t len;
    bool negated = *r->at == 'P';
    if (r->at[1] != '{' || !end || (len = (size_t)(end - name)) == 0 || len > 40)
        return refuse(r, "a property that is not written \\p{Name}");
    if (*name == '^') {
        negated = !negated;
        name++;
        len--;
    }
    r->at = end + 1;
    if (!negated && !r->in_class && put_recent(r, name, len))
        return 0;
    /* Scripts are longer than general categories, and mean the script itself, not also what is
     * used in it (Script_Extensions). */
    bool script = len > 2 && memcmp(name, "Alphabetic", len < 10 ? len : 10) != 0;
    buf_printf(r->out, "\\%c{%s%.*s}", negated ? 'P' : 'p', script ? "sc:" : "", (int)len, name);
    if (!negated && r->in_class)
        put_recent(r, name, len);
    return 0;
}

/* \x41, \x{41}, \u0041: at at the letter. */
static int number(struct rewriting *r)
{
    bool braces = *r->at == 'x' && r->at[1] == '{';
    const char *digits = r->at + 1 + braces;
    size_t n = strspn(digits, "0123456789abcdefABCDEF");
    if (!braces && n > (*r->at == 'u' ? 4u : 2u))
        n = *r->at == 'u' ? 4 : 2;
    if (n < 1 || n > 6 || (braces && digits[n] != '}') || (*r->at == 'u' && n != 4) ||
        (!braces && *r->at == 'x' && digits[0] > '7'))
        return refuse(r, "a character's number in this form");
    buf_printf(r->out, "\\x{%.*s}", (int)n, digits);
    r->at = digits + n + braces;
    return 0;
}

/* What follows a backslash. */
static int escape(struct rewriting *r)
{
    char c = *++r->at;
    if (c == 'p' || c == 'P')
        return property(r);
    if (c == 'x' || c == 'u')
        return number(r);
    if (c == 'S' && r->in_class)
        put_set(r, NO_SPACE, false);
    else if (c == 's' || c == 'S')
        put_set(r, SPACE, c == 'S');
    else if (c == 'w')
        put_set(r, WORD, false);
    else if (c == 'W' && !r->in_class)
        put_set(r, WORD, true);
    else if (c == 'd' || c == 'D')
        buf_puts(r->out, c == 'd' ? "\\p{Nd}" : "\\P{Nd}");
    else if (c == 'v')
        buf_puts(r->out, "\\x0B");
    else if (c && strchr("nrtfae", c))
        buf_printf(r->out, "\\%c", c);
    else if (ispunct((unsigned char)c) || c == ' ')
        buf_printf(r->out, "\\%c", c);
    else
        return refuse(r, "this letter or digit behind a backslash");
    r->at++;
    return 0;
}

/* The inside of [...], at behind the bracket. Nested and intersected classes exist there only. */
static int class(struct rewriting *r)
{
    buf_puts(r->out, "[");
    r->in_class = true;
    if (*r->at == '^') {
        buf_puts(r->out, "^");
        r->at++;
    }
    if (*r->at == ']')
        return refuse(r, "a class that begins with a bracket");
    while (*r->at && *r->at != ']') {
        int rc = 0;
        if (*r->at == '\\') {
            bool set = r->at[1] && strchr("sSwdDpP", r->at[1]);
            rc = escape(r);
            if (!rc && set && *r->at == '-') { /* no range: a hyphen */
                buf_puts(r->out, "\\-");
                r->at++;
            }
        } else if (*r->at == '[')
            rc = refuse(r, "a class inside a class");
        else if (r->at[0] == '&' && r->at[1] == '&')
            rc = refuse(r, "an intersection of classes");
        else
            buf_append(r->out, r->at++, 1);
        if (rc)
            return rc;
    }
    if (!*r->at)
        return refuse(r, "a class without an end");
    r->at++;
    r->in_class = false;
    buf_puts(r->out, "]");
    return 0;
}

/* Groups that mean the same in both; at at the parenthesis. */
static int group(struct rewriting *r)
{
    static const char *const known[] = {"(?:", "(?=",  "(?!",  "(?<=",  "(?<!",
                                        "(?>", "(?i:", "(?i)", "(?-i:", "(?-i)"};
    if (r->at[1] == '*')
        return refuse(r, "a verb");
    size_t len = 1;
    if (r->at[1] == '?') {
        len = 0;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (!strncmp(r->at, known[i], strlen(known[i])))
                len = strlen(known[i]);
        if (!len)
            return refuse(r, "this kind of group");
    }
    buf_append(r->out, r->at, len);
    r->at += len;
    return 0;
}

/* {n,m}: what may follow it differs. at at the brace. */
static int interval(struct rewriting *r)
{
    const char *end = r->at + 1 + strspn(r->at + 1, "0123456789,");
    if (*end != '}' || end == r->at + 1) {
        buf_puts(r->out, "\\{");
        r->at++;
        return 0;
    }
    if (end[1] == '+' || end[1] == '?')
        return refuse(r, "a repeat behind an interval");
    buf_printf(r->out, "{%s%.*s}", r->at[1] == ',' ? "0" : "", (int)(end - r->at - 1), r->at + 1);
    r->at = end + 1;
    return 0;
}

int expression_rewrite(const char *expression, struct buf *out, struct err *err)
{
    struct rewriting r = {.whole = expression, .at = expression, .out = out, .err = err};
    int rc = 0;
    while (!rc && *r.at) {
        switch (*r.at) {
        case '\\':
            rc = escape(&r);
            break;
        case '[':
            r.at++;
            rc = class(&r);
            break;
        case '(':
            rc = group(&r);
            break;
        case '{':
            rc = interval(&r);
            break;
        case '^': /* beginnings and ends of lines, not of the text */
        case '$':
            buf_printf(out, "(?m:%c)", *r.at++);
            break;
        default:
            buf_append(out, r.at++, 1);
        }
    }
    if (!rc && out->failed)
        rc = err_set(err, ERR_MEMORY, "expression: no memory left");
    return rc;
}
