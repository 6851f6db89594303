/* The trainer's row kernels follow the choice of kernels_init. */
#include "model/kernels/grad.h"

#include <string.h>

#include "model/kernels/kernels.h"

struct grad_kernels grad_kernels;

void grad_kernels_init(void)
{
    grad_kernels = grad_generic;
#if defined(__x86_64__)
    if (!strcmp(kernels.name, "avx2"))
        grad_kernels = grad_avx2;
    if (!strcmp(kernels.name, "avx512"))
        grad_kernels = grad_avx512;
#endif
}
