/* What an answer must look like: an automaton over bytes with calls, so that it can count brackets.
 * Regular expressions (regex.h) and JSON schemas (json_schema.h) are compiled into one, and
 * matcher.h runs it beside a text.
 *
 * States are joined by edges that read a byte of a range, that read nothing, or that call a rule:
 * a rule has states of its own, a start and a final one, and its caller goes on behind it. Rule 0
 * is the whole. Calls save states (what is repeated is compiled once) and make recursion possible,
 * to AUTOMATON_DEPTH_MAX calls in each other; what would need more is not in the language.
 *
 * Immutable once finished, and then shared among threads: counted references. Only what matchers
 * find out about it is added to (mask_store.h). */
#ifndef TEXT_AUTOMATON_H
#define TEXT_AUTOMATON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define AUTOMATON_STATES_MAX 65536
#define AUTOMATON_EDGES_MAX 262144
#define AUTOMATON_RULES_MAX 4096
#define AUTOMATON_DEPTH_MAX 64
#define AUTOMATON_NEVER 255 /* no text leads to the end from here */

enum automaton_kind { AUTOMATON_BYTES, AUTOMATON_EMPTY, AUTOMATON_CALL };

struct automaton_edge {
    int32_t to;   /* of a call: where its caller goes on */
    int32_t rule; /* of a call */
    uint8_t kind, low, high;
    bool tail; /* a call behind which its caller has nothing left to do: it need not return there */
};

struct automaton_rule {
    int32_t start, final;
};

struct automaton {
    int references;
    int n_states, n_edges, n_rules;
    struct automaton_edge *edges; /* by the state that they leave */
    int32_t *first;               /* (n_states + 1) a state's edges: first[s] to first[s + 1] */
    uint8_t *need;                /* (n_states) calls that must fit below for the rule to end from
                                     there, or AUTOMATON_NEVER */
    bool *final;                  /* (n_states) */
    struct automaton_rule *rules;
    struct mask_store *masks; /* mask_store.c's, NULL: none yet */
};

/* One more owner, and one less: the last one frees it. NULL is allowed. Any thread. */
struct automaton *automaton_retain(const struct automaton *automaton);
void automaton_release(const struct automaton *automaton);

/* Whether they were drawn alike: then all texts and positions are the same. */
bool automaton_same(const struct automaton *a, const struct automaton *b);

/* ---- making one ---- */

struct automaton_drawn {
    int32_t from;
    struct automaton_edge edge;
};

/* Begin with a zeroed one and automaton_rule() for rule 0. When there are too many states, edges or
 * rules, or no memory, `full` is set and all that follows does nothing; who draws in a loop asks
 * for it. */
struct automaton_draft {
    struct automaton_drawn *edges;
    struct automaton_rule *rules;
    int n_states, n_edges, n_rules, room_edges, room_rules;
    bool full, no_memory;
};

int32_t automaton_state(struct automaton_draft *draft);
int automaton_rule(struct automaton_draft *draft);
void automaton_bytes(struct automaton_draft *draft, int32_t from, int32_t to, int low, int high);
void automaton_empty(struct automaton_draft *draft, int32_t from, int32_t to);
void automaton_call(struct automaton_draft *draft, int32_t from, int32_t to, int rule);
/* Reads these bytes, and returns the state behind them. */
int32_t automaton_text(struct automaton_draft *draft, int32_t from, const char *text, size_t len);
/* A finished one, copied: the rule that is its whole. */
int automaton_include(struct automaton_draft *draft, const struct automaton *automaton);

/* Makes it, and releases the draft, in error too. ERR_INVALID: too large, without a finite text, or
 * with a rule that calls itself before anything is read. ERR_MEMORY. */
int automaton_finish(struct automaton_draft *draft, struct automaton **automaton, struct err *err);
void automaton_draft_release(struct automaton_draft *draft);

/* Fills `need` and the edges' `tail`. Called by automaton_finish; in automaton_check.c. ERR_INVALID
 * as there, ERR_MEMORY. */
int automaton_check(struct automaton *automaton, struct err *err);

#endif
