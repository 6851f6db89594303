/* Threads and barriers of the compute team. */
#include "model/team.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpus.h"
#include "base/log.h"
#include "base/mem.h"

/* 50 to 200 microseconds, as long as a pause takes: longer than what lane 0 does between two passes
 * of a small model, much shorter than a time slice. */
#define SPINS 4000

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Waits until *at has come to `count`, spinning. Whether it has. */
static bool spin(const struct team *team, _Atomic unsigned *at, unsigned count)
{
    for (int i = 0; i < team->spins; i++) {
        if ((int)(atomic_load_explicit(at, memory_order_acquire) - count) >= 0)
            return true;
        relax();
    }
    return false;
}

static void futex_wait(_Atomic unsigned *at, unsigned value)
{
    syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic unsigned *at)
{
    syscall(SYS_futex, at, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Waits until *round has come to `count`: first spinning, then sleeping in the kernel. */
static void round_wait(struct team *team, _Atomic unsigned *round, unsigned count)
{
    unsigned now;
    if (spin(team, round, count))
        return;
    double start = clock_seconds();
    atomic_fetch_add(&team->sleepers, 1);
    while ((int)((now = atomic_load(round)) - count) < 0)
        futex_wait(round, now);
    atomic_fetch_sub(&team->sleepers, 1);
    atomic_fetch_add(&team->lost, (unsigned long)((clock_seconds() - start) * 1e9));
}

/* A dissemination barrier: in round i a lane tells the lane 2^i after it that it is there, and with
 * it all whom it has heard of, and waits for the lane 2^i before it. Two lanes need one round, in
 * which each writes one line and reads one. */
void lane_barrier(struct lane *lane)
{
    struct team *team = lane->team;
    struct meeting *own = &team->meetings[lane->id];
    if (lane->n == 1)
        return;
    own->count++;
    for (int i = 0, step = 1; step < lane->n; i++, step *= 2) {
        atomic_store(&own->round[i], own->count);
        if (atomic_load(&team->sleepers))
            futex_wake(&own->round[i]);
        int before = (lane->id + lane->n - step) % lane->n;
        round_wait(team, &team->meetings[before].round[i], own->count);
    }
}

/* A worker waits until it is wanted. It may have been left out of runs before this one. */
static void call_wait(struct team *team, struct call *call, unsigned last)
{
    if (spin(team, &call->run, last + 1))
        return;
    atomic_store(&call->sleeps, 1);
    while (atomic_load(&call->run) == last)
        futex_wait(&call->run, last);
    atomic_store(&call->sleeps, 0);
}

static void *worker(void *arg)
{
    struct lane *lane = arg;
    struct team *team = lane->team;
    struct call *call = &team->calls[lane->id];
    pthread_mutex_lock(&team->start);
    bool complete = team->complete;
    pthread_mutex_unlock(&team->start);
    for (unsigned last = 0; complete;) {
        call_wait(team, call, last);
        last = atomic_load(&call->run);
        if (atomic_load(&team->stop))
            break;
        lane->n = team->lanes_of_run;
        team->meetings[lane->id].count = team->count;
        team->fn(lane, team->arg);
        lane_barrier(lane);
    }
    return NULL;
}

/* Calls the workers of a run of n lanes. */
static void call_workers(struct team *team, int n)
{
    team->run++;
    team->lanes_of_run = team->lanes[0].n = n;
    team->count = team->meetings[0].count;
    for (int i = 1; i < n; i++) {
        atomic_store(&team->calls[i].run, team->run);
        if (atomic_load(&team->calls[i].sleeps))
            futex_wake(&team->calls[i].run);
    }
}

int team_init(struct team *team, int n, struct err *err)
{
    memset(team, 0, sizeof *team);
    int cores = cpus_allowed();
    if (n == 0)
        n = cores;
    if (n > TEAM_MAX)
        n = TEAM_MAX;
    team->n = n;
    pace_init(&team->pace, n);
    /* A lane that spins where there are fewer cores than lanes keeps out the one it waits for. */
    team->spins = n > cores ? 0 : SPINS;
    for (int i = 0; i < n; i++)
        team->lanes[i] = (struct lane){.team = team, .id = i, .n = n};
    pthread_mutex_init(&team->start, NULL);
    pthread_mutex_lock(&team->start);
    int rc = 0, made = 1;
    for (; made < n && !rc; made += !rc)
        rc = pthread_create(&team->threads[made], NULL, worker, &team->lanes[made]);
    team->complete = !rc;
    pthread_mutex_unlock(&team->start);
    if (!rc)
        return 0;
    for (int i = 1; i < made; i++)
        pthread_join(team->threads[i], NULL);
    memset(team, 0, sizeof *team);
    return err_set(err, ERR_IO, "thread %d of %d could not be started (%s): use --threads %d",
                   made + 1, n, strerror(rc), made);
}

void team_release(struct team *team)
{
    if (team->n > 1) {
        atomic_store(&team->stop, true);
        call_workers(team, team->n);
        for (int i = 1; i < team->n; i++)
            pthread_join(team->threads[i], NULL);
    }
    for (int i = 0; i < TEAM_MAX; i++)
        free(team->lanes[i].scratch);
    memset(team, 0, sizeof *team);
}

static void run_lanes(struct team *team, int n, void (*fn)(struct lane *lane, void *arg), void *arg)
{
    team->fn = fn;
    team->arg = arg;
    call_workers(team, n);
    fn(&team->lanes[0], arg);
    lane_barrier(&team->lanes[0]);
}

void team_run(struct team *team, void (*fn)(struct lane *lane, void *arg), void *arg)
{
    run_lanes(team, team->n, fn, arg);
}

void team_run_sized(struct team *team, double size, void (*fn)(struct lane *lane, void *arg),
                    void *arg)
{
    double start = clock_seconds();
    atomic_store(&team->lost, 0);
    run_lanes(team, team->pace.lanes, fn, arg);
    if (team->n > 1 && size > 0)
        pace_note(&team->pace, clock_seconds() - start, size,
                  (double)atomic_load(&team->lost) / 1e9);
}

struct lane lane_alone(const struct lane *lane)
{
    static struct team one = {.n = 1}; /* never written: alone there is nobody to wait for */
    return (struct lane){
        .team = &one, .n = 1, .scratch = lane->scratch, .scratch_size = lane->scratch_size};
}

void lane_share(const struct lane *lane, int count, int grain, int *begin, int *end)
{
    long grains = (count + grain - 1) / grain;
    long from = grains * lane->id / lane->n * grain, to = grains * (lane->id + 1) / lane->n * grain;
    *begin = (int)(from < count ? from : count);
    *end = (int)(to < count ? to : count);
}

static bool grow(struct lane *lane, size_t size)
{
    if (size > lane->scratch_size) {
        free(lane->scratch);
        lane->scratch = mem_alloc(size);
        lane->scratch_size = lane->scratch ? size : 0;
    }
    return lane->scratch_size >= size;
}

int team_reserve(struct team *team, size_t size, struct err *err)
{
    for (int i = 0; i < team->n; i++)
        if (!grow(&team->lanes[i], size))
            return err_set(err, ERR_MEMORY, "no memory for %d threads to work in", team->n);
    return 0;
}

void *lane_scratch(struct lane *lane, size_t size)
{
    if (!grow(lane, size)) {
        log_error("%zu MiB of working memory could not be had: use a smaller batch or context",
                  size >> 20);
        abort();
    }
    return lane->scratch;
}
