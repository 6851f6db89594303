/* Regular expressions, as far as an automaton can be made of them: characters, ., classes, groups,
 * alternatives, repetitions. Syntax and meaning are those of ECMA-262 with its flag u, which JSON
 * Schema goes by: characters are Unicode's, \d and \w are ASCII's, \s is white space of any script,
 * . is no line break. What is more than a set of texts (captures) does not matter, so that lazy
 * quantifiers are the same as others. Back-references, lookaround, word boundaries, possessive
 * quantifiers, inline flags and Unicode properties are refused by name.
 *
 * Hostile expressions: length and nesting are bounded here, the work for repetitions in repetitions
 * by the size that an automaton may have. Any thread. */
#ifndef TEXT_REGEX_H
#define TEXT_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "text/automaton.h"

#define REGEX_BYTES_MAX 16384

struct regex_options {
    bool json;   /* the text stands in a JSON string: some characters are escaped */
    bool search; /* a match anywhere in the text is enough, unless ^ and $ say where; else all of
                    the text must match */
};

/* Draws what the expression matches between `from` and a new state, which is *to. ERR_INVALID says
 * what is wrong or not supported, and where; ERR_MEMORY. When the draft became full, it is for
 * automaton_finish to say so. */
int regex_draw(struct automaton_draft *draft, const char *expression, size_t len,
               const struct regex_options *options, int32_t from, int32_t *to, struct err *err);

/* The automaton of all texts that match from end to end. ERR_INVALID, ERR_MEMORY. */
int regex_compile(const char *expression, size_t len, struct automaton **automaton,
                  struct err *err);

/* ---- between regex.c, which reads, and regex_draw.c ---- */

enum regex_kind { REGEX_SET, REGEX_SEQUENCE, REGEX_CHOICE, REGEX_REPEAT };

struct char_set;

struct regex_node {
    enum regex_kind kind;
    int child, next; /* of sequences, choices: the first part; the part behind this one; -1: none */
    int least, most; /* of repetitions; -1 = without end */
    int set;
    bool begins, ends; /* of sequences: ^ before, $ behind them */
};

struct regex {
    struct regex_node *nodes;
    int n_nodes, room_nodes;
    struct char_set *sets;
    int *set_rule; /* (n_sets) the rule that reads one character of it, -1: none yet */
    int n_sets, room_sets;
    int root; /* a choice */
};

int regex_parse(struct regex *regex, const char *expression, size_t len, struct err *err);
void regex_release(struct regex *regex);

#endif
