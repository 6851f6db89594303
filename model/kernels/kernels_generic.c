/* The kernels in plain C. */
#include "model/kernels/v16_generic.h"

#define KERNELS kernels_generic
#define KERNELS_NAME "generic"
#define KERNELS_QUANT quant_generic
#define TILE_ROWS 8
#define TILE_PANELS(rows) 1
#define ATTENTION_QUERIES 1

#include "model/kernels/kernels_body.h"
