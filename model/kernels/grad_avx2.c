/* The trainer's row kernels: see grad_body.h. */
#if defined(__x86_64__)
#include "model/kernels/v16_avx2.h"

#define KERNELS grad_avx2

#include "model/kernels/grad_body.h"
#endif
