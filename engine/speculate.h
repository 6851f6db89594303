/* The choice of drafts: for each decoding sequence of the next step a tree, so that all of them
 * together are expected to commit the most tokens per second. Drafts never change the text, so this
 * may follow the clock and the text as it likes.
 *
 * Nodes are worth their chance of being accepted, per row. Taken in that order the first nodes of a
 * sequence are the best tree of their number (Chen et al. 2024, Sequoia, section 3; with rates that
 * don't depend on the path it is exact), and over all sequences the best way to spend as many rows.
 * Every number of heads and of rows is tried, none too; costs are shared by the batch, so a group
 * of rows that only pays together is found. No clock, no threads: state is what the caller hands
 * in, and the time that a choice took too. */
#ifndef ENGINE_SPECULATE_H
#define ENGINE_SPECULATE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "engine/costs.h"
#include "engine/proposal.h"
#include "engine/rates.h"

enum speculate_mode {
    SPECULATE_BEST,  /* whatever is fastest within the limits, also nothing */
    SPECULATE_CHAIN, /* the best candidates of exactly limits.nodes heads */
    SPECULATE_TREE,  /* exactly limits.nodes nodes, the likeliest, if there are as many */
};

/* One sequence that decodes in the next step. */
struct wish {
    const struct draft_rates *rates;
    enum speculate_mode mode;
    int heads;                  /* it may use heads 1..heads; 0 = no heads */
    int nodes, depth;           /* most nodes; most tokens ahead (what the text's limit leaves) */
    int ranks;                  /* candidates a head may have in the tree, 1..DRAFT_RANKS; 1 and no
                                   look-up: a chain */
    bool chained;               /* as in struct candidates: only the best chain has children */
    int n_lookup, match_length; /* lookup_propose's answer; 0 = none, or not allowed */
    int positions;              /* its committed tokens: what a row attends to */
    struct shape shape;         /* the answer */
};

/* What else the pass of the next step carries: rows of prompts. */
struct company {
    int rows;
    double positions; /* that these rows attend to */
    int most_rows;    /* of the whole pass */
};

struct speculate {
    struct sort *sorted, *spare; /* (max_sequences x nodes) */
    struct grown *grown;         /* (max_sequences) */
    int max_sequences;
    /* The last choice keeps a small bonus, so that noise doesn't turn it over each step. */
    int heads;
    double rows;
    /* Choices in a row that were nothing; steps for which it stays at that, for so many wishes. */
    int idle, rest, resting;
    double look; /* seconds that choosing takes for each wish, an average that forgets */
    /* Seconds that may still be lost to trials of what is believed slower. */
    double credit;
    unsigned steps;
    int drafted;           /* steps in a row */
    int untried, unlooked; /* steps since a trial was thought of, and those of rest among them */
    bool trial;            /* the last choice was one */
};

/* ERR_MEMORY. */
int speculate_init(struct speculate *speculate, int max_sequences, struct err *err);
void speculate_release(struct speculate *speculate);

/* Fills the shapes of n wishes and returns how many heads run: the most that any of them needs. */
int speculate_choose(struct speculate *speculate, const struct costs *costs, struct wish *wishes,
                     int n, const struct company *company);
/* Says how long that took: what choosing costs counts against plans with drafts, since where none
 * pay the choice is left out for some steps. */
void speculate_took(struct speculate *speculate, int n, double seconds);

#endif
