/* Lists and spreads. */
#include "tools/bench_numbers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int list_parse(struct list *list, const char *name, const char *text, int most, struct err *err)
{
    const char *at = text;
    list->n = 0;
    do {
        char *end;
        long value = strtol(at, &end, 10);
        if (end == at || value < 1 || value > most || list->n == LIST_MAX || (*end && *end != ','))
            return err_set(err, ERR_INVALID,
                           "--%s takes up to %d numbers from 1 to %d separated by commas, not '%s'",
                           name, LIST_MAX, most, text);
        list->values[list->n++] = (int)value;
        at = *end ? end + 1 : NULL;
    } while (at);
    return 0;
}

int list_largest(const struct list *list)
{
    int most = list->values[0];
    for (int i = 1; i < list->n; i++)
        most = list->values[i] > most ? list->values[i] : most;
    return most;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct spread spread_of(const double *values, int n)
{
    double sorted[REPEAT_MAX];
    assert(n >= 1 && n <= REPEAT_MAX);
    memcpy(sorted, values, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    double middle = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
    return (struct spread){middle, sorted[0], sorted[n - 1]};
}
