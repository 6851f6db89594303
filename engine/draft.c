/* Proposing the drafts of the next step: how many are worth their time, the heads that make them,
 * one after another with the token chosen last in hand, and the tree that they become together with
 * what look-up finds. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/scheduler.h"

/* A request whose heads (with caches) nobody asked for in so many steps stops keeping their caches
 * for the rest of the text: what they cost is a row of each head per token. */
#define PATIENCE 32
#define SELDOM 0.25 /* of the steps: heads that draft in fewer are not worth their caches */
#define PATIENCE_SELDOM 8
#define USE_FORGET 0.02
#define USE_PRIOR 8 /* steps of use that are taken to have been before the first */

/* ---- how many ---- */

static int most_drafts(const struct sequence *q)
{
    int room = q->limit - q->n_tokens - 1; /* the step commits one token without drafts */
    return q->finish || sequence_prefills(q) || room <= 0 ? 0 : room;
}

/* Heads beyond those used lately need not keep caches: they have gaps then, for good. */
static void drop_idle_heads(struct sequence *q, int heads, int patience, bool shared)
{
    q->used = heads > q->used ? heads : q->used;
    if (++q->patience < patience)
        return;
    if (q->used < q->heads_kept && !(shared && q->used))
        q->heads_kept = q->used;
    q->used = q->patience = 0;
}

static bool seldom(const struct scheduler *s, int together)
{
    return s->heads_used[costs_batch(together)].part < SELDOM;
}

/* Keeping caches costs a row of each head for every token, from the prompt on. Where heads have
 * hardly been used lately by so many sequences together, a new one does without, but for one in
 * eight, by which it shows when that changes. */
void draft_begin(struct scheduler *s, struct sequence *q, int together)
{
    if (!s->caches || q->speculation != SPECULATION_AUTO)
        return;
    if (seldom(s, together) && ++s->begun % 8)
        q->heads_kept = 0;
}

static void note_use(struct scheduler *s, int n)
{
    struct head_use *use = &s->heads_used[costs_batch(n)];
    double some = 0, all = 0;
    for (int i = 0; i < n; i++)
        if (s->wished[i]->speculation == SPECULATION_AUTO && s->wishes[i].heads) {
            some += s->wishes[i].shape.heads > 0;
            all++;
        }
    if (all > 0) {
        double weight = 1.0 / (USE_PRIOR + use->steps + 1);
        bool early = weight > USE_FORGET;
        use->steps += early;
        use->part += (early ? weight : USE_FORGET) * (some / all - use->part);
    }
}

/* What the next proposal may be. */
static void wish(struct sequence *q, struct wish *w)
{
    struct candidates *c = &q->candidates;
    int k = q->speculation, most = most_drafts(q);
    bool automatic = k == SPECULATION_AUTO, any = q->drafters == 0;
    bool heads = (any || q->drafters & DRAFT_HEADS) && q->heads_kept > 0;
    bool lookup = q->drafters & DRAFT_LOOKUP || (any && (automatic || !heads));
    bool tree = q->drafters & DRAFT_TREE || (any && automatic);
    c->heads = c->n_lookup = 0;
    if (lookup || automatic) /* what is not used is learned from */
        c->n_lookup = lookup_propose(&q->lookup, DRAFTS_MAX, c->lookup, &c->match_length);
    if (q->sampler.matcher)
        c->n_lookup = matcher_admits(q->sampler.matcher, c->lookup, c->n_lookup);
    *w = (struct wish){.rates = &q->rates,
                       .mode = automatic        ? SPECULATE_BEST
                               : tree || !heads ? SPECULATE_TREE
                                                : SPECULATE_CHAIN,
                       .heads = heads ? q->heads_kept : 0,
                       .nodes = automatic || k > DRAFTS_MAX ? DRAFTS_MAX : k,
                       .depth = most,
                       .ranks = tree ? DRAFT_RANKS : 1,
                       .n_lookup = lookup ? c->n_lookup : 0,
                       .match_length = c->match_length,
                       .positions = q->n_tokens};
    /* All ranks are compared with what comes, so that trees are known before they are tried. */
    q->ranks = tree || automatic ? DRAFT_RANKS : 1;
}

/* Rows of prompts that the next step will carry beside. */
static struct company company(const struct scheduler *s)
{
    struct company c = {.most_rows = STEP_DRAFTS};
    for (int i = 0; i < s->max_sequences && !s->alone; i++) {
        const struct sequence *q = &s->sequences[i];
        int left = q->active && !q->finish && !q->alone ? q->prefill_end - q->n_cached : 0;
        left = left < s->prompt_chunk - c.rows ? left : s->prompt_chunk - c.rows;
        if (left <= 0)
            continue;
        c.rows += left;
        c.positions += (double)left * (q->n_cached + left / 2.0);
    }
    c.most_rows += c.rows;
    return c;
}

/* Chooses the shapes of all proposals together: they share the pass. */
static void choose_shapes(struct scheduler *s)
{
    struct step *p = &s->step;
    struct company beside = company(s);
    int n = 0;
    for (int i = 0; i < p->n_slots; i++) {
        struct sequence *q = &s->sequences[p->slots[i]];
        q->proposal.n = q->shape.n = q->shape.heads = 0;
        if (q->speculation && most_drafts(q) > 0) {
            s->wished[n] = q;
            wish(q, &s->wishes[n++]);
        } else if (!q->finish && !sequence_prefills(q)) {
            beside.rows++;
            beside.positions += q->n_tokens;
        }
    }
    if (!n)
        return;
    double start = clock_seconds();
    speculate_choose(&s->speculate, &s->costs, s->wishes, n, &beside);
    speculate_took(&s->speculate, n, clock_seconds() - start);
    note_use(s, n);
    int patience = seldom(s, n) ? PATIENCE_SELDOM : PATIENCE;
    for (int i = 0; i < n; i++) {
        struct sequence *q = s->wished[i];
        q->shape = s->wishes[i].shape;
        if (q->speculation == SPECULATION_AUTO && s->caches)
            drop_idle_heads(q, q->shape.heads, patience, s->shared);
    }
}

/* Lists the rows of this step, by their number in its pass, on which heads run: where heads keep
 * keys and values all that stay, else those that draft. */
static void plan_drafts(struct scheduler *s)
{
    struct step *p = &s->step;
    p->n_committed = p->n_drafting = p->heads_run = p->heads_choose = 0;
    choose_shapes(s);
    for (int i = 0; i < p->n_slots; i++) {
        struct sequence *q = &s->sequences[p->slots[i]];
        if (q->finish || !q->speculation)
            continue;
        int heads = s->caches ? q->heads_kept : q->shape.heads;
        if (!heads)
            continue;
        bool decodes = q->n_committed > 0;
        int n = decodes ? q->n_committed : q->n_rows;
        for (int j = s->caches ? 0 : n - 1; j < n; j++) {
            int row = decodes ? q->committed[j] : q->first_row + j;
            assert(p->rows[row].pos + 1 < q->n_tokens);
            p->committed_next[p->n_committed] = q->tokens[p->rows[row].pos + 1];
            p->committed_from[p->n_committed++] = row;
        }
        p->heads_run = p->heads_run < heads ? heads : p->heads_run;
        if (!q->shape.heads)
            continue;
        p->heads_choose = p->heads_choose < q->shape.heads ? q->shape.heads : p->heads_choose;
        p->draft_slot[p->n_drafting] = p->slots[i];
        p->draft_tokens[p->n_drafting] = q->tokens[q->n_tokens - 1];
        p->draft_rows[p->n_drafting++] = p->n_committed - 1;
    }
}

static void gather_committed(struct scheduler *s)
{
    struct step *p = &s->step;
    size_t dim = (size_t)s->runtime->model.config.dim, n = (size_t)p->n_committed;
    int states = head_states(&s->runtime->model.config);
    for (size_t i = 0; i < n; i++) {
        const struct row *row = &p->rows[p->committed_from[i]];
        p->committed[i] = row_in_place(row->kv, row->pos);
    }
    for (size_t k = 0; k < (size_t)states; k++)
        for (size_t i = 0; i < n; i++) {
            size_t from = k * (size_t)p->n_rows + (size_t)p->committed_from[i];
            memcpy(p->z_committed + (k * n + i) * dim, p->z + from * dim, dim * sizeof(float));
        }
}

/* ---- by the lanes ---- */

static int by_token(const void *a, const void *b)
{
    return ((const struct candidate *)a)->token - ((const struct candidate *)b)->token;
}

static void list_best(const struct model *m, const float *logits, int n_logits,
                      struct head_few *few)
{
    struct candidate best[HEAD_FEW];
    few->n = logits_best(logits, n_logits, HEAD_FEW, best);
    qsort(best, (size_t)few->n, sizeof *best, by_token);
    for (int i = 0; i < few->n; i++) {
        few->logits[i] = best[i].score;
        few->ids[i] = m->draft_ids ? m->draft_ids[best[i].token] : best[i].token;
    }
}

/* The candidates of a sequence's next head. The best of them is the token in hand for the head
 * after it, and stands in the sampler's history for it. */
static void choose_next(struct lane *lane, struct scheduler *s, struct sequence *q,
                        struct sampler_work *work, int index)
{
    const struct model *m = &s->runtime->model;
    struct step *p = &s->step;
    struct candidates *c = &q->candidates;
    int32_t *best = q->chosen;
    int head = c->heads, ranks = q->ranks,
        n_logits = m->draft_ids ? m->n_draft_ids : m->config.vocab;
    float *logits = p->logits + (size_t)(head * p->n_drafting + index) * model_logits_stride(m);
    const int32_t *ids = m->draft_ids;
    if (m->config.bigram && head > 0) {
        struct head_few *few = &p->few[index];
        struct lane only = lane_alone(lane);
        if (lane->id == 0) {
            list_best(m, logits, n_logits, few);
            head_bigram_add(&only, m, p->draft_tokens[index],
                            p->previous + (size_t)index * 2 * (size_t)m->config.dim, few);
        }
        lane_barrier(lane);
        logits = few->logits;
        ids = few->ids;
        n_logits = few->n;
    }
    const uint64_t *allowed = sequence_allowed(lane, q);
    int n = sampler_sample(lane, &q->sampler, logits, n_logits, ids, allowed, ranks, best, work);
    if (lane->id == 0) {
        if (!n) /* nothing of a draft vocabulary may come: any token is as good in hand as another
                 */
            best[0] = 0;
        memcpy(c->token[head], best, (n ? (size_t)n : 1) * sizeof *best);
        c->n[head] = (int8_t)n;
        c->heads = head + 1;
        p->draft_tokens[index] = best[0];
        sampler_push(&q->sampler, best[0]);
    }
    lane_barrier(lane);
}

static void choose_all(struct lane *lane, struct scheduler *s, struct sequence *q,
                       struct sampler_work *work, int index)
{
    for (int i = 0; i < s->step.heads_choose; i++)
        choose_next(lane, s, q, work, index);
}

/* h_i of the rows that draft, or of none when the head only keeps its cache. */
static void draft_head(struct lane *lane, struct scheduler *s, struct head_work *work, int i)
{
    struct step *p = &s->step;
    const struct model *m = &s->runtime->model;
    struct pass pass = {m, p->committed, p->n_committed, attend_cached, NULL, p->committed_next};
    size_t row = (size_t)(i - 1) * (size_t)p->n_drafting;
    s->heads->draft(lane, &pass, work, i, p->draft_tokens, p->z_committed, p->draft_rows,
                    i <= p->heads_choose ? p->n_drafting : 0, i == p->heads_run,
                    p->h + row * (size_t)m->config.dim);
}

/* Heads that need nothing of each other: one product for the logits of all of them. */
static void draft_at_once(struct lane *lane, struct scheduler *s)
{
    struct step *p = &s->step;
    struct lane only = lane_alone(lane);
    if (s->lanes_take_heads) {
        for (int i = 1 + lane->id; i <= p->heads_run; i += lane->n)
            draft_head(&only, s, &p->head_work[lane->id], i);
        lane_barrier(lane);
    } else {
        for (int i = 1; i <= p->heads_run; i++)
            draft_head(lane, s, p->head_work, i);
    }
    if (p->heads_choose)
        model_logits(lane, &s->runtime->model, 1, p->heads_choose, p->h, p->n_drafting, p->normed,
                     p->logits);
    scheduler_each(lane, s, p->draft_slot, p->n_drafting, choose_all);
}

/* Head, logits, choice, next head. */
static void draft_in_order(struct lane *lane, struct scheduler *s)
{
    struct step *p = &s->step;
    const struct model *m = &s->runtime->model;
    for (int i = 1; i <= p->heads_run; i++) {
        size_t row = (size_t)(i - 1) * (size_t)p->n_drafting, dim = (size_t)m->config.dim;
        draft_head(lane, s, p->head_work, i);
        if (i > p->heads_choose)
            continue;
        model_logits(lane, m, i, 1, p->h + row * dim, p->n_drafting, p->normed + row * dim,
                     p->logits + row * model_logits_stride(m));
        scheduler_each(lane, s, p->draft_slot, p->n_drafting, choose_next);
        lane_barrier(lane);
    }
}

void draft_lane(struct lane *lane, void *arg)
{
    struct scheduler *s = arg;
    struct step *p = &s->step;
    const struct model *m = &s->runtime->model;
    struct pass pass = {m, p->committed, p->n_committed, attend_cached, NULL, p->committed_next};
    heads_read(lane, &pass, p->head_work, p->z_committed, p->draft_rows, p->n_drafting);
    if (s->heads->independent)
        draft_at_once(lane, s);
    else
        draft_in_order(lane, s);
}

/* ---- the proposal ---- */

/* What the step has shown about the drafts of the one before. */
static void learn_rates(struct scheduler *s, struct sequence *q)
{
    int n = q->n_tokens - q->n_before;
    if (!q->n_committed || !n || (!q->candidates.heads && !q->candidates.n_lookup))
        return;
    const int32_t *truth = q->tokens + q->n_before;
    rates_note(&q->rates, &s->rates, &q->candidates, truth, n);
    rates_note(&s->rates, NULL, &q->candidates, truth, n);
}

/* What stands behind another node than the one it was drafted for may not be allowed there: such
 * nodes are no drafts. Nodes stand depth first, so that the way to each is that of the one before,
 * up to a point. */
static void keep_allowed(struct matcher *m, struct proposal *p)
{
    bool kept[DRAFTS_MAX];
    int depth = 0;
    for (int j = 0; j < p->n; j++) {
        for (; depth >= p->depth[j]; depth--)
            matcher_pop(m);
        kept[j] =
            (p->parent[j] < 0 || kept[(int)p->parent[j]]) && matcher_admits(m, &p->token[j], 1);
        if (kept[j]) {
            matcher_push(m, p->token[j]);
            depth++;
        }
    }
    for (; depth > 0; depth--)
        matcher_pop(m);
    proposal_keep(p, kept);
}

void draft_step(struct scheduler *s)
{
    struct step *p = &s->step;
    for (int i = 0; i < p->n_slots; i++)
        learn_rates(s, &s->sequences[p->slots[i]]);
    plan_drafts(s);
    p->draft_seconds = 0;
    if (p->n_committed) {
        double start = clock_seconds();
        gather_committed(s);
        double size = costs_draft(&s->costs, p->heads_choose, p->n_drafting, false);
        team_run_sized(&s->runtime->team, size / s->costs.level, draft_lane, s);
        p->draft_seconds = clock_seconds() - start;
        if (p->n_drafting)
            costs_note_draft(&s->costs, p->heads_choose, p->n_drafting, p->draft_seconds);
    }
    for (int i = 0; i < p->n_drafting; i++) {
        struct sequence *q = &s->sequences[p->draft_slot[i]];
        for (int j = q->candidates.heads; j > 0; j--)
            sampler_pop(&q->sampler, q->candidates.token[j - 1][0]);
    }
    for (int i = 0; i < p->n_slots; i++) {
        struct sequence *q = &s->sequences[p->slots[i]];
        if (q->shape.n)
            proposal_build(&q->proposal, &q->shape, &q->candidates);
        if (q->shape.n && q->sampler.matcher)
            keep_allowed(q->sampler.matcher, &q->proposal);
    }
}
