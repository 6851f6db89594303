/* The pass of the trunk over a step's rows, the next-token head on those that need logits, and the
 * walk down each sequence's drafts: what the sampler chooses is committed, and the walk goes on
 * where that was a draft. */
#include <math.h>

#include "base/clock.h"
#include "engine/logprobs.h"
#include "engine/scheduler.h"

static float *logits_of(const struct scheduler *s, int out_row)
{
    return s->step.logits + (size_t)out_row * model_logits_stride(&s->runtime->model);
}

/* ---- by the lanes ---- */

/* -1 when nothing may follow. */
static int32_t sample(struct lane *lane, struct scheduler *s, struct sequence *q, float *logits,
                      struct sampler_work *work)
{
    int vocab = s->runtime->model.config.vocab;
    const uint64_t *allowed = sequence_allowed(lane, q);
    int n = sampler_sample(lane, &q->sampler, logits, vocab, NULL, allowed, 1, q->chosen, work);
    int32_t token = n ? q->chosen[0] : -1;
    if (lane->id == 0 && n)
        sequence_commit(q, s->runtime->tokenizer, vocab, token, logits);
    else if (lane->id == 0)
        sequence_stuck(q);
    lane_barrier(lane);
    return token;
}

/* Of the token committed last, which is draft `node`, or none. */
static void note_origin(const struct scheduler *s, struct sequence *q, int node)
{
    const struct proposal *d = &q->proposal;
    struct engine_origin *o = &q->fresh[q->n_fresh - 1].origin;
    o->pass = (uint32_t)q->forwards + 1;
    o->rows = (uint16_t)s->step.n_rows;
    if (node < 0)
        return;
    o->head = d->head[node];
    o->rank = d->rank[node];
    o->lookup = d->lookup[node];
}

/* The path that the sampler takes through the proposal. */
static void walk(struct lane *lane, struct scheduler *s, struct sequence *q,
                 struct sampler_work *work)
{
    int node = -1, n = 0;
    do {
        int32_t token = sample(lane, s, q, logits_of(s, q->first_out + 1 + node), work);
        node = proposal_child(&q->proposal, node, token);
        if (lane->id == 0 && token >= 0)
            note_origin(s, q, node);
        if (node >= 0 && lane->id == 0)
            q->path[n] = node;
        n += node >= 0;
    } while (node >= 0 && !q->finish);
    if (lane->id == 0)
        q->accepted = n;
}

/* Behind a prompt's last token stands the first choice. */
static void end_prefill(struct lane *lane, struct scheduler *s, struct sequence *q,
                        struct sampler_work *work)
{
    bool last = q->n_cached + q->n_rows == q->n_prompt;
    int vocab = s->runtime->model.config.vocab, out = q->first_out;
    if (q->begun)
        return;
    for (int pos = q->n_cached; q->prompt_logprobs && pos < q->n_cached + q->n_rows; pos++, out++)
        if (pos + 1 < q->n_prompt && lane->id == 0)
            logprobs_describe(logits_of(s, out), vocab, q->tokens[pos + 1], q->top_logprobs,
                              &q->prompt[pos + 1]);
    if (!last || q->limit == q->n_prompt)
        return;
    int32_t token = sample(lane, s, q, logits_of(s, q->prompt_logprobs ? out - 1 : out), work);
    if (lane->id == 0 && token >= 0)
        note_origin(s, q, -1);
}

static void choose(struct lane *lane, struct scheduler *s, struct sequence *q,
                   struct sampler_work *work, int index)
{
    (void)index;
    if (sequence_prefills(q))
        end_prefill(lane, s, q, work);
    else
        walk(lane, s, q, work);
}

void verify_lane(struct lane *lane, void *arg)
{
    struct scheduler *s = arg;
    struct step *p = &s->step;
    const struct model *model = &s->runtime->model;
    struct pass pass = {model, p->rows, p->n_rows, attend_cached, NULL, NULL};
    struct aux_states aux = model_aux(model, p->z, p->n_rows);
    trunk_forward(lane, &pass, &p->acts, p->tokens, p->z, &aux);
    heads_verify(lane, &pass, p->head_work, p->z, p->out_rows, p->n_out, p->drafting, p->h);
    model_logits(lane, model, 0, 1, p->h, p->n_out, p->normed, p->logits);
    scheduler_each(lane, s, p->slots, p->n_slots, choose);
}

/* ---- afterwards ---- */

/* Accepted drafts take the slots of their positions; the rows that stay are listed. */
static void settle_walk(struct scheduler *s, struct sequence *q)
{
    int first = q->n_cached;
    q->committed[0] = q->first_row;
    for (int a = 0; a < q->accepted; a++) {
        int from = first + 1 + q->path[a], to = first + 1 + a;
        q->committed[a + 1] = q->first_row + 1 + q->path[a];
        if (from != to && !q->finish)
            kv_move(&q->kv, s->settled_blocks, from, to);
    }
    q->n_committed = 1 + q->accepted;
    q->n_cached += q->n_committed; /* what stands behind is forgotten */
    q->forwards++;
}

static void settle_prefill(struct sequence *q)
{
    q->n_cached += q->n_rows;
    if (q->begun || q->n_cached < q->n_prompt)
        return;
    q->begun = true;
    if (q->prompt_logprobs) {
        q->prompt[0].token = q->tokens[0];
        q->prompt[0].logprob = NAN;
        q->prompt_ready = true;
    }
    q->forwards++;
    if (q->limit == q->n_prompt)
        q->finish = FINISH_LENGTH;
}

static void count_drafter(struct scheduler *s, struct sequence *q, int drafter, bool accepted)
{
    s->drafted[drafter].tried++;
    s->drafted[drafter].accepted += accepted;
    q->figures.tried_by[drafter]++;
    q->figures.accepted_by[drafter] += accepted;
}

/* Nodes behind x_t and behind accepted nodes had their chance; a child with the token chosen is on
 * the path. */
static void count_drafters(struct scheduler *s, struct sequence *q)
{
    const struct proposal *d = &q->proposal;
    for (int j = 0; j < d->n; j++) {
        int at = d->depth[j] - 1; /* the place on the path that it could have taken */
        bool reached = at <= q->accepted && d->parent[j] == (at ? q->path[at - 1] : -1);
        bool accepted = reached && at < q->accepted && q->path[at] == j;
        if (reached && d->head[j])
            count_drafter(s, q, d->head[j], accepted);
        if (reached && d->lookup[j])
            count_drafter(s, q, 0, accepted);
    }
}

static void count(struct scheduler *s, struct sequence *q)
{
    struct engine_speculation *p = &q->figures;
    int drafted = q->proposal.n;
    if (!drafted)
        return;
    p->steps++;
    p->drafted += (uint64_t)drafted;
    p->accepted += (uint64_t)q->accepted;
    p->histogram[drafted - 1][q->accepted]++;
    for (int j = 0; j < q->accepted; j++)
        p->accepted_at[j]++;
    count_drafters(s, q);
}

void verify_step(struct scheduler *s)
{
    struct step *p = &s->step;
    p->n_slots = 0;
    for (int i = 0; i < s->max_sequences; i++)
        if (s->sequences[i].n_rows) {
            s->sequences[i].n_before = s->sequences[i].n_tokens;
            p->slots[p->n_slots++] = i;
        }
    double start = clock_seconds();
    double size = costs_pass(&s->costs, p->n_rows, p->attended, false) / s->costs.level;
    team_run_sized(&s->runtime->team, size, verify_lane, s);
    p->pass_seconds = clock_seconds() - start;
    costs_note_pass(&s->costs, p->n_rows, p->attended, p->pass_seconds);
    for (int i = 0; i < p->n_slots; i++) {
        struct sequence *q = &s->sequences[p->slots[i]];
        if (sequence_prefills(q)) {
            q->n_committed = q->accepted = 0;
            settle_prefill(q);
        } else {
            settle_walk(s, q);
            count(s, q);
        }
    }
}
