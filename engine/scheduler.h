/* Continuous batching: sequences in slots, the pages they get, and the decode step that moves all
 * of them on at once (DESIGN.md, "The timeline"). No locks and no threads of its own but the lanes:
 * the decode thread owns it, or a test or the bench directly.
 *
 * A step takes the rows [x_t, drafts] of each decoding sequence and a chunk of each prompt that is
 * still being read. plan.c says which rows, verify.c runs the trunk over them and commits what the
 * sampler chooses, draft.c proposes the next drafts.
 *
 * Where more sequences have begun than run in a step, those of all clients take turns: the oldest
 * of each, then the second of each, and so on. So one client's many requests give way to the first
 * of another, which is admitted at once, and go on when it has ended.
 *
 * Sequences that want steps of their own (engine_request: alone) get every other step.
 *
 * When pages run out, drafts go first; then the youngest sequences give their pages to older ones,
 * and are read again, to the same bits, when there is room. The oldest always moves on: the pool
 * has room for one sequence of the whole context. */
#ifndef ENGINE_SCHEDULER_H
#define ENGINE_SCHEDULER_H

#include "engine/costs.h"
#include "engine/prefix.h"
#include "engine/runtime.h"
#include "engine/sequence.h"
#include "engine/speculate.h"

/* Drafts of a step, all sequences together: bounds the memory for their logits. */
#define STEP_DRAFTS 256
/* Prompt rows of a step that want log-probabilities. */
#define STEP_PROMPT_LOGPROBS 64

#define SCHEDULER_SEQUENCES 16 /* at a time, when nobody says */

struct scheduler_options {
    int max_sequences, context, prompt_chunk; /* 0 = default, as in engine_options */
    int spare;       /* sequences beside those that run, which wait half-way for their turn */
    const char *kv;  /* type of keys and values; NULL = bf16 */
    size_t kv_limit; /* their bytes; 0 = default */
    size_t kv_kept;  /* of these those that no sequence needs, for texts that begin alike */
};

/* The rows of one pass and what it computes. */
struct step {
    struct row *rows;
    int32_t *tokens;
    int n_rows;
    int *out_rows, n_out; /* rows that need logits */
    int *slots, n_slots;  /* sequences that have rows */
    bool drafting;        /* some sequence of this step may draft */
    bool starved;         /* one got fewer rows than it could have, for want of pages */
    double attended;      /* positions that its rows attend to, for the costs */
    double pass_seconds, draft_seconds;

    /* drafting: the rows whose tokens are settled, and the sequences that want drafts */
    struct row *committed;
    int *committed_from;     /* (n_committed) where they stand among the rows, */
    int32_t *committed_next; /* and the token behind each */
    int n_committed;
    int *draft_rows, *draft_slot, n_drafting; /* (slots) rows among the committed; sequences */
    int32_t *draft_tokens;                    /* (slots) the last token chosen for each */
    int heads_run;    /* heads 1.. that run in this step, if only for their caches */
    int heads_choose; /* heads 1.. whose logits are looked at */

    float *z, *z_committed; /* (states, rows, D), see heads.h */
    float *h, *normed, *logits;
    struct head_few *few; /* (slots) with a bigram term, and what it is reckoned with (slots, 2D) */
    float *previous;
    struct block_acts acts;
    struct head_work *head_work; /* one; or one per lane, when lanes draft with whole heads */
};

#define SCHEDULER_GRAMMARS 4

/* In what part of the steps, lately, heads drafted for a sequence that may choose. */
struct head_use {
    double part;
    int steps; /* behind it, as long as they are few */
};

struct scheduler {
    struct runtime *runtime; /* borrowed */
    const struct head_type *heads;
    struct kv_pool pool;
    struct prefix prefix;
    struct token_trie trie;     /* made when the first grammar comes */
    struct sequence *sequences; /* (max_sequences) */
    struct sequence **by_age;   /* (max_sequences) plan.c's */
    bool alone;                 /* the step is one sequence's that wants steps of its own */
    int max_sequences;          /* with those that wait, */
    int at_once;                /* and that run in a step */
    int context, prompt_chunk, max_rows;
    struct arena arena;
    struct step step;
    bool lanes_take_heads;
    bool caches;        /* heads keep keys and values of all committed rows, */
    bool shared;        /* one cache for all of them */
    int settled_blocks; /* blocks whose keys and values of accepted drafts are right */
    struct sampler_work sample_together; /* all lanes on one row */
    struct sampler_work *sample_alone;   /* (lanes) each on rows of its own */
    struct costs costs;
    struct speculate speculate;
    struct wish *wishes;                      /* (max_sequences) draft.c's, with */
    struct sequence **wished;                 /* whose they are */
    struct draft_rates rates;                 /* over all sequences: what a new one begins with */
    struct head_use heads_used[COST_BATCHES]; /* by how many sequences there were */
    unsigned begun; /* sequences that may choose, begun where heads are seldom used */
    uint64_t admitted, preemptions, forwards;
    uint64_t prompt_tokens, reused_tokens;     /* asked for; of them those whose pages were there */
    uint64_t batches[ENGINE_BATCHES], batched; /* as in engine_stats */
    double step_seconds;
    /* The last grammars, a reference of each, so that their masks are kept, and the oldest. */
    const struct automaton *grammars[SCHEDULER_GRAMMARS];
    unsigned oldest_grammar;
    /* Drafts that stood behind accepted ones, by head, [0]: look-up; and those accepted. */
    struct {
        uint64_t tried, accepted;
    } drafted[HEADS_MAX];
};

/* runtime is borrowed. ERR_INVALID, ERR_MEMORY. */
int scheduler_init(struct scheduler *scheduler, struct runtime *runtime,
                   const struct scheduler_options *options, struct err *err);
void scheduler_release(struct scheduler *scheduler);

/* Puts a checked request into a free slot and returns its number; ERR_BUSY when there is no slot,
 * it would not have its turn yet, or there are too few pages for its prompt while others run;
 * ERR_MEMORY. Pages of texts that begin with the same tokens are shared. */
int scheduler_add(struct scheduler *scheduler, const struct engine_request *request,
                  struct err *err);
/* One step over all active, unfinished sequences. False when there are none. */
bool scheduler_step(struct scheduler *scheduler);
/* Frees a slot, finished or not. */
void scheduler_remove(struct scheduler *scheduler, int slot);

/* Sequences that run, and those of them that wait for pages. */
int scheduler_running(const struct scheduler *scheduler, int *preempted);

/* ---- the parts of a step ---- */

void plan_step(struct scheduler *scheduler);
/* A sequence gives its pages away, and is read again when it may go on. */
void plan_give_up(struct scheduler *scheduler, struct sequence *sequence);
void verify_step(struct scheduler *scheduler);
void draft_step(struct scheduler *scheduler);
/* A sequence begins, one of so many that run together then. */
void draft_begin(struct scheduler *scheduler, struct sequence *sequence, int together);
/* What the lanes do in them; arg is the scheduler. */
void verify_lane(struct lane *lane, void *arg);
void draft_lane(struct lane *lane, void *arg);

/* Runs fn for the n sequences listed (slot numbers), by the lanes that call this together: shared
 * out by sequence, or, where the vocabulary is large and the sequences are few, one after another
 * with all lanes on the rows of each. fn(lane, ...) then gets a lane of a team of one, or all
 * lanes. No barrier at the end. */
typedef void sequence_fn(struct lane *lane, struct scheduler *scheduler, struct sequence *sequence,
                         struct sampler_work *work, int index);
void scheduler_each(struct lane *lane, struct scheduler *scheduler, const int *slots, int n,
                    sequence_fn *fn);

#endif
