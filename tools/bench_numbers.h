/* Numbers of the bench: lists of them as options give them, and what remains of repeated
 * measurements. For headway-bench's files; one thread. */
#ifndef TOOLS_BENCH_NUMBERS_H
#define TOOLS_BENCH_NUMBERS_H

#include "base/err.h"

#define LIST_MAX 16
#define REPEAT_MAX 64

struct list {
    int n; /* 1..LIST_MAX */
    int values[LIST_MAX];
};

/* "1,4,16", the value of --NAME, each from 1 to `most`, to a list. ERR_INVALID. */
int list_parse(struct list *list, const char *name, const char *text, int most, struct err *err);
int list_largest(const struct list *list);

struct spread {
    double median, min, max;
};

/* Of values[0..n-1], n from 1 to REPEAT_MAX. */
struct spread spread_of(const double *values, int n);

#endif
