/* The products of quantised weights on AMX, for kernels.c. */
#ifndef MODEL_KERNELS_QUANT_AMX_H
#define MODEL_KERNELS_QUANT_AMX_H

#include <stdbool.h>

#include "model/kernels/kernels.h"

/* Asks the system for the matrix unit too; before threads start. */
bool amx_int8_available(void);
/* Puts its functions into a table that is that of kernels_vnni otherwise. */
void amx_int8_take(struct kernels *table);

#endif
