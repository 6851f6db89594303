/* Continuous batching: sequences in slots, and the decode step that moves all of them on at once
 * (DESIGN.md, "One decode step"). No locks and no threads of its own but the compute team: the
 * decode thread owns it, or a test or the bench directly.
 *
 * A sequence has committed tokens x_1..x_t; the caches hold x_1..x_{t-1}. A step takes the rows
 * [x_t, drafts] of each decoding sequence and a chunk of each prompt still being read. */
#ifndef ENGINE_SCHEDULER_H
#define ENGINE_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "engine/sampler.h"
#include "engine/speculate.h"
#include "engine/text.h"
#include "heads/heads.h"
#include "model/kv.h"
#include "model/model.h"
#include "weights/tokenizer.h"

struct sequence {
    bool active;
    uint64_t id;
    struct kv kv;
    int32_t *tokens; /* (positions) prompt, then what was generated */
    int n_prompt, n_tokens;
    int n_cached;   /* leading tokens whose keys and values are in the cache */
    int limit;      /* n_tokens at which the text ends: max_tokens or the context */
    bool automatic; /* as many drafts as are worth their time, up to drafts_max */
    struct draft_rates rates;
    int drafts_max;     /* at most so many drafts a step; heads beyond keep no cache */
    int used, patience; /* largest number of drafts of the last steps; how many steps those are */
    int32_t drafts[ENGINE_DRAFTS_MAX];
    int n_drafts;
    struct candidates drafted; /* the same, for the rates */
    bool ignore_eos;
    int min_tokens, top_logprobs;
    bool prompt_logprobs;
    struct sampler sampler;
    int32_t *generated; /* (V) the sampler's */
    uint8_t *seen;      /* (V) the sampler's */
    struct text text;
    char *stop_bytes; /* copies of the stop strings, one after another */
    const char *stops[ENGINE_STOPS_MAX];
    size_t stop_lens[ENGINE_STOPS_MAX];
    uint32_t offset; /* bytes decoded so far */
    struct engine_speculation speculation;
    size_t forwards;
    /* this step */
    int first_row, n_rows;
    int first_full; /* where its rows begin in scheduler->full and in the logits */
    /* news for the owner, cleared by scheduler_collected */
    struct buf out;
    struct engine_token fresh[ENGINE_DRAFTS_MAX + 1];
    int n_fresh;
    struct engine_token *prompt; /* (n_prompt) with prompt_logprobs */
    bool prompt_ready;
    enum engine_finish finish;
};

struct scheduler_options {
    const char *model;
    int threads, max_sequences, context, prompt_chunk; /* 0 = default, as in engine_options */
    const char *isa, *weights, *kv;
};

struct scheduler {
    struct model model;
    struct tokenizer tokenizer;
    struct team team;
    const struct head_type *heads;
    struct sequence *sequences; /* (max_sequences) */
    int max_sequences, context, prompt_chunk, max_rows;
    struct arena arena;
    /* one step */
    struct row *rows, *committed;
    int32_t *tokens;
    int n_rows, n_committed;
    int *full, n_out;              /* rows that need logits */
    bool drafting;                 /* some sequence of this step may draft */
    int *committed_from;           /* (n_committed) where they stand among the rows */
    int *draft_full;               /* rows among the committed that draft */
    int *draft_slot, *draft_count; /* their sequences; how many draft with head i */
    int draft_heads, drafts_most;  /* heads that run in this step; that draft for someone */
    float *z, *z_committed;        /* (states, rows, D), see heads.h */
    float *h, *normed, *logits;
    struct block_acts acts;
    struct head_work *head_work; /* one; or one per lane, when lanes draft with whole heads */
    bool lanes_take_heads;
    struct candidate *candidates;
    struct costs costs;
    struct speculate speculate;
    struct wish *wishes;      /* (max_sequences) */
    struct draft_rates rates; /* over all sequences: what a new one begins with */
    uint64_t forwards;
    double step_seconds;
};

/* Loads the model. ERR_IO, ERR_INVALID, ERR_MEMORY. */
int scheduler_init(struct scheduler *scheduler, const struct scheduler_options *options,
                   struct err *err);
void scheduler_release(struct scheduler *scheduler);

/* Checks a request by field. ERR_INVALID. */
int scheduler_check(const struct scheduler *scheduler, const struct engine_request *request,
                    struct err *err);
/* Puts a checked request into a free slot and returns its number; ERR_BUSY when there is none,
 * ERR_MEMORY. */
int scheduler_add(struct scheduler *scheduler, const struct engine_request *request, uint64_t id,
                  struct err *err);
/* One step over all active, unfinished sequences. False when there are none. */
bool scheduler_step(struct scheduler *scheduler);
/* The owner has taken the news of a slot. */
void scheduler_collected(struct scheduler *scheduler, int slot);
/* Frees a slot, finished or not. */
void scheduler_remove(struct scheduler *scheduler, int slot);

#endif
