/* Option tables: see opts.h. */
#include "base/opts.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_default(const struct opt *o)
{
    if (o->type == OPT_INT)
        printf(" (default %d)", *(int *)o->value);
    else if (o->type == OPT_REAL)
        printf(" (default %g)", *(double *)o->value);
    else if (o->type != OPT_FLAG && *(const char **)o->value)
        printf(" (default %s)", *(const char **)o->value);
}

static const char *dashes(const struct opt *o)
{
    return o->name[1] ? "--" : "-";
}

static void print_help(const struct opt *table, const char *program, const char *about)
{
    static const char *const kinds[] = {" TEXT", " N", " X", "", " "};
    printf("%s\n\nUsage: %s [options]\n\n", about, program);
    for (const struct opt *o = table; o->name; o++) {
        char left[96];
        snprintf(left, sizeof left, "%s%s%s%s", dashes(o), o->name, kinds[o->type],
                 o->type == OPT_CHOICE ? o->choices : "");
        printf("  %-28s %s", left, o->help);
        if (o->name[1])
            print_default(o);
        putchar('\n');
    }
    printf("  %-28s %s\n  %-28s %s\n", "--help", "this page", "--version", "the version");
}

static bool choice_has(const char *choices, const char *word)
{
    size_t len = strlen(word);
    for (const char *c = choices; c;) {
        const char *bar = strchr(c, '|');
        size_t n = bar ? (size_t)(bar - c) : strlen(c);
        if (n == len && len && !memcmp(c, word, n))
            return true;
        c = bar ? bar + 1 : NULL;
    }
    return false;
}

static int set_number(const struct opt *o, const char *text, struct err *err)
{
    char *end;
    errno = 0;
    double x = strtod(text, &end);
    bool number = end != text && !*end && !errno && isfinite(x);
    if (o->type == OPT_INT && (!number || x != floor(x)))
        return err_set(err, ERR_INVALID, "--%s takes a whole number, not '%s'", o->name, text);
    if (!number)
        return err_set(err, ERR_INVALID, "--%s takes a number, not '%s'", o->name, text);
    if (x < o->min || x > o->max)
        return err_set(err, ERR_INVALID, "--%s is %s, but must lie between %g and %g", o->name,
                       text, o->min, o->max);
    if (o->type == OPT_INT)
        *(int *)o->value = (int)x;
    else
        *(double *)o->value = x;
    return 0;
}

static int set_value(const struct opt *o, const char *text, struct err *err)
{
    if (o->type == OPT_INT || o->type == OPT_REAL)
        return set_number(o, text, err);
    if (o->type == OPT_CHOICE && !choice_has(o->choices, text))
        return err_set(err, ERR_INVALID, "--%s is '%s', but must be one of %s", o->name, text,
                       o->choices);
    *(const char **)o->value = text;
    return 0;
}

static const struct opt *find(const struct opt *table, const char *name, size_t len)
{
    for (const struct opt *o = table; o->name; o++)
        if (strlen(o->name) == len && !memcmp(o->name, name, len))
            return o;
    return NULL;
}

int opts_parse(const struct opt *table, const char *about, int argc, char **argv,
               const char **positional, int max_positional, int *n_positional, struct err *err)
{
    int n = 0;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
            print_help(table, argv[0], about);
            return 1;
        }
        if (!strcmp(word, "--version")) {
            printf("headway %s\n", HEADWAY_VERSION);
            return 1;
        }
        if (word[0] != '-' && n < max_positional) {
            positional[n++] = word;
            continue;
        }
        size_t len = strcspn(word, "=");
        size_t begin = !strncmp(word, "--", 2) ? 2 : 1;
        const struct opt *o =
            word[0] == '-' && len > begin ? find(table, word + begin, len - begin) : NULL;
        if (o && strlen(dashes(o)) != begin)
            o = NULL;
        if (!o)
            return err_set(err, ERR_INVALID, "'%s' is not an option here: --help lists them", word);
        if (o->type == OPT_FLAG) {
            if (word[len])
                return err_set(err, ERR_INVALID, "--%s takes no value", o->name);
            *(bool *)o->value = true;
            continue;
        }
        if (!word[len] && i + 1 >= argc)
            return err_set(err, ERR_INVALID, "--%s needs a value: %s", o->name, o->help);
        int rc = set_value(o, word[len] ? word + len + 1 : argv[++i], err);
        if (rc)
            return rc;
    }
    if (n_positional)
        *n_positional = n;
    return 0;
}

/* ---- files and the environment ---- */

static int set_flag(const struct opt *o, const char *text, struct err *err)
{
    if (strcmp(text, "true") && strcmp(text, "false"))
        return err_set(err, ERR_INVALID, "%s is '%s', but must be true or false", o->name, text);
    *(bool *)o->value = text[0] == 't';
    return 0;
}

/* Texts that options point to, kept for as long as the program runs: a list, so that one that
 * another replaces still has an owner. */
struct kept {
    struct kept *next;
    char text[];
};
static struct kept *all_kept;

static int set_kept(const struct opt *o, const char *text, struct err *err)
{
    if (o->type == OPT_FLAG)
        return set_flag(o, text, err);
    size_t size = strlen(text) + 1;
    struct kept *kept = malloc(sizeof *kept + size);
    if (!kept)
        return err_set(err, ERR_MEMORY, "memory ran out");
    memcpy(kept->text, text, size);
    kept->next = all_kept;
    all_kept = kept;
    return set_value(o, kept->text, err);
}

static char *trim(char *text)
{
    text += strspn(text, " \t\r\n");
    size_t n = strlen(text);
    while (n && strchr(" \t\r\n", text[n - 1]))
        text[--n] = '\0';
    return text;
}

static int read_line(const struct opt *table, char *line, struct err *err)
{
    char *text = trim(line), *equals = strchr(text, '=');
    if (!*text || *text == '#')
        return 0;
    if (!equals)
        return err_set(err, ERR_INVALID, "'%.60s' is no line of the form name = value", text);
    *equals = '\0';
    char *name = trim(text);
    const struct opt *o = find(table, name, strlen(name));
    if (!o)
        return err_set(err, ERR_INVALID, "'%.60s' is not an option here: --help lists them", name);
    return set_kept(o, trim(equals + 1), err);
}

static int read_file(const struct opt *table, const char *path, struct err *err)
{
    char line[4096];
    int rc = 0;
    FILE *file = fopen(path, "r");
    if (!file)
        return err_set(err, ERR_IO, "%s could not be read: %s", path, strerror(errno));
    for (int i = 1; !rc && fgets(line, sizeof line, file); i++)
        if ((rc = read_line(table, line, err)))
            err_prefix(err, rc, "%s, line %d", path, i);
    fclose(file);
    return rc;
}

/* HEADWAY_MAX_QUEUE for max-queue. */
static const char *from_environment(const char *name, char *variable, size_t size)
{
    size_t n = (size_t)snprintf(variable, size, "HEADWAY_%s", name);
    for (size_t i = 8; i < n && i < size - 1; i++)
        variable[i] = variable[i] == '-'                         ? '_'
                      : variable[i] >= 'a' && variable[i] <= 'z' ? (char)(variable[i] - 'a' + 'A')
                                                                 : variable[i];
    const char *value = getenv(variable);
    return value && *value ? value : NULL;
}

int opts_settings(const struct opt *table, const char *path, struct err *err)
{
    char variable[80];
    int rc = path ? read_file(table, path, err) : 0;
    for (const struct opt *o = table; o->name && !rc; o++) {
        if (!o->name[1])
            continue;
        const char *value = from_environment(o->name, variable, sizeof variable);
        if (value && (rc = set_kept(o, value, err)))
            err_prefix(err, rc, "%s", variable);
    }
    return rc;
}

const char *opts_early(const char *name, int argc, char **argv)
{
    char variable[80];
    size_t len = strlen(name);
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (strncmp(word, "--", 2) || strncmp(word + 2, name, len))
            continue;
        if (word[len + 2] == '=')
            return word + len + 3;
        if (!word[len + 2] && i + 1 < argc)
            return argv[i + 1];
    }
    return from_environment(name, variable, sizeof variable);
}
