/* A step's proposal for one sequence: a tree of drafts behind the last committed token x_t. Heads
 * and look-up both draft; where they agree they share a node, which takes one row of the pass.
 *
 * Nodes stand depth first with the likeliest child first, so the first nodes are one chain: node j
 * takes the cache slot behind the committed tokens + 1 + j, and for that chain slots are positions,
 * which attention reads fastest. Plain data, no owner but the sequence; any thread. */
#ifndef ENGINE_PROPOSAL_H
#define ENGINE_PROPOSAL_H

#include <stdbool.h>
#include <stdint.h>

#define DRAFTS_MAX 31 /* nodes of a proposal, = ENGINE_DRAFTS_MAX */
#define DRAFT_RANKS 4 /* candidates of a head that a tree may use */

struct proposal {
    int n;
    int32_t token[DRAFTS_MAX];
    int8_t parent[DRAFTS_MAX]; /* -1 = x_t; parent < own index */
    int8_t depth[DRAFTS_MAX];  /* 1 = token t+1 */
    int8_t head[DRAFTS_MAX];   /* the head that drafted it, 1.., 0 = none did */
    int8_t rank[DRAFTS_MAX];   /* its place among the head's candidates, 0 = best */
    bool lookup[DRAFTS_MAX];   /* look-up drafted it, alone or too */
    float chance[DRAFTS_MAX];  /* that it is accepted, as far as its drafters know */
};

/* What was drafted for the tokens behind x_t, used or not. */
struct candidates {
    int heads;                              /* heads that ran: head i drafts token t+i */
    int8_t n[DRAFTS_MAX];                   /* of head i at [i-1]: candidates kept */
    int32_t token[DRAFTS_MAX][DRAFT_RANKS]; /* best first */
    int n_lookup, match_length;             /* lookup_propose's answer */
    int32_t lookup[DRAFTS_MAX];
    bool chained; /* head i > 1 drafted behind the best candidate of head i-1, not any other */
};

/* The shape of a tree: which candidates stand where, before the tokens are known. Nodes are in the
 * order in which they were found worth their rows, so any first part is a tree too. */
struct shape {
    int n;
    int heads; /* to run: the deepest head of a node */
    int8_t parent[DRAFTS_MAX], depth[DRAFTS_MAX];
    int8_t head[DRAFTS_MAX], rank[DRAFTS_MAX]; /* head 0 = look-up */
    float chance[DRAFTS_MAX];
};

/* The child of a node (-1 = x_t) that holds the token, or -1. */
int proposal_child(const struct proposal *proposal, int node, int32_t token);

/* Adds a draft of a head (1..) or of look-up (head 0) and returns its node. A token stands at most
 * once under a parent: a second drafter gets credit at the node that is there. -1 when full. */
int proposal_add(struct proposal *proposal, int parent, int32_t token, int head, int rank,
                 float chance);

/* Drops what is deeper than `depth` and then the least likely leaves until at most `most` nodes are
 * left. */
void proposal_cut(struct proposal *proposal, int depth, int most);

/* Drops the nodes that are not kept, with what stands behind them. */
void proposal_keep(struct proposal *proposal, const bool *kept);

/* Depth first, likeliest child first. */
void proposal_order(struct proposal *proposal);

/* The shape filled with candidates and ordered. Candidates that are missing (fewer were kept) are
 * left out with what stands behind them. */
void proposal_build(struct proposal *proposal, const struct shape *shape,
                    const struct candidates *candidates);

#endif
