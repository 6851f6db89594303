/* The trainer's row kernels: see grad_body.h. */
#include "model/kernels/v16_generic.h"

#define KERNELS grad_generic

#include "model/kernels/grad_body.h"
