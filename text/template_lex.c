/* Tags, texts between them, and the lexemes of expressions. */
#include "text/template_lex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "text/template_chars.h"

#define MAX_NESTING 200 /* open brackets */

struct lexer {
    struct pool *pool;
    const char *at, *end;
    int line;
    bool line_starts; /* what was read last ended with a new line */
    struct lexeme *lexemes;
    size_t n, room;
    char open[MAX_NESTING]; /* the closing brackets that are awaited */
    int n_open;
    struct err *err;
};

static const struct {
    const char *written;
    enum lexeme_kind kind;
} operators[] = {
    {"**", LEX_POW},     {"//", LEX_FLOORDIV},  {"==", LEX_EQ},       {"!=", LEX_NE},
    {">=", LEX_GE},      {"<=", LEX_LE},        {"+", LEX_ADD},       {"-", LEX_SUB},
    {"*", LEX_MUL},      {"/", LEX_DIV},        {"%", LEX_MOD},       {"~", LEX_TILDE},
    {"<", LEX_LT},       {">", LEX_GT},         {"=", LEX_ASSIGN},    {".", LEX_DOT},
    {",", LEX_COMMA},    {":", LEX_COLON},      {";", LEX_SEMICOLON}, {"|", LEX_PIPE},
    {"(", LEX_LPAREN},   {")", LEX_RPAREN},     {"[", LEX_LBRACKET},  {"]", LEX_RBRACKET},
    {"{", LEX_LBRACE},   {"}", LEX_RBRACE},     {"in", LEX_IN},       {"not in", LEX_NOT_IN},
    {"%}", LEX_TAG_END}, {"}}", LEX_PRINT_END},
};
#define N_LEXED 26 /* of the operators: the rest are only for messages */

const char *lex_written(enum lexeme_kind kind)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (operators[i].kind == kind)
            return operators[i].written;
    return kind == LEX_END                        ? "the end of the template"
           : kind == LEX_NAME                     ? "a name"
           : kind == LEX_STRING                   ? "a string"
           : kind == LEX_INT || kind == LEX_FLOAT ? "a number"
                                                  : "the text behind a tag";
}

static int fail(struct lexer *l, const char *what)
{
    return err_set(l->err, ERR_INVALID, "line %d of the chat template: %s", l->line, what);
}

static int add(struct lexer *l, struct lexeme lexeme)
{
    if (l->n == l->room) {
        size_t room = l->room ? l->room * 2 : 64;
        struct lexeme *grown = pool_take(l->pool, room, sizeof *grown);
        if (!grown)
            return err_set(l->err, l->pool->full ? ERR_INVALID : ERR_MEMORY,
                           "line %d of the chat template: memory ran out for its lexemes", l->line);
        if (l->n)
            memcpy(grown, l->lexemes, l->n * sizeof *grown);
        l->lexemes = grown;
        l->room = room;
    }
    lexeme.line = l->line;
    l->lexemes[l->n++] = lexeme;
    return 0;
}

/* Moves on, counting lines. */
static void pass(struct lexer *l, const char *to)
{
    if (to > l->at)
        l->line_starts = to[-1] == '\n';
    for (; l->at < to; l->at++)
        l->line += *l->at == '\n';
}

static const char *skip_space(const char *at, const char *end)
{
    for (size_t n; at < end && (n = chars_space(at, end)); at += n)
        ;
    return at;
}

static bool starts(const char *at, const char *end, const char *with)
{
    size_t n = strlen(with);
    return (size_t)(end - at) >= n && !memcmp(at, with, n);
}

/* The end of a tag's closing ("%}" or "#}", the sign before it included) that begins at `at`, with
 * the white space that goes with it; NULL when there is none. */
static const char *closing(const char *at, const char *end, const char *close)
{
    bool minus = at < end && *at == '-', plus = at < end && *at == '+';
    at += minus || plus;
    if (!starts(at, end, close))
        return NULL;
    at += 2;
    return minus ? skip_space(at, end) : at + (!plus && at < end && *at == '\n');
}

/* "{%- word %}" at `at`: the end of the opening if that is what stands there. The word's own
 * closing is left to the caller. */
static const char *tag_word(const char *at, const char *end, const char *word)
{
    if (!starts(at, end, "{%"))
        return NULL;
    at += 2;
    at += at < end && (*at == '-' || *at == '+');
    at = skip_space(at, end);
    if (!starts(at, end, word))
        return NULL;
    return skip_space(at + strlen(word), end);
}

/* The text before a tag whose sign (0 for none) may ask for its white space to go. */
static int add_data(struct lexer *l, const char *to, char sign, bool lstrip)
{
    const char *begin = l->at, *stop = to;
    if (sign == '-') {
        stop = chars_rstrip(begin, stop);
    } else if (sign != '+' && lstrip) {
        const char *line = stop;
        while (line > begin && line[-1] != '\n')
            line--;
        if ((line > begin || l->line_starts) && skip_space(line, stop) == stop)
            stop = line;
    }
    int rc =
        stop > begin
            ? add(l,
                  (struct lexeme){.kind = LEX_DATA, .text = begin, .len = (size_t)(stop - begin)})
            : 0;
    pass(l, to);
    return rc;
}

static int lex_comment(struct lexer *l)
{
    for (const char *at = l->at; at < l->end; at++) {
        const char *stop = closing(at, l->end, "#}");
        if (stop) {
            pass(l, stop);
            return 0;
        }
    }
    return fail(l, "a comment has no end: \"#}\" was expected");
}

/* The text of a raw block, whose opening begins at l->at and has the word's end at `at`. */
static int lex_raw(struct lexer *l, const char *at)
{
    pass(l, *at == '-' ? skip_space(at + 3, l->end) : at + 2);
    for (at = l->at; at < l->end; at++) {
        const char *word = tag_word(at, l->end, "endraw");
        const char *stop = word ? closing(word, l->end, "%}") : NULL;
        if (stop) {
            int rc = add_data(l, at, at[2], true);
            pass(l, stop);
            return rc;
        }
    }
    return fail(l, "a raw block has no end: \"{% endraw %}\" was expected");
}

static int lex_digits(struct lexer *l, int base, const char *at)
{
    char digits[72];
    size_t n = 0;
    for (; at < l->end && n < sizeof digits - 1; at++) {
        if (*at == '_' && at + 1 < l->end && chars_digit(at[1]) < base)
            continue;
        if (chars_digit(*at) >= base)
            break;
        digits[n++] = *at;
    }
    digits[n] = 0;
    errno = 0;
    long long integer = strtoll(digits, NULL, base);
    if (errno || n == sizeof digits - 1)
        return fail(l, "a whole number does not fit in 64 bits");
    int rc = add(l, (struct lexeme){.kind = LEX_INT, .integer = integer});
    pass(l, at);
    return rc;
}

/* Digits, with single underscores between them, from `at`; their end. */
static const char *digits_end(const char *at, const char *end)
{
    if (at == end || chars_digit(*at) > 9)
        return at;
    while (at < end &&
           (chars_digit(*at) <= 9 || (*at == '_' && at + 1 < end && chars_digit(at[1]) <= 9)))
        at++;
    return at;
}

/* The end of a number with a fraction or an exponent; NULL when it has neither. */
static const char *float_end(const struct lexer *l)
{
    if (l->n && l->lexemes[l->n - 1].kind == LEX_DOT && l->at[-1] == '.')
        return NULL; /* "x.0.1" are two indices */
    const char *whole = digits_end(l->at, l->end), *at = whole;
    if (at < l->end && *at == '.') {
        const char *fraction = digits_end(at + 1, l->end);
        at = fraction > at + 1 ? fraction : at;
    }
    if (at < l->end && (*at == 'e' || *at == 'E')) {
        const char *power = at + 1;
        power += power < l->end && (*power == '-' || *power == '+');
        const char *stop = digits_end(power, l->end);
        at = stop > power ? stop : at;
    }
    return at > whole ? at : NULL;
}

static int lex_number(struct lexer *l)
{
    const char *at = l->at, *stop = float_end(l);
    if (stop) {
        char number[400];
        size_t n = 0;
        for (; at < stop; at++)
            if (*at != '_' && n < sizeof number - 1)
                number[n++] = *at;
        number[n] = 0;
        if (n == sizeof number - 1)
            return fail(l, "a number has more than 398 characters");
        int rc = add(l, (struct lexeme){.kind = LEX_FLOAT, .real = strtod(number, NULL)});
        pass(l, stop);
        return rc;
    }
    if (*at == '0' && l->end - at > 2) {
        char letter = (char)(at[1] | 0x20);
        int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
        const char *digit = at + 2 + (at[2] == '_');
        if (base && digit < l->end && chars_digit(*digit) < base)
            return lex_digits(l, base, digit);
    }
    if (*at == '0') { /* "007" is "00" and "7" */
        while (at < l->end && (*at == '0' || (*at == '_' && at + 1 < l->end && at[1] == '0')))
            at++;
        int rc = add(l, (struct lexeme){.kind = LEX_INT});
        pass(l, at);
        return rc;
    }
    return lex_digits(l, 10, at);
}

/* A code point of `n` digits behind "\x", "\u", "\U"; -1 when it is none. */
static int32_t hex_escape(const char *at, const char *end, int n)
{
    int64_t code = 0;
    for (int i = 0; i < n; i++, at++) {
        if (at >= end || chars_digit(*at) > 15)
            return -1;
        code = code * 16 + chars_digit(*at);
    }
    return code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? -1 : (int32_t)code;
}

/* Writes what the escape behind a backslash at `at` stands for; returns its end, NULL when it is
 * none. Python keeps the backslash of one that it does not know. */
static const char *escape(const char *at, const char *end, char **out)
{
    static const char letters[] = "\\'\"abfnrtv", bytes[] = "\\'\"\a\b\f\n\r\t\v";
    const char *letter = *at ? strchr(letters, *at) : NULL;
    if (letter) {
        *(*out)++ = bytes[letter - letters];
        return at + 1;
    }
    if (*at == '\n')
        return at + 1;
    int n = *at == 'x' ? 2 : *at == 'u' ? 4 : *at == 'U' ? 8 : 0;
    int32_t code = n ? hex_escape(at + 1, end, n) : 0;
    const char *stop = at + 1 + n;
    if (!n && chars_digit(*at) < 8) {
        for (stop = at; stop < end && stop < at + 3 && chars_digit(*stop) < 8; stop++)
            code = code * 8 + chars_digit(*stop);
    } else if (!n && *at != 'N') {
        *(*out)++ = '\\';
        return at;
    } else if (*at == 'N' || code < 0) {
        return NULL;
    }
    *out += chars_encode(*out, code);
    return stop;
}

static int lex_string(struct lexer *l)
{
    char quote = *l->at;
    const char *stop = l->at + 1;
    while (stop < l->end && *stop != quote)
        stop += *stop == '\\' ? 2 : 1;
    if (stop >= l->end)
        return fail(l, "a string has no end: its closing quotation mark was expected");
    char *text = pool_take(l->pool, (size_t)(stop - l->at), 1), *out = text;
    if (!text)
        return err_set(l->err, ERR_MEMORY, "memory ran out for a string of the chat template");
    for (const char *at = l->at + 1; at < stop;) {
        if (*at != '\\') {
            *out++ = *at++;
        } else if (!(at = escape(at + 1, stop, &out))) {
            return fail(l, "a string has an escape that stands for no character");
        }
    }
    int rc = add(l, (struct lexeme){.kind = LEX_STRING, .text = text, .len = (size_t)(out - text)});
    pass(l, stop + 1);
    return rc;
}

static int lex_name(struct lexer *l)
{
    const char *stop = l->at;
    for (size_t n; stop < l->end && (n = chars_word(stop, l->end)); stop += n)
        ;
    if (stop == l->at)
        return fail(l, "a tag has a character that belongs to no expression");
    int rc =
        add(l, (struct lexeme){.kind = LEX_NAME, .text = l->at, .len = (size_t)(stop - l->at)});
    pass(l, stop);
    return rc;
}

static int balance(struct lexer *l, enum lexeme_kind kind)
{
    char close = kind == LEX_LPAREN     ? ')'
                 : kind == LEX_LBRACKET ? ']'
                 : kind == LEX_LBRACE   ? '}'
                                        : 0;
    if (close) {
        if (l->n_open == MAX_NESTING)
            return fail(l, "brackets are nested more than 200 deep");
        l->open[l->n_open++] = close;
    }
    if (kind != LEX_RPAREN && kind != LEX_RBRACKET && kind != LEX_RBRACE)
        return 0;
    if (!l->n_open || l->open[l->n_open - 1] != *l->at)
        return fail(l, "a bracket closes that was not opened");
    l->n_open--;
    return 0;
}

static int lex_operator(struct lexer *l)
{
    for (int i = 0; i < N_LEXED; i++) {
        if (!starts(l->at, l->end, operators[i].written))
            continue;
        int rc = balance(l, operators[i].kind);
        rc = rc ? rc : add(l, (struct lexeme){.kind = operators[i].kind});
        pass(l, l->at + strlen(operators[i].written));
        return rc;
    }
    return lex_name(l);
}

/* What stands in a tag, its end included. A closing inside brackets is not one. */
static int lex_code(struct lexer *l, enum lexeme_kind end)
{
    l->n_open = 0;
    for (int rc = 0; l->at < l->end && !rc;) {
        const char *stop = NULL;
        if (!l->n_open && end == LEX_TAG_END)
            stop = closing(l->at, l->end, "%}");
        else if (!l->n_open && starts(l->at, l->end, "-}}"))
            stop = skip_space(l->at + 3, l->end);
        else if (!l->n_open && starts(l->at, l->end, "}}"))
            stop = l->at + 2;
        if (stop) {
            rc = add(l, (struct lexeme){.kind = end});
            pass(l, stop);
            return rc;
        }
        if (chars_space(l->at, l->end))
            pass(l, skip_space(l->at, l->end));
        else if (chars_digit(*l->at) <= 9)
            rc = lex_number(l);
        else if (*l->at == '"' || *l->at == '\'')
            rc = lex_string(l);
        else
            rc = lex_operator(l);
        if (rc)
            return rc;
    }
    return 0;
}

static int lex_tag(struct lexer *l, const char *tag)
{
    char sign = tag + 2 < l->end && (tag[2] == '-' || tag[2] == '+') ? tag[2] : 0;
    int rc = add_data(l, tag, sign, tag[1] != '{');
    if (rc)
        return rc;
    const char *raw = tag_word(tag, l->end, "raw");
    if (raw && (starts(raw, l->end, "%}") || starts(raw, l->end, "-%}")))
        return lex_raw(l, raw);
    pass(l, tag + 2 + (sign != 0));
    if (tag[1] == '#')
        return lex_comment(l);
    bool print = tag[1] == '{';
    rc = add(l, (struct lexeme){.kind = print ? LEX_PRINT_BEGIN : LEX_TAG_BEGIN});
    return rc ? rc : lex_code(l, print ? LEX_PRINT_END : LEX_TAG_END);
}

int lex_template(struct pool *pool, const char *source, size_t len, struct lexeme **lexemes,
                 struct err *err)
{
    struct lexer l = {.pool = pool,
                      .at = source,
                      .end = source + len,
                      .line = 1,
                      .line_starts = true,
                      .err = err};
    int rc = 0;
    while (!rc && l.at < l.end) {
        const char *tag = l.at;
        while (tag < l.end && !(*tag == '{' && tag + 1 < l.end && strchr("%{#", tag[1]) && tag[1]))
            tag++;
        rc = tag < l.end ? lex_tag(&l, tag) : add_data(&l, l.end, '+', false);
    }
    rc = rc ? rc : add(&l, (struct lexeme){.kind = LEX_END});
    *lexemes = l.lexemes;
    return rc;
}
