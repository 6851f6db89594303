/* See ranks.h. */
#include "train/ranks.h"

#include <stdlib.h>
#include <string.h>

static int count = 1, own;

int ranks_count(void)
{
    return count;
}

int ranks_own(void)
{
    return own;
}

/* What starts processes of MPI tells them how many they are. */
static bool started_by_mpi(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMI_SIZE");
}

#ifdef HEADWAY_MPI
#include <mpi.h>

#include "model/kernels/grad.h"

int ranks_init(struct err *err)
{
    int level;
    if (!started_by_mpi()) /* alone: nothing of MPI shall run */
        return 0;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) || level < MPI_THREAD_FUNNELED)
        return err_set(err, ERR_INVALID, "MPI could not be started for a program with threads");
    MPI_Comm_size(MPI_COMM_WORLD, &count);
    MPI_Comm_rank(MPI_COMM_WORLD, &own);
    return 0;
}

void ranks_release(bool failed)
{
    if (!started_by_mpi())
        return;
    if (failed)
        MPI_Abort(MPI_COMM_WORLD, 1);
    MPI_Finalize();
}

struct part {
    size_t at, n;
};

/* Of n values, what rank r adds up. */
static struct part part_of(size_t n, int r)
{
    size_t each = (n + (size_t)count - 1) / (size_t)count, at = each * (size_t)r;
    return (struct part){at, at >= n ? 0 : n - at < each ? n - at : each};
}

/* Each rank adds up one part, of which it gets all ranks' values, and gives the sum to all. A
 * reduction of MPI's own may add in any order. */
void ranks_sum(float *x, size_t n, float *work)
{
    struct part mine = part_of(n, own);
    if (count == 1)
        return;
    for (int r = 0; r < count; r++) {
        struct part p = part_of(n, r);
        MPI_Gather(x + p.at, (int)p.n, MPI_FLOAT, work, (int)p.n, MPI_FLOAT, r, MPI_COMM_WORLD);
    }
    memcpy(x + mine.at, work, mine.n * sizeof *x);
    for (int r = 1; r < count; r++)
        grad_kernels.add(work + (size_t)r * mine.n, mine.n, x + mine.at);
    for (int r = 0; r < count; r++) {
        struct part p = part_of(n, r);
        MPI_Bcast(x + p.at, (int)p.n, MPI_FLOAT, r, MPI_COMM_WORLD);
    }
}

long ranks_sum_long(long x)
{
    long sum = x;
    if (count > 1)
        MPI_Allreduce(&x, &sum, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    return sum;
}

#else

int ranks_init(struct err *err)
{
    return started_by_mpi()
               ? err_set(err, ERR_INVALID,
                         "this headway-train was built without MPI: install libopenmpi-dev, run "
                         "'make clean' and build it again, or start it without mpirun")
               : 0;
}

void ranks_release(bool failed)
{
    (void)failed;
}

void ranks_sum(float *x, size_t n, float *work)
{
    (void)x, (void)n, (void)work;
}

long ranks_sum_long(long x)
{
    return x;
}
#endif
