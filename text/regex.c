/* Reading regular expressions: see regex.h. */
#include "text/regex.h"

#include <stdlib.h>
#include <string.h>

#include "text/char_set.h"
#include "text/utf8.h"

#define NESTING_MAX 24
#define REPEAT_MAX 65535

struct reader {
    struct regex *re;
    const char *text;
    size_t len, at;
    int depth;
    struct err *err;
};

/* ---- errors and memory ---- */

static int refuse(struct reader *r, const char *what)
{
    return err_set(r->err, ERR_INVALID, "%s at byte %zu of the expression", what, r->at);
}

static int no_memory(struct reader *r)
{
    return err_set(r->err, ERR_MEMORY, "no memory left for an expression of %zu bytes", r->len);
}

/* Returns the node's number, or ERR_MEMORY. */
static int add_node(struct reader *r, struct regex_node node)
{
    struct regex *re = r->re;
    if (re->n_nodes == re->room_nodes) {
        int room = re->room_nodes ? 2 * re->room_nodes : 64;
        struct regex_node *nodes = realloc(re->nodes, (size_t)room * sizeof *nodes);
        if (!nodes)
            return no_memory(r);
        re->nodes = nodes;
        re->room_nodes = room;
    }
    re->nodes[re->n_nodes] = node;
    return re->n_nodes++;
}

/* A node that reads a character of the set, which it takes over. */
static int add_set(struct reader *r, struct char_set *set)
{
    struct regex *re = r->re;
    char_set_settle(set);
    if (set->failed || re->n_sets == re->room_sets) {
        int room = re->room_sets ? 2 * re->room_sets : 64;
        struct char_set *sets = realloc(re->sets, (size_t)room * sizeof *sets);
        re->sets = sets ? sets : re->sets;
        int *rules = realloc(re->set_rule, (size_t)room * sizeof *rules);
        re->set_rule = rules ? rules : re->set_rule;
        if (!sets || !rules || set->failed) {
            char_set_release(set);
            return no_memory(r);
        }
        re->room_sets = room;
    }
    re->set_rule[re->n_sets] = -1;
    re->sets[re->n_sets++] = *set;
    return add_node(
        r, (struct regex_node){.kind = REGEX_SET, .child = -1, .next = -1, .set = re->n_sets - 1});
}

/* ---- characters and classes ---- */

static bool is_next(const struct reader *r, const char *what)
{
    size_t n = strlen(what);
    return r->len - r->at >= n && !memcmp(r->text + r->at, what, n);
}

static bool take(struct reader *r, const char *what)
{
    bool found = is_next(r, what);
    if (found)
        r->at += strlen(what);
    return found;
}

static int read_char(struct reader *r, uint32_t *code)
{
    int n = utf8_decode(r->text + r->at, r->len - r->at, code);
    if (n <= 0)
        return refuse(r, "there is no UTF-8");
    r->at += (size_t)n;
    return 0;
}

static int read_hex(struct reader *r, int digits, uint32_t *code)
{
    *code = 0;
    for (int i = 0; i < digits; i++, r->at++) {
        char c = r->at < r->len ? r->text[r->at] : 0;
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return refuse(r, "a hexadecimal digit is missing");
        *code = *code * 16 + (uint32_t)digit;
    }
    return 0;
}

/* Behind \u: four digits, a pair of surrogates, or {digits}. */
static int read_unicode(struct reader *r, uint32_t *code)
{
    uint32_t low;
    int rc = 0, n = 1;
    if (take(r, "{")) {
        while (r->at + (size_t)n < r->len && r->text[r->at + (size_t)n] != '}')
            n++;
        rc = n > 6 ? refuse(r, "a character's number is too long") : read_hex(r, n, code);
        if (!rc && (!take(r, "}") || *code > CHAR_MOST))
            rc = refuse(r, "there is no such character");
        return rc;
    }
    rc = read_hex(r, 4, code);
    if (!rc && *code >= 0xd800 && *code < 0xdc00 && take(r, "\\u")) {
        rc = read_hex(r, 4, &low);
        if (!rc && (low < 0xdc00 || low > 0xdfff))
            rc = refuse(r, "half a pair of surrogates");
        *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
    }
    return rc;
}

/* Where an escape stands: not in a class, or in one. */
enum around { OUTSIDE, INSIDE, NEGATED };

/* Dialects do not agree on what white space is: \s is what all of them take, and \S, or \s in a
 * class that is negated, leaves out what any of them takes. */
static void add_class(struct char_set *set, char name, bool negated)
{
    static const struct char_range digits[] = {{'0', '9'}},
                                   words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                                   spaces[] = {
                                       {'\t', '\r'},     {' ', ' '},       {0xa0, 0xa0},
                                       {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029},
                                       {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000},
                                       {0x1c, 0x1f},     {0x85, 0x85},     {0xfeff, 0xfeff}};
    struct char_set class = {0};
    char kind = name | 0x20;
    bool wide = (name != kind) != negated;
    const struct char_range *list = kind == 'd' ? digits : kind == 'w' ? words : spaces;
    int n = kind == 'd' ? 1 : kind == 'w' ? 4 : wide ? 12 : 9;
    for (int i = 0; i < n; i++)
        char_set_add(&class, list[i].low, list[i].high);
    if (name != kind)
        char_set_negate(&class);
    char_set_add_all(set, &class);
    char_set_release(&class);
}

/* Behind a backslash: a class (*single is false), or a character. */
static int read_escape(struct reader *r, struct char_set *set, enum around around, uint32_t *code,
                       bool *single)
{
    static const char controls[] = "n\nr\rt\tf\fv\v";
    if (r->at == r->len)
        return refuse(r, "a backslash stands at the end");
    char c = r->text[r->at++];
    *single = true;
    *code = (uint8_t)c;
    for (const char *s = controls; *s; s += 2)
        if (c == s[0]) {
            *code = (uint8_t)s[1];
            return 0;
        }
    switch (c) {
    case 'd':
    case 'D':
    case 'w':
    case 'W':
    case 's':
    case 'S':
        add_class(set, c, around == NEGATED);
        *single = false;
        return 0;
    case 'x':
        return read_hex(r, 2, code);
    case 'u':
        return read_unicode(r, code);
    case '0':
        *code = 0;
        return r->at < r->len && r->text[r->at] >= '0' && r->text[r->at] <= '9'
                   ? refuse(r, "octal escapes are not supported")
                   : 0;
    case 'b':
        *code = '\b';
        return around != OUTSIDE ? 0 : refuse(r, "word boundaries (\\b) are not supported");
    case 'B':
        return refuse(r, "word boundaries (\\B) are not supported");
    case 'p':
    case 'P':
        return refuse(r, "Unicode properties (\\p) are not supported");
    case 'k':
        return refuse(r, "back-references (\\k) are not supported");
    }
    if (c >= '1' && c <= '9')
        return refuse(r, "back-references are not supported");
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return refuse(r, "an escape is not known");
    r->at--;
    return read_char(r, code);
}

/* One element of a class: a character, or the whole of \d and the like. */
static int read_element(struct reader *r, struct char_set *set, enum around around, uint32_t *code,
                        bool *single)
{
    *single = true;
    if (take(r, "\\"))
        return read_escape(r, set, around, code, single);
    if (is_next(r, "[:"))
        return refuse(r, "POSIX classes ([:...:]) are not supported");
    return read_char(r, code);
}

/* Behind [. */
static int read_class(struct reader *r, struct char_set *set)
{
    bool negated = take(r, "^"), single, second;
    enum around around = negated ? NEGATED : INSIDE;
    uint32_t low, high;
    int rc;
    while (!take(r, "]")) {
        if (r->at == r->len)
            return refuse(r, "a class is not closed");
        if ((rc = read_element(r, set, around, &low, &single)))
            return rc;
        high = low;
        bool range = single && is_next(r, "-") && !is_next(r, "-]");
        if (range) {
            r->at++;
            rc = r->at == r->len ? refuse(r, "a class is not closed")
                                 : read_element(r, set, around, &high, &second);
            if (!rc && (!second || high < low))
                rc = refuse(r, "a range in a class is out of order");
            if (rc)
                return rc;
        }
        if (single)
            char_set_add(set, low, high);
    }
    if (negated)
        char_set_negate(set);
    return 0;
}

/* ---- what is repeated ---- */

static int read_choice(struct reader *r);

/* Behind (. */
static int read_group(struct reader *r)
{
    static const char *const looks[] = {"?=", "?!", "?<=", "?<!"};
    for (int i = 0; i < 4; i++)
        if (is_next(r, looks[i]))
            return refuse(r, "lookaround is not supported");
    if (take(r, "?<") || take(r, "?P<")) {
        while (r->at < r->len && r->text[r->at] != '>')
            r->at++;
        r->at += r->at < r->len;
    } else if (!take(r, "?:") && is_next(r, "?")) {
        return refuse(r, is_next(r, "?>") ? "atomic groups are not supported"
                                          : "inline flags are not supported");
    }
    if (r->depth == NESTING_MAX)
        return refuse(r, "groups are nested too deeply");
    r->depth++;
    int node = read_choice(r);
    r->depth--;
    if (node >= 0 && !take(r, ")"))
        return refuse(r, "a group is not closed");
    return node;
}

static int read_atom(struct reader *r)
{
    struct char_set set = {0};
    uint32_t code;
    bool single = true;
    int rc = 0;
    if (take(r, "("))
        return read_group(r);
    if (strchr("*+?", r->text[r->at]) && r->text[r->at])
        return refuse(r, "a quantifier has nothing to repeat");
    if (is_next(r, "^") || is_next(r, "$"))
        return refuse(r, "^ and $ can only stand at the start and the end");
    if (take(r, "[")) {
        rc = read_class(r, &set);
        single = false;
    } else if (take(r, ".")) {
        char_set_add(&set, '\n', '\n');
        char_set_add(&set, '\r', '\r');
        char_set_add(&set, 0x2028, 0x2029);
        char_set_negate(&set);
        single = false;
    } else {
        rc = take(r, "\\") ? read_escape(r, &set, OUTSIDE, &code, &single) : read_char(r, &code);
    }
    if (!rc && single)
        char_set_add(&set, code, code);
    if (!rc)
        return add_set(r, &set);
    char_set_release(&set);
    return rc;
}

static bool read_number(struct reader *r, size_t *at, int *n)
{
    size_t begin = *at;
    for (*n = 0; *at < r->len && r->text[*at] >= '0' && r->text[*at] <= '9'; ++*at)
        *n = *n > REPEAT_MAX ? *n : *n * 10 + (r->text[*at] - '0');
    return *at > begin;
}

/* Takes {m}, {m,} or {m,n}; a brace that begins none of them is a character. */
static bool take_counts(struct reader *r, int *least, int *most)
{
    size_t at = r->at + 1;
    if (!is_next(r, "{") || !read_number(r, &at, least))
        return false;
    *most = *least;
    if (at < r->len && r->text[at] == ',') {
        at++;
        if (!read_number(r, &at, most))
            *most = -1;
    }
    if (at >= r->len || r->text[at] != '}')
        return false;
    r->at = at + 1;
    return true;
}

static int read_repeated(struct reader *r)
{
    int node = read_atom(r), least = 0, most = -1;
    if (node < 0)
        return node;
    if (take(r, "+"))
        least = 1;
    else if (take(r, "?"))
        most = 1;
    else if (!take(r, "*") && !take_counts(r, &least, &most))
        return node;
    if (least > REPEAT_MAX || most > REPEAT_MAX)
        return refuse(r, "a quantifier repeats too often");
    if (most >= 0 && most < least)
        return refuse(r, "the numbers of a quantifier are out of order");
    if (is_next(r, "+"))
        return refuse(r, "possessive quantifiers are not supported");
    take(r, "?"); /* lazy */
    int more, ignored;
    size_t at = r->at;
    if (is_next(r, "*") || is_next(r, "?") || (more = take_counts(r, &ignored, &ignored))) {
        r->at = at;
        return refuse(r, "a quantifier has nothing to repeat");
    }
    return add_node(
        r, (struct regex_node){
               .kind = REGEX_REPEAT, .child = node, .next = -1, .least = least, .most = most});
}

/* Until | or the end of the group. ^ and $ are for the outermost alternatives. */
static int read_sequence(struct reader *r)
{
    struct regex_node sequence = {.kind = REGEX_SEQUENCE, .child = -1, .next = -1};
    int last = -1;
    if (!r->depth && take(r, "^"))
        sequence.begins = true;
    while (r->at < r->len && !is_next(r, "|") && !is_next(r, ")")) {
        if (!r->depth && is_next(r, "$") && (r->at + 1 == r->len || r->text[r->at + 1] == '|')) {
            r->at++;
            sequence.ends = true;
            break;
        }
        int node = read_repeated(r);
        if (node < 0)
            return node;
        if (last < 0)
            sequence.child = node;
        else
            r->re->nodes[last].next = node;
        last = node;
    }
    return add_node(r, sequence);
}

static int read_choice(struct reader *r)
{
    struct regex_node choice = {.kind = REGEX_CHOICE, .child = -1, .next = -1};
    int last = -1;
    do {
        int node = read_sequence(r);
        if (node < 0)
            return node;
        if (last < 0)
            choice.child = node;
        else
            r->re->nodes[last].next = node;
        last = node;
    } while (take(r, "|"));
    return add_node(r, choice);
}

int regex_parse(struct regex *re, const char *expression, size_t len, struct err *err)
{
    struct reader r = {.re = re, .text = expression, .len = len, .err = err};
    *re = (struct regex){0};
    if (len > REGEX_BYTES_MAX)
        return err_set(err, ERR_INVALID, "an expression of %zu bytes is longer than %d", len,
                       REGEX_BYTES_MAX);
    int root = read_choice(&r);
    if (root >= 0 && r.at < len)
        root = refuse(&r, "a group is closed that was not opened");
    re->root = root;
    return root < 0 ? root : 0;
}

void regex_release(struct regex *re)
{
    for (int i = 0; i < re->n_sets; i++)
        char_set_release(&re->sets[i]);
    free(re->sets);
    free(re->set_rule);
    free(re->nodes);
    *re = (struct regex){0};
}
