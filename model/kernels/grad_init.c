/* The trainer's row kernels follow the choice of kernels_init. */
#include "model/kernels/grad.h"

#include <string.h>

#include "model/kernels/kernels.h"

struct grad_kernels grad_kernels;

void grad_kernels_init(void)
{
#if defined(__x86_64__)
    if (!strcmp(kernels.name, "avx2"))
        grad_kernels = grad_avx2;
    else if (strcmp(kernels.name, "generic") != 0) /* avx512, and what adds to it */
        grad_kernels = grad_avx512;
    else
#endif
        grad_kernels = grad_generic;
}
