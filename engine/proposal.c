/* Trees of drafts. At most 31 nodes: plain loops are fast enough. */
#include "engine/proposal.h"

#include <string.h>

int proposal_child(const struct proposal *p, int node, int32_t token)
{
    for (int j = node + 1; j < p->n; j++)
        if (p->parent[j] == node && p->token[j] == token)
            return j;
    return -1;
}

int proposal_add(struct proposal *p, int parent, int32_t token, int head, int rank, float chance)
{
    int j = proposal_child(p, parent, token);
    if (j < 0) {
        if (p->n == DRAFTS_MAX)
            return -1;
        j = p->n++;
        p->token[j] = token;
        p->parent[j] = (int8_t)parent;
        p->depth[j] = (int8_t)(parent < 0 ? 1 : p->depth[parent] + 1);
        p->head[j] = p->rank[j] = 0;
        p->lookup[j] = false;
        p->chance[j] = 0;
    }
    if (!head) {
        p->lookup[j] = true;
    } else if (!p->head[j]) {
        p->head[j] = (int8_t)head;
        p->rank[j] = (int8_t)rank;
    }
    /* Two that agree are surer than either, but by how much nobody has counted. */
    p->chance[j] = p->chance[j] > chance ? p->chance[j] : chance;
    return j;
}

/* Puts the nodes order[0..n), parents before children, in this order and forgets the others. */
static void take(struct proposal *p, const int *order, int n)
{
    struct proposal old = *p;
    int8_t now[DRAFTS_MAX + 1] = {-1}; /* the new index of old node j at [j + 1] */
    p->n = n;
    for (int i = 0; i < n; i++) {
        int j = order[i];
        now[j + 1] = (int8_t)i;
        p->token[i] = old.token[j];
        p->parent[i] = now[old.parent[j] + 1];
        p->depth[i] = old.depth[j];
        p->head[i] = old.head[j];
        p->rank[i] = old.rank[j];
        p->lookup[i] = old.lookup[j];
        p->chance[i] = old.chance[j];
    }
}

/* The least likely node that has no kept child; of equal ones the last. */
static int weakest_leaf(const struct proposal *p, const bool *kept)
{
    bool inner[DRAFTS_MAX] = {false};
    int worst = -1;
    for (int j = p->n - 1; j >= 0; j--) {
        if (!kept[j])
            continue;
        if (p->parent[j] >= 0)
            inner[p->parent[j]] = true;
        if (!inner[j] && (worst < 0 || p->chance[j] < p->chance[worst]))
            worst = j;
    }
    return worst;
}

void proposal_cut(struct proposal *p, int depth, int most)
{
    bool kept[DRAFTS_MAX];
    int order[DRAFTS_MAX], n = 0, left = 0;
    for (int j = 0; j < p->n; j++)
        left += kept[j] = p->depth[j] <= depth;
    for (; left > 0 && left > most; left--)
        kept[weakest_leaf(p, kept)] = false;
    for (int j = 0; j < p->n; j++)
        if (kept[j])
            order[n++] = j;
    take(p, order, n);
}

void proposal_keep(struct proposal *p, const bool *kept)
{
    bool stays[DRAFTS_MAX];
    int order[DRAFTS_MAX], n = 0;
    for (int j = 0; j < p->n; j++) {
        stays[j] = kept[j] && (p->parent[j] < 0 || stays[(int)p->parent[j]]);
        if (stays[j])
            order[n++] = j;
    }
    take(p, order, n);
}

void proposal_order(struct proposal *p)
{
    int order[DRAFTS_MAX], n = 0, at = -1;
    bool placed[DRAFTS_MAX] = {false};
    while (n < p->n) {
        int best = -1;
        for (int j = at + 1; j < p->n; j++)
            if (!placed[j] && p->parent[j] == at && (best < 0 || p->chance[j] > p->chance[best]))
                best = j;
        if (best < 0) {
            at = p->parent[at]; /* this subtree is done; x_t's own never is before all nodes are */
            continue;
        }
        placed[best] = true;
        order[n++] = at = best;
    }
    take(p, order, n);
}

void proposal_build(struct proposal *p, const struct shape *shape, const struct candidates *c)
{
    int at[DRAFTS_MAX]; /* the shape's node in the proposal, -1 = left out */
    p->n = 0;
    for (int j = 0; j < shape->n; j++) {
        int head = shape->head[j], d = shape->depth[j] - 1;
        int parent = shape->parent[j] < 0 ? -1 : at[(int)shape->parent[j]];
        at[j] = -1;
        if (shape->parent[j] >= 0 && parent < 0)
            continue;
        if (head ? head > c->heads || shape->rank[j] >= c->n[head - 1] : d >= c->n_lookup)
            continue;
        int32_t token = head ? c->token[head - 1][(int)shape->rank[j]] : c->lookup[d];
        at[j] = proposal_add(p, parent, token, head, shape->rank[j], shape->chance[j]);
    }
    proposal_order(p);
}
