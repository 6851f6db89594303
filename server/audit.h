/* Proof that speculation changed nothing. What a request was answered is decoded again, plainly and
 * with keys and values of its own, and its tokens and their log-probabilities are compared bit for
 * bit. A share of all answers is audited (--audit): later, one at a time, when nothing else runs or
 * after some seconds. A request with "proof": true is audited before its answer ends, which then
 * has the SHA-256 of both texts. What differs is counted, logged, and written to --audit-file as a
 * line that can be sent to /v1/speedup as it is, or repeated with headway-bench --replay.
 *
 * Audits are choices' and belong to them: a completion stays until its audits have ended. Loop
 * thread. */
#ifndef SERVER_AUDIT_H
#define SERVER_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "engine/engine.h"

struct app;
struct choice;
struct completion;

/* All of a server's. */
struct audits {
    double share;                /* of the answers */
    const char *file;            /* NULL: none */
    double owed;                 /* audits that the share has made so far, less those begun */
    struct choice *first, *last; /* that wait, */
    size_t waiting;
    struct choice *running; /* and the one that runs; proofs are none of these */
    uint64_t audited, tokens, mismatches, skipped;
};

/* A choice's. A zeroed struct is that of one which is not audited. */
struct audit {
    bool wanted, proof;
    struct choice *next; /* that waits */
    double since;        /* when it began to, s */
    uint64_t id;         /* of the replay, the engine's; 0 = it does not run */
    struct buf said;     /* struct audit_token of the answer */
    size_t n;            /* tokens that came of the replay */
    bool differs, ended;
    size_t where;       /* the first token that differs, if one does */
    void *hash[2];      /* of the answer's text and the replay's, with proof */
    char digest[2][65]; /* hexadecimal, once they have ended */
};

struct audit_token {
    int32_t token;
    float logprob;
};

/* Decides whether a choice is audited, before it is submitted; what then is to be asked for. */
void audit_choose(struct choice *choice, struct engine_request *request);
/* What came of its answer. */
void audit_note(struct choice *choice, const struct engine_event *event);
/* The answer has ended whole. With a proof the replay begins: ERR_BUSY, ERR_MEMORY; else it waits
 * for its turn. */
int audit_end(struct choice *choice, struct err *err);

/* Users of replays' events are choices with this added. */
#define AUDIT_USER 1
/* What came of the replay; with its last event it is one thing less that the completion waits for.
 */
void audit_event(struct choice *choice, const struct engine_event *event);

/* Begins the next replay if it is time: called now and then. */
void audits_pump(struct app *app);
/* The server has no time any more: those that wait are left out, and the one that runs ends. */
void audits_drop(struct app *app);
void audit_release(struct audit *audit);

/* The proofs of a completion as a JSON list. */
void audit_write(const struct completion *completion, struct buf *out);

#endif
