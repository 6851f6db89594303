/* The kernel paths that this processor has, for tests that compare them. */
#ifndef TESTS_UNIT_PATHS_H
#define TESTS_UNIT_PATHS_H

#include <stdio.h>
#include <string.h>

#include "model/kernels/grad.h"
#include "model/kernels/kernels.h"

/* Generic first, the fastest last. */
static struct path {
    struct kernels k;
    struct grad_kernels g;
} paths[4];
static int n_paths;

/* Fills paths and says which; a cmocka group setup. Leaves the fastest in the global tables. */
static inline int find_paths(void **state)
{
    (void)state;
    static const char *const names[] = {"generic", "avx2", "avx512", "vnni"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct err err;
        if (kernels_init(names[i], &err))
            continue;
        grad_kernels_init();
        paths[n_paths++] = (struct path){kernels, grad_kernels};
        printf("%s%s", n_paths > 1 ? ", " : "on the paths ", names[i]);
    }
    printf("\n");
    return strcmp(paths[0].k.name, "generic") != 0;
}

#endif
