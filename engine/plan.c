/* Which rows a step computes, and the pages they need. */
#include <assert.h>

#include "engine/scheduler.h"

static bool runs(const struct sequence *q)
{
    return q->active && !q->finish && !q->paused;
}

/* ---- pages ---- */

/* The youngest sequence with pages that is younger than q and has got no rows yet in this step, or
 * NULL. */
static struct sequence *youngest(struct scheduler *s, const struct sequence *q)
{
    struct sequence *found = NULL;
    for (int i = 0; i < s->max_sequences; i++) {
        struct sequence *other = &s->sequences[i];
        if (runs(other) && other->kv.n_pages && other->age > q->age && !other->n_allotted &&
            (!found || other->age > found->age))
            found = other;
    }
    return found;
}

void plan_give_up(struct scheduler *s, struct sequence *q)
{
    sequence_preempt(q);
    s->preemptions++;
}

/* Pages for so many slots, if need be those of younger sequences. */
static bool make_room(struct scheduler *s, struct sequence *q, int slots)
{
    for (;;) {
        prefix_free(&s->prefix, kv_pages(slots) - q->kv.n_pages);
        if (kv_reserve(&q->kv, slots))
            return true;
        struct sequence *victim = youngest(s, q);
        if (!victim)
            return false;
        plan_give_up(s, victim);
    }
}

/* Slots there are without taking anything from others. */
static int slots_left(const struct scheduler *s, const struct sequence *q)
{
    long slots = ((long)q->kv.n_pages + s->pool.n_free + s->pool.n_idle) * KV_PAGE;
    return slots > q->kv.most * KV_PAGE ? q->kv.most * KV_PAGE : (int)slots;
}

/* ---- rows ---- */

static int add_row(struct scheduler *s, struct sequence *q, int32_t token, struct row row,
                   bool logits)
{
    struct step *p = &s->step;
    assert(p->n_rows < s->max_rows);
    if (logits)
        p->out_rows[p->n_out++] = p->n_rows;
    p->tokens[p->n_rows] = token;
    p->rows[p->n_rows] = row;
    p->drafting |= q->speculation != 0;
    p->attended += row.pos + 1;
    q->n_rows++;
    return p->n_rows++;
}

static void begin_rows(struct scheduler *s, struct sequence *q)
{
    q->first_row = s->step.n_rows;
    q->first_out = s->step.n_out;
}

/* The rows of a decoding sequence: its last token, then its drafts, each behind its parent. */
static void add_drafts(struct scheduler *s, struct sequence *q)
{
    const struct proposal *d = &q->proposal;
    int pos = q->n_tokens - 1, first;
    begin_rows(s, q);
    first = add_row(s, q, q->tokens[pos], row_in_place(&q->kv, pos), true) + 1;
    for (int j = 0; j < d->n; j++) {
        int parent = d->parent[j];
        bool in_place = parent < 0 || parent + 1 == d->depth[parent];
        add_row(
            s, q, d->token[j],
            (struct row){&q->kv, pos + d->depth[j], pos + 1 + j, in_place ? -1 : first + parent},
            true);
    }
}

/* ---- who gets how much, the oldest first ---- */

/* A row, and as many drafts as there is room for without taking pages from others. */
static void allot_decode(struct scheduler *s, struct sequence *q, int *drafts_left)
{
    int fit = slots_left(s, q) - q->n_tokens;
    fit = fit < *drafts_left ? fit : *drafts_left;
    proposal_cut(&q->proposal, DRAFTS_MAX, fit > 0 ? fit : 0);
    if (!make_room(s, q, q->n_tokens + q->proposal.n)) {
        plan_give_up(s, q);
        s->step.starved = true;
        return;
    }
    *drafts_left -= q->proposal.n;
    q->n_allotted = 1 + q->proposal.n;
}

/* Who lost its pages comes back when there is room for all of it, so that two do not take them from
 * each other in turn, and after those that are older. */
static bool may_return(const struct scheduler *s, const struct sequence *q, int fit)
{
    for (int i = 0; i < s->max_sequences; i++) {
        const struct sequence *other = &s->sequences[i];
        if (runs(other) && other->preempted && other->in_turn && other->age < q->age)
            return false;
    }
    return fit > q->n_tokens;
}

/* Whole pages with which q begins and that another is just reading, for whom it pays to wait. */
static int soon_known(const struct scheduler *s, const struct sequence *q, int most)
{
    int pages = 0;
    for (int i = 0; i < s->max_sequences; i++) {
        const struct sequence *other = &s->sequences[i];
        int same = 0, end = other->prefill_end < most ? other->prefill_end : most;
        if (other == q || !runs(other) || !other->n_allotted || !sequence_prefills(other) ||
            other->salt != q->salt || other->heads_kept < q->heads_kept)
            continue;
        while (same < end && other->tokens[same] == q->tokens[same])
            same++;
        pages = same / KV_PAGE > pages ? same / KV_PAGE : pages;
    }
    return pages;
}

/* A sequence that has read nothing begins with pages that the prefix cache knows; its last token
 * has to be a row in any case. Heads with caches have gaps where they did not draft: they must have
 * seen what is shared. False: it is better to wait. */
static bool share(struct scheduler *s, struct sequence *q)
{
    int most = q->n_tokens - 1;
    if (q->n_cached || q->prompt_logprobs)
        return true;
    struct prefix_chain chain = prefix_find(&s->prefix, q->salt, q->heads_kept, q->tokens, most);
    if (soon_known(s, q, most) > chain.n)
        return false;
    prefix_begin(&s->prefix, &q->kv, chain);
    q->n_known = chain.n;
    q->n_cached = chain.n * KV_PAGE;
    return true;
}

static void allot_prefill(struct scheduler *s, struct sequence *q, int *room, int *logprobs_left)
{
    /* Who may not return yet must not hold pages either, be they others'. */
    if (q->preempted && !may_return(s, q, slots_left(s, q))) {
        s->step.starved = true;
        return;
    }
    if (!share(s, q))
        return;
    int n = q->prefill_end - q->n_cached, fit = slots_left(s, q) - q->n_cached;
    n = n < *room ? n : *room;
    bool described = q->prompt_logprobs && !q->begun;
    if (described && n > *logprobs_left)
        n = *logprobs_left;
    if (fit < n && !youngest(s, q))
        n = fit;
    if (fit < 1)
        s->step.starved = true;
    if (n <= 0 || !make_room(s, q, q->n_cached + n))
        return;
    if (q->reused < 0) {
        q->reused = q->n_cached;
        s->prompt_tokens += (uint64_t)q->n_prompt;
        s->reused_tokens += (uint64_t)q->reused;
    }
    q->preempted = false;
    q->n_allotted = n;
    *room -= n;
    *logprobs_left -= described ? n : 0;
}

static void add_prefill(struct scheduler *s, struct sequence *q)
{
    begin_rows(s, q);
    for (int i = 0, pos = q->n_cached; i < q->n_allotted; i++, pos++)
        add_row(s, q, q->tokens[pos], row_in_place(&q->kv, pos),
                !q->begun && (q->prompt_logprobs || pos + 1 == q->n_prompt));
}

/* The sequences that run, the oldest first. */
static int by_age(struct scheduler *s)
{
    int n = 0;
    for (int i = 0; i < s->max_sequences; i++) {
        struct sequence *q = &s->sequences[i];
        q->n_rows = q->n_allotted = 0;
        if (!runs(q))
            continue;
        int at = n++;
        for (; at > 0 && s->by_age[at - 1]->age > q->age; at--)
            s->by_age[at] = s->by_age[at - 1];
        s->by_age[at] = q;
    }
    return n;
}

/* Rows for one sequence. Whether it got any. */
static bool allot(struct scheduler *s, struct sequence *q, int *room, int *drafts, int *logprobs)
{
    if (sequence_prefills(q))
        allot_prefill(s, q, room, logprobs);
    else
        allot_decode(s, q, drafts);
    return q->n_allotted > 0;
}

static void swap(struct sequence **list, int i, int j)
{
    struct sequence *q = list[i];
    list[i] = list[j];
    list[j] = q;
}

static bool goes_before(const struct sequence *a, const struct sequence *b)
{
    return a->alone == ALONE_RACING ? a->decode_seconds < b->decode_seconds
                                    : a->n_tokens < b->n_tokens;
}

/* Of n sequences by age, those that want steps of their own go to the end, but for one at the
 * beginning in every other step. How many may run then. */
static int take_alone(struct scheduler *s, int n)
{
    struct sequence **list = s->by_age;
    int others = 0, next = -1;
    for (int i = 0; i < n; i++) {
        if (!list[i]->alone)
            others++;
        else if (next < 0 || goes_before(list[i], list[next]))
            next = i;
    }
    s->alone = next >= 0 && (!others || !s->alone);
    if (s->alone) {
        swap(list, 0, next);
        return 1;
    }
    for (int i = 0, kept = 0; i < n; i++)
        if (!list[i]->alone)
            swap(list, i, kept++);
    return others;
}

/* Of n sequences by age, those that run in this step come first: see scheduler.h. */
static int take_turns(struct scheduler *s, int n)
{
    struct sequence **list = s->by_age;
    for (int i = 0; i < n; i++)
        list[i]->in_turn = false;
    n = take_alone(s, n);
    for (int i = 0; i < n; i++)
        list[i]->in_turn = true;
    if (n <= s->at_once)
        return n;
    for (int i = 0; i < n; i++) {
        list[i]->turn = 0;
        for (int j = 0; j < i; j++)
            list[i]->turn += list[j]->client == list[i]->client;
    }
    /* By turn, stable: inserted one by one, as they are nearly in order. */
    for (int i = 1; i < n; i++) {
        struct sequence *q = list[i];
        int at = i;
        for (; at > 0 && list[at - 1]->turn > q->turn; at--)
            list[at] = list[at - 1];
        list[at] = q;
    }
    for (int i = s->at_once; i < n; i++)
        list[i]->in_turn = false;
    return s->at_once;
}

void plan_step(struct scheduler *s)
{
    struct step *p = &s->step;
    int room = s->prompt_chunk, drafts = STEP_DRAFTS, logprobs = STEP_PROMPT_LOGPROBS;
    int begun = by_age(s), n = take_turns(s, begun);
    p->n_rows = p->n_out = 0;
    p->attended = 0;
    p->drafting = p->starved = false;
    int served = 0;
    for (int i = 0; i < n; i++)
        served += allot(s, s->by_age[i], &room, &drafts, &logprobs);
    /* Who waits for his turn must not keep pages from who has it, or neither would move on. */
    for (int i = n; i < begun && p->starved; i++)
        if (s->by_age[i]->kv.n_pages)
            plan_give_up(s, s->by_age[i]);
    for (int i = 0; i < s->max_sequences && p->starved; i++)
        if (s->sequences[i].active && s->sequences[i].paused && s->sequences[i].kv.n_pages)
            plan_give_up(s, &s->sequences[i]);
    /* Each may wait for another's pages. The oldest, always the first, has room alone. */
    for (int i = 1; i < begun && !served; i++)
        if (s->by_age[i]->kv.n_pages)
            plan_give_up(s, s->by_age[i]);
    if (begun && !served)
        allot(s, s->by_age[0], &room, &drafts, &logprobs);
    for (int i = 0; i < n; i++)
        if (s->by_age[i]->n_allotted && !sequence_prefills(s->by_age[i]))
            add_drafts(s, s->by_age[i]);
    for (int i = 0; i < n; i++)
        if (s->by_age[i]->n_allotted && sequence_prefills(s->by_age[i]))
            add_prefill(s, s->by_age[i]);
}
