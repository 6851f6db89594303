/* Command-line options as a table: parsing, ranges, --help and --version come from it.
 * Used once, by a main.c, before threads start. */
#ifndef BASE_OPTS_H
#define BASE_OPTS_H

#include "base/err.h"

#define HEADWAY_VERSION "0.1.0"

enum opt_type {
    OPT_STRING, /* const char *: points into argv */
    OPT_INT,    /* int, within min..max */
    OPT_REAL,   /* double, within min..max */
    OPT_FLAG,   /* bool, no value */
    OPT_CHOICE, /* const char *: one of the words of `choices`, separated by | */
};

struct opt {
    const char
        *name; /* without the dashes, of which names of one letter have one; NULL ends the table */
    enum opt_type type;
    void *value; /* holds the default before parsing */
    double min, max;
    const char *choices;
    const char *help; /* what it means, in which unit */
};

/* Reads "--name value" and "--name=value". positional receives up to max_positional words
 * (their number in *n_positional; both may be NULL and 0). Returns 0; 1 when --help or --version
 * was asked for and printed (exit with 0); ERR_INVALID with a sentence for an unknown option, a
 * missing value, or one out of range. `about` is the first paragraph of --help. */
int opts_parse(const struct opt *table, const char *about, int argc, char **argv,
               const char **positional, int max_positional, int *n_positional, struct err *err);

/* Values from a file and from the environment, in place of the defaults: before opts_parse, whose
 * words go first. The file has lines "name = value", a flag's value being true or false; empty ones
 * and those that begin with # don't count. NULL: there is none. In the environment an option is
 * HEADWAY_NAME, in capitals and with underscores; an empty one does not count. ERR_IO, ERR_INVALID.
 */
int opts_settings(const struct opt *table, const char *path, struct err *err);

/* The value of an option that must be known before the others: of the words or the environment,
 * NULL when neither has it. */
const char *opts_early(const char *name, int argc, char **argv);

#endif
