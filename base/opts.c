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

static void print_help(const struct opt *table, const char *program, const char *about)
{
    static const char *const kinds[] = {" TEXT", " N", " X", "", " "};
    printf("%s\n\nUsage: %s [options]\n\n", about, program);
    for (const struct opt *o = table; o->name; o++) {
        char left[96];
        snprintf(left, sizeof left, "--%s%s%s", o->name, kinds[o->type],
                 o->type == OPT_CHOICE ? o->choices : "");
        printf("  %-28s %s", left, o->help);
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
        const struct opt *o =
            !strncmp(word, "--", 2) && len > 2 ? find(table, word + 2, len - 2) : NULL;
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
