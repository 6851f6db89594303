/* The engine's public face: give it requests, take events. It owns the model, the KV cache, the
 * decode thread and the compute team; nothing of them shows here.
 *
 * Threads: engine_open and engine_close on one thread while no other uses the engine. submit,
 * cancel, poll, stats: any thread. Behind them is the mailbox, the one lock of the program, never
 * held across a call out. The notify callback runs on the decode thread, must not block and must
 * not call back into the engine (uv_async_send is what it is for). */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define ENGINE_STOPS_MAX 16       /* stop strings of a request */
#define ENGINE_STOP_BYTES_MAX 256 /* of one stop string */
#define ENGINE_STOP_TOKENS_MAX 16
#define ENGINE_BAD_WORDS_MAX 128
#define ENGINE_BAD_WORD_TOKENS_MAX 16
#define ENGINE_TOP_LOGPROBS_MAX 20
#define ENGINE_BIAS_MAX 300  /* logit_bias entries */
#define ENGINE_DRAFTS_MAX 31 /* drafts of a step: prediction heads less one */

#define ENGINE_COSTS_MAX 7 /* drafts of the longest chain whose costs are told */

#define ENGINE_ISAS "auto|generic|avx2|avxvnni|avx512|vnni|amx" /* kernels by name */

struct engine;
struct tokenizer; /* text/tokenizer.h */
struct automaton; /* text/automaton.h */

struct engine_options {
    const char *model;   /* folder or file of a model (weights/source.h) */
    const char *heads;   /* folder of heads that were trained for it, or NULL */
    int threads;         /* compute team, 0 = as many as there are cores */
    int max_sequences;   /* decoded at the same time; more requests wait in the queue, or, where
                            others have had their turn, half-way */
    int max_queue;       /* waiting requests; beyond it submit answers ERR_BUSY */
    int context;         /* positions per sequence, prompt and completion; 0 = the model's */
    int prompt_chunk;    /* prompt rows a step may carry, 0 = the default */
    const char *isa;     /* kernels: one of ENGINE_ISAS; NULL = auto */
    const char *weights; /* type of matrices: "stored" (or NULL), "f32", "bf16", "q8", "q4" */
    const char *kv;      /* type of cached keys and values: "bf16" (or NULL), "f32" */
    void (*notify)(void *arg); /* events wait in the mailbox */
    void *notify_arg;
    size_t kv_limit; /* bytes of keys and values, 0 = a default */
    size_t kv_kept;  /* bytes of these that ended texts may leave, for those that begin alike */
};

/* What does not change while the engine runs. Strings live as long as the engine. */
struct engine_info {
    const char *model; /* its path */
    const char *kind;  /* head kind */
    const char *isa;   /* kernels in use */
    int n_predict;     /* prediction heads; drafts per step go up to n_predict - 1 */
    int vocab;
    int context; /* positions a request may use */
    int max_sequences, max_queue;
    size_t parameters;
    int threads;
    const struct tokenizer *tokenizer;
    const char *chat_template; /* as the model brings it, chat_template_len bytes; 0: it has none */
    size_t chat_template_len;
};

/* ---- requests ---- */

struct engine_bias {
    int32_t token;
    float bias; /* added to the logit before temperature */
};

/* What numbers of a request may be, for who reads it and for the engine: name, least, most. */
#define ENGINE_REALS(REAL)                                                                         \
    REAL(temperature, 0, 2)                                                                        \
    REAL(top_p, 0, 1)                                                                              \
    REAL(min_p, 0, 1)                                                                              \
    REAL(frequency_penalty, -2, 2)                                                                 \
    REAL(presence_penalty, -2, 2)                                                                  \
    REAL(repetition_penalty, 0.01f, 100)

#define SPECULATION_AUTO (-1)

/* Requests in steps of their own, to be timed; all others together get every other step. */
enum engine_alone {
    ALONE_NOT,
    ALONE_ABREAST, /* of several the one with the fewest tokens goes on, so that what disturbs the
                      machine disturbs all of them at the same places */
    ALONE_RACING,  /* of several the one that has had the least time */
};

/* Who may draft, and whether several drafts may stand side by side for the same position. */
enum { DRAFT_HEADS = 1, DRAFT_LOOKUP = 2, DRAFT_TREE = 4 };

struct engine_request {
    const int32_t *tokens; /* prompt, bos included when wanted; copied by submit */
    size_t n_tokens;       /* 1..context-1 */
    int max_tokens;        /* 0 = only read the prompt; cut to what the context leaves */
    int min_tokens;        /* eos and stop strings are ignored before that many */
    float temperature;     /* 0 = greedy */
    int top_k;             /* 0 = all */
    float top_p;           /* 1 = all */
    float min_p;           /* 0 = all */
    float frequency_penalty, presence_penalty; /* 0 = none, counted over generated tokens */
    float repetition_penalty;                  /* 1 = none, over prompt and generated tokens */
    uint64_t seed;
    bool ignore_eos;
    int speculation;          /* SPECULATION_AUTO, 0 = off, k = at most k drafts a step */
    int top_logprobs;         /* alternatives per token, 0..ENGINE_TOP_LOGPROBS_MAX */
    bool prompt_logprobs;     /* log-probabilities of prompt tokens too (echo) */
    const char *const *stops; /* n_stops strings, copied; matched on bytes, not in the output */
    const size_t *stop_lens;
    int n_stops;
    bool include_stop;          /* a stop string is part of the text that it ends */
    const int32_t *stop_tokens; /* copied; they end the text as eos does, even with ignore_eos */
    int n_stop_tokens;
    const int32_t *allowed; /* copied; no others are chosen, 0 of them = all may be */
    size_t n_allowed;
    const int32_t *bad_tokens; /* copied; sequences that are not written, one after another, */
    const int *bad_lens;       /* each of so many tokens */
    int n_bad;
    const struct engine_bias *biases; /* copied */
    int n_biases;
    uint64_t user;        /* returned in every event */
    uint64_t prefix_salt; /* pages of keys and values are shared among texts of the same number */
    uint64_t client;   /* whose it is, any number: clients get equal shares when not all can run */
    unsigned drafters; /* DRAFT_*; 0 = what pays for SPECULATION_AUTO, and for k drafts a chain of
                          heads, or of look-up where there are none */
    bool logprobs; /* of tokens wanted; without it theirs are NaN, and the sum over the vocabulary
                      is saved */
    enum engine_alone alone;
    /* What the text must look like, or NULL; submit takes a reference of its own. The text ends
     * where it is complete, whatever min_tokens and ignore_eos say; before, it may end with eos
     * only where it is whole. Nothing but tokens of text is in it. */
    const struct automaton *grammar;
};

/* ---- events ---- */

enum engine_finish {
    FINISH_NONE,      /* more is to come */
    FINISH_STOP,      /* eos, a stop token or string, or the grammar is complete */
    FINISH_LENGTH,    /* max_tokens, or the context is full */
    FINISH_CANCELLED, /* engine_cancel */
    FINISH_ERROR,     /* the event's `error` says why */
};

/* Who proposed a token. */
struct engine_origin {
    int8_t head,
        rank;      /* the head that drafted it, 1.., as its candidate `rank`, 0 = best; 0: none */
    bool lookup;   /* look-up drafted it, alone or too */
    uint16_t rows; /* of the pass that verified it, all requests together */
    uint32_t pass; /* among the request's passes, from 1 */
};

struct engine_token {
    int32_t token;
    struct engine_origin origin;
    float logprob; /* natural log, of the model's own distribution, before temperature and cuts;
                      NaN for the first prompt token, and where nobody asked */
    int n_top;
    struct {
        int32_t token;
        float logprob;
    } top[ENGINE_TOP_LOGPROBS_MAX]; /* best first, filled when top_logprobs > 0 */
};

struct engine_speculation {
    /* steps with at least one draft; counts as in vLLM's metrics. Steps without drafts are
     * left out. */
    uint64_t steps, drafted, accepted;
    uint64_t accepted_at[ENGINE_DRAFTS_MAX]; /* steps that accepted draft j (0 = first) */
    /* Of head i at [i], of look-up at [0]: drafts behind accepted ones, and those that were right
     */
    uint32_t tried_by[ENGINE_DRAFTS_MAX + 1], accepted_by[ENGINE_DRAFTS_MAX + 1];
    /* histogram[k][j]: steps of k+1 drafts that accepted j */
    uint32_t histogram[ENGINE_DRAFTS_MAX][ENGINE_DRAFTS_MAX + 1];
};

/* One event: what a decode step (or several, if the reader was slow) brought for one request. */
struct engine_event {
    uint64_t id, user;
    const char *text; /* new text as valid UTF-8: incomplete sequences and what could be the start
                         of a stop string are held back; bytes that can never become UTF-8 are
                         replaced by U+FFFD */
    size_t text_len;
    const struct engine_token *tokens; /* newly committed tokens, in order */
    size_t n_tokens;
    const struct engine_token *prompt; /* with prompt_logprobs: once, the prompt's tokens */
    size_t n_prompt;
    enum engine_finish finish; /* anything but NONE: the last event of this request */
    int stop; /* with FINISH_STOP: 1 + the place in `stops` of the one that did it, 0 = a token */
    const char *error;                       /* with FINISH_ERROR */
    size_t prompt_tokens, completion_tokens; /* so far; rejected drafts don't count */
    size_t cached_tokens;  /* of the prompt's those that were read before, for another text */
    double queued;         /* s that it waited for a place among those that run */
    size_t forwards;       /* passes of the trunk that carried its decode rows */
    double decode_seconds; /* of the steps behind its first token, */
    double plain_seconds;  /* and what they would have taken without drafts, by what passes cost */
    const struct engine_speculation *speculation; /* with the last event */
};

/* ---- life ---- */

/* Loads the model and starts the decode thread. ERR_IO, ERR_INVALID, ERR_MEMORY. */
int engine_open(struct engine **engine, const struct engine_options *options, struct err *err);
/* Cancels what runs, joins the threads, frees all. NULL is allowed. */
void engine_close(struct engine *engine);

const struct engine_info *engine_info(const struct engine *engine);

/* Queues a request and gives its id (never 0). ERR_INVALID names the field in a sentence, ERR_BUSY
 * when the queue is full. */
int engine_submit(struct engine *engine, const struct engine_request *request, uint64_t *id,
                  struct err *err);
/* Ends a request, running or waiting: its sequence is free after the step that runs now. The
 * event with FINISH_CANCELLED still comes. Unknown ids are ignored. */
void engine_cancel(struct engine *engine, uint64_t id);

/* Whether it rests, running or waiting, because its reader has enough for now: no more is decoded
 * for it after the step that runs now, and it gives its keys and values to others if they need the
 * room. What it brings is the same. Unknown ids are ignored. */
void engine_pause(struct engine *engine, uint64_t id, bool paused);

/* Hands every event that waits at the call to `handle`, one per request, without holding the lock;
 * the event and what it points to are valid until handle returns. What comes meanwhile waits for
 * the next call, which notify asks for. Call it from one thread. Returns the number of events. */
size_t engine_poll(struct engine *engine, void (*handle)(void *arg, const struct engine_event *),
                   void *arg);

/* ---- health and figures ---- */

#define ENGINE_BATCHES 11

struct engine_stats {
    double heartbeat_age; /* seconds since the decode thread last showed life */
    int running, waiting; /* sequences decoded, at the end of the last step; requests queued */
    uint64_t requests, finished, cancelled, errors; /* requests: taken; of those, how they ended */
    uint64_t prompt_tokens, generation_tokens;
    uint64_t forwards;                /* trunk passes */
    double step_seconds_sum;          /* time in them */
    uint64_t batches[ENGINE_BATCHES]; /* passes of 1, 2, to 4, to 8, ... sequences; */
    uint64_t batched;                 /* sequences of all passes together */
    double kv_used;                   /* fraction of the pages of keys and values that texts hold */
    struct engine_speculation speculation;
    int preempted;        /* sequences that wait to be recomputed, because pages of keys and values
                             ran out */
    uint64_t preemptions; /* times that happened */
    size_t kv_bytes, kv_bytes_limit;      /* keys and values: memory in use, and allowed */
    size_t kv_kept_bytes;                 /* of that what ended texts left */
    uint64_t prefix_queries, prefix_hits; /* prompt tokens looked for in it, and found */
    struct {
        uint64_t tried, accepted; /* its drafts behind accepted ones; those that were right */
        bool dead;                /* less than 5 % of many were right */
    } heads[ENGINE_DRAFTS_MAX];   /* index 0 = head 1, the first that drafts */
    uint64_t lookup_tried, lookup_accepted; /* drafts copied from the text so far */
    /* Of a step with i+1 drafts, of heads as far as there are some, for one text: its time by what
     * was learned, over that of a step without; 0 = not known */
    double draft_costs[ENGINE_COSTS_MAX];
};
void engine_stats(struct engine *engine, struct engine_stats *stats);

/* What these figures say of speculation here and what could be done, sentence by sentence; each is
 * the callee's until say returns. */
void engine_advise(const struct engine_info *info, const struct engine_stats *stats,
                   void (*say)(void *arg, const char *sentence), void *arg);

#endif
