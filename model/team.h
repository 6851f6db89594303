/* The compute team: threads that run one function together, each as a lane. A pass of the model is
 * one such function; between its parts the lanes meet at barriers, and inside a part each lane
 * takes its share of the outputs. Shares are over outputs only, never over a sum, so results do not
 * depend on the number of lanes.
 *
 * Invariant: between barriers a float is written by one lane at most, and read by another only
 * after the next barrier. The thread that calls team_run is lane 0; one thread calls it at a time.
 *
 * Where other programs use the machine too, fewer lanes may be faster: runs whose size is known are
 * timed, and the lanes that pay (pace.h) make the next one. */
#ifndef MODEL_TEAM_H
#define MODEL_TEAM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "model/pace.h"

#define TEAM_MAX 64
#define TEAM_ROUNDS 6 /* log2(TEAM_MAX) */

struct team;

/* Where a lane says how far it is, apart from the other lanes' cache lines wherever it stands: what
 * holds a team may come from malloc, which aligns to less than a line. */
struct meeting {
    unsigned count;                      /* barriers that the lane has come to */
    _Atomic unsigned round[TEAM_ROUNDS]; /* those whose round it has reached */
    char apart[128 - (1 + TEAM_ROUNDS) * sizeof(unsigned)];
};

struct lane {
    struct team *team;
    int id;        /* 0..n-1 */
    int n;         /* lanes of this run */
    void *scratch; /* lane_scratch's, owned by the team */
    size_t scratch_size;
};

/* What lane 0 asks of a worker. */
struct call {
    _Atomic unsigned run;    /* the run that it is wanted for, */
    _Atomic unsigned sleeps; /* and whether it has to be woken for that */
    char apart[128 - 2 * sizeof(unsigned)];
};

struct team {
    int n;     /* lanes, at most */
    int spins; /* at a barrier, before a lane sleeps */
    struct pace pace;
    pthread_t threads[TEAM_MAX];
    struct lane lanes[TEAM_MAX];
    void (*fn)(struct lane *lane, void *arg);
    void *arg;
    pthread_mutex_t start;      /* held until all threads are there, or one could not be had */
    bool complete;              /* all are there */
    _Atomic unsigned sleepers;  /* at barriers */
    _Atomic unsigned long lost; /* nanoseconds that they slept in this run */
    _Atomic bool stop;
    unsigned run, count; /* of this run, for its workers: its number, barriers before it, */
    int lanes_of_run;    /* lanes */
    struct meeting meetings[TEAM_MAX];
    struct call calls[TEAM_MAX];
};

/* n threads in all, 1..TEAM_MAX; 0 = as many as this process may use (cpus_allowed). ERR_IO. */
int team_init(struct team *team, int n, struct err *err);
void team_release(struct team *team);

/* Runs fn(lane, arg) on every lane and returns when all have ended. */
void team_run(struct team *team, void (*fn)(struct lane *lane, void *arg), void *arg);

/* The same on as many lanes as pay. size: how much work it is, in a unit that the team's owner
 * keeps to; 0 where nobody knows, and the run tells nothing of what pays. */
void team_run_sized(struct team *team, double size, void (*fn)(struct lane *lane, void *arg),
                    void *arg);

/* Every lane of a run must call it the same number of times. */
void lane_barrier(struct lane *lane);

/* This lane as the only one of a team, with its working memory: for functions that all lanes of a
 * team call together, when each lane has something of its own to do. */
struct lane lane_alone(const struct lane *lane);

/* This lane's share of 0..count-1, in whole grains; *begin == *end when there is none. */
void lane_share(const struct lane *lane, int count, int grain, int *begin, int *end);

/* Working memory of a lane, at least `size` bytes, aligned to MEM_ALIGN; what was there is lost
 * when it grows. The server reserves it at start; the trainer lets it grow, and lane_scratch ends
 * the program when memory ran out. */
int team_reserve(struct team *team, size_t size, struct err *err);
void *lane_scratch(struct lane *lane, size_t size);

#endif
